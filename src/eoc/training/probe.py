"""Measures the curvature of a module's training loss at its present weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from eoc.data import chunks
from eoc.data.subsets import LARGEST_SEED
from eoc.dynamics.curvature import (
    CriticalSharpness,
    CurvatureTracker,
    Eigenpairs,
    HessianOperator,
    InputSpan,
    PerceptronHessian,
    critical_sharpness,
    input_span,
)
from eoc.dynamics.curvature.arguments import Batch
from eoc.dynamics.curvature.operator import finite
from eoc.dynamics.curvature.search import ROUNDINGS
from eoc.errors import InvalidInput, choice, integer, optional, real

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule

LOWER = {"bfloat16": torch.bfloat16}  # precisions of autocast and scout
COARSE = 1e-2  # a residual cannot be asked to fall below the rounding of such products
# By the module and the number of examples, for all of its probes: to find a span takes about a second.
_SPANS: WeakKeyDictionary[EdgeOfChaosModule, dict[int | None, InputSpan | None]] = WeakKeyDictionary()


class CurvatureProbe:
    """The k largest eigenvalues of D^½·H·D^½ at the present weights, warm-started from the last probe.

    H is the Hessian of the mean loss over the training examples, D = diag(g_k) the learning-rate metric. For a
    schedule that asks for it, it measures the critical sharpness along D times the gradient instead. The processes of
    a data-parallel run share the examples of every product; the products, and so all that follows, are alike in all.

    Args:
        k: how many eigenvalues, largest algebraic first.
        tolerance: bound on the error of each relative to the largest, from its residual.
        guards: further directions followed but not reported, for close eigenvalues.
        caution: how many times its residual a guard must lie below the reported; 0 trusts a second-order estimate.
        autocast: "bfloat16" for products in that precision, see `HessianOperator`; with a tolerance of 1e-2 or more.
        scout: "bfloat16" to search in that precision, and to improve in full precision what is found; see
            `CurvatureTracker.probe`.
        max_products: budget of Hessian-vector products for one probe.
        examples: measure on the first so many training examples; null for all.
        chunk_size: examples that are held in one gradient graph; null for all at once.
        critical_tolerance: relative width of the bracket around the critical rate.
        seed: of the first start vectors.
    """

    def __init__(
        self,
        k: int = 1,
        tolerance: float = 1e-3,
        guards: int = 1,
        caution: float = 0.0,
        autocast: str | None = None,
        scout: str | None = None,
        max_products: int = 200,
        examples: int | None = None,
        chunk_size: int | None = None,
        critical_tolerance: float = 0.05,
        seed: int = 0,
    ) -> None:
        integer("seed", seed, 0, LARGEST_SEED)
        coarse = optional(choice, "autocast", autocast, LOWER) is not None
        if coarse and real("tolerance", tolerance, above=0) < COARSE:
            raise InvalidInput("tolerance", tolerance, f"with autocast={autocast} it must be at least {COARSE:g}")
        if optional(choice, "scout", scout, LOWER) is not None and coarse:
            raise InvalidInput("scout", scout, f"with autocast={autocast} all products are in that precision")
        self.autocast, self.scout = LOWER.get(autocast or ""), LOWER.get(scout or "")
        self.tracker = CurvatureTracker(
            k=k, tolerance=tolerance, guards=guards, max_products=max_products, seed=seed, caution=caution
        )
        self.examples = optional(integer, "examples", examples, minimum=1)
        self.chunk_size = optional(integer, "chunk_size", chunk_size, minimum=1)
        self.critical_tolerance = real("critical_tolerance", critical_tolerance, above=0.0)
        self.milliseconds = 0.0
        self.critical_rate: float | None = None  # the last one, where the next search begins
        self.last: Eigenpairs | None = None
        self._last_step = -1

    def check(self, module: EdgeOfChaosModule) -> None:
        """Refuse, before the first step, what data, precision or the number of processes do not allow."""
        self._operator(module, self.autocast or self.scout)
        dtype = module.network.weights[0].dtype
        if self.tracker.tolerance < (finest := ROUNDINGS * torch.finfo(dtype).eps):
            rule = f"in {str(dtype).removeprefix('torch.')} it must be at least {finest:.2g}, the rounding of products"
            raise InvalidInput("curvature.tolerance", self.tracker.tolerance, rule)

    def measure(self, module: EdgeOfChaosModule) -> Eigenpairs:
        """Probe ``module`` at its present weights, once a step; `NonFiniteCurvature` where they have blown up."""
        if self.last is not None and self._last_step == module.step:
            return self.last
        span = self._span_of(module)
        start = time.perf_counter()
        operator = self._operator(module, self.autocast, span)
        scout = None if self.scout is None else self._operator(module, self.scout, span)
        if self.tracker.size != operator.size:  # a checkpoint's, of other examples
            self.tracker.forget()
        self.last, self._last_step = self.tracker.probe(operator, scout), module.step
        self.milliseconds = 1e3 * (time.perf_counter() - start)
        return self.last

    def operator(self, module: EdgeOfChaosModule) -> HessianOperator:
        """Return D^½·H·D^½ of ``module``, whose products are taken at its weights at the time."""
        return self._operator(module, self.autocast)

    def _span_of(self, module: EdgeOfChaosModule) -> InputSpan | None:
        """Return the space of the inputs, which stay the same, where all of them are multiplied in one process."""
        batches = self._batches(module)
        if len(batches) > 1 or module.trainer.world_size > 1:
            return None
        known = _SPANS.setdefault(module, {})
        if self.examples not in known:
            known[self.examples] = input_span(batches[0][0])
        return known[self.examples]

    def _operator(
        self, module: EdgeOfChaosModule, autocast: torch.dtype | None, span: InputSpan | None = None
    ) -> HessianOperator:
        weights, metric = list(module.network.weights), module.network.rates
        share, reduce = _share(module, self.examples or len(module.dataset.train_inputs))
        if autocast is not None and weights[0].dtype != torch.float32:
            key = "curvature.autocast" if self.scout is None else "curvature.scout"
            raise InvalidInput(key, "bfloat16", "it needs trainer.precision=32-true")
        batches = self._batches(module, share)
        return PerceptronHessian(module.network, module.loss, batches, metric, reduce, autocast, span)

    def measure_critical(self, module: EdgeOfChaosModule) -> CriticalSharpness:
        """Return the critical sharpness of ``module``, along the gradient-descent update of its training loss.

        Raises:
            NonFiniteCurvature: the gradient holds NaN or infinity.
        """
        start = time.perf_counter()
        weights, batches = list(module.network.weights), self._batches(module)
        value, gradient = _loss_and_gradient(module, weights, batches)
        direction = [factor * finite(slope) for factor, slope in zip(module.network.rates, gradient, strict=True)]
        guess = self.critical_rate
        if guess is None:
            # A parabola that stays above 0 is back at its start by 4 loss / slope: begin well below, since beyond the
            # first rise the loss may fall again, to that of a dead network.
            slope = sum(float((d.double() * g).sum()) for d, g in zip(direction, gradient, strict=True))
            guess = value / (4 * slope) if value > 0 and slope > 0 else 1.0
        found = critical_sharpness(
            module.loss_of, weights, direction, batches, guess, tolerance=self.critical_tolerance
        )
        if 0 < found.rate < math.inf:
            self.critical_rate = found.rate
        self.milliseconds = 1e3 * (time.perf_counter() - start)
        return found

    def _batches(self, module: EdgeOfChaosModule, share: slice = slice(None)) -> Sequence[Batch]:
        data = module.dataset
        if self.examples is not None and self.examples > len(data.train_inputs):
            rule = f"the training part has {len(data.train_inputs)} examples"
            raise InvalidInput("curvature.examples", self.examples, rule)
        inputs, targets = data.train_inputs[: self.examples], data.train_targets[: self.examples]
        return chunks(inputs[share], targets[share], self.chunk_size)

    def state_dict(self) -> dict[str, Any]:
        """Return what the next probe starts from."""
        return {"tracker": self.tracker.state_dict(), "critical_rate": self.critical_rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.tracker.load_state_dict(state["tracker"])
        self.critical_rate = state["critical_rate"]


def complain(module: EdgeOfChaosModule, pairs: Eigenpairs, prefix: str = "hessian/") -> None:
    """Write down that a probe ended before its tolerance, and say so once a run."""
    if pairs.converged:
        return
    module.metrics[f"{prefix}converged"] = 0
    if prefix in module.complaints:
        return
    module.complaints.add(prefix)
    largest = abs(pairs.values[0].item())
    residual = pairs.residuals.max().item() / (largest or 1.0)
    rank_zero_warn(
        f"step {module.step}: {'λ is' if prefix == 'hessian/' else 'the top eigenvalues are'} not known to "
        f"curvature.tolerance after {pairs.products} products (relative residual {residual:.1e}); raise "
        "curvature.max_products, or, if the loss is down to rounding, take trainer.precision=64-true "
        f"(said once: {prefix}converged is 0 wherever it is so)"
    )


def _share(module: EdgeOfChaosModule, examples: int) -> tuple[slice, Callable[[Tensor], None] | None]:
    """Return which examples are this process's, and what makes a mean over them one over those of all processes."""
    trainer = module.trainer
    if trainer.world_size == 1:
        return slice(None), None
    if examples < trainer.world_size:
        rule = f"it must be an integer of at least {trainer.world_size}, one for each process"
        raise InvalidInput("curvature.examples", examples, rule)
    start, stop = (examples * (trainer.global_rank + end) // trainer.world_size for end in (0, 1))

    def reduce(product: Tensor) -> None:
        product *= (stop - start) / examples
        product.copy_(trainer.strategy.reduce(product, reduce_op="sum"))

    return slice(start, stop), reduce


def _loss_and_gradient(
    module: EdgeOfChaosModule, weights: list[Tensor], batches: Sequence[Batch]
) -> tuple[float, list[Tensor]]:
    """Return the mean loss over all batches, and its gradient."""
    value, gradient = 0.0, [torch.zeros_like(weight) for weight in weights]
    total = sum(len(inputs) for inputs, _ in batches)
    for inputs, targets in batches:
        share = len(inputs) / total
        with torch.enable_grad():
            loss = module.loss_of(inputs, targets)
            parts = torch.autograd.grad(loss, weights)
        value += share * loss.item()
        for mean, part in zip(gradient, parts, strict=True):
            mean += share * part
    return value, gradient
