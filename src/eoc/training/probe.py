"""Measures the sharpness of a module's training loss at its present weights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from eoc.data import chunks
from eoc.data.subsets import LARGEST_SEED
from eoc.dynamics.curvature import CurvatureTracker, Eigenpairs, HessianOperator
from eoc.errors import InvalidInput, integer

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class CurvatureProbe:
    """The k largest eigenvalues of D^½·H·D^½ at the present weights, warm-started from the last probe.

    H is the Hessian of the mean loss over the training examples, D = diag(g_k) the learning-rate metric.

    Args:
        k: how many eigenvalues, largest algebraic first.
        tolerance: bound on the error of each relative to the largest, from its residual.
        guards: further directions followed but not reported, for close eigenvalues.
        max_products: budget of Hessian-vector products for one probe.
        examples: measure on the first so many training examples; null for all.
        chunk_size: examples that are held in one gradient graph; null for all at once.
        seed: of the first start vectors.
    """

    def __init__(
        self,
        k: int = 1,
        tolerance: float = 1e-3,
        guards: int = 2,
        max_products: int = 200,
        examples: int | None = None,
        chunk_size: int | None = None,
        seed: int = 0,
    ) -> None:
        integer("seed", seed, 0, LARGEST_SEED)
        self.tracker = CurvatureTracker(k=k, tolerance=tolerance, guards=guards, max_products=max_products, seed=seed)
        self.examples = None if examples is None else integer("examples", examples, minimum=1)
        self.chunk_size = None if chunk_size is None else integer("chunk_size", chunk_size, minimum=1)
        self.milliseconds = 0.0
        self.last: Eigenpairs | None = None
        self._last_step = -1

    def measure(self, module: EdgeOfChaosModule) -> Eigenpairs:
        """Probe ``module`` at its present weights, once a step; `NonFiniteCurvature` where they have blown up."""
        if self.last is not None and self._last_step == module.step:
            return self.last
        start = time.perf_counter()
        data = module.dataset
        if self.examples is not None and self.examples > len(data.train_inputs):
            rule = f"the training part has {len(data.train_inputs)} examples"
            raise InvalidInput("curvature.examples", self.examples, rule)
        operator = HessianOperator(
            module.loss_of,
            list(module.network.weights),
            chunks(data.train_inputs[: self.examples], data.train_targets[: self.examples], self.chunk_size),
            metric=module.network.rates,
        )
        self.last, self._last_step = self.tracker.probe(operator), module.step
        self.milliseconds = 1e3 * (time.perf_counter() - start)
        return self.last

    def state_dict(self) -> dict[str, Any]:
        """Return the vectors that the next probe starts from."""
        return self.tracker.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.tracker.load_state_dict(state)
