"""Products with the Hessian of a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from eoc.dynamics.curvature.arguments import Batch
from eoc.dynamics.curvature.derivatives import Parts, differentiated, reaching, scalar, transposed
from eoc.dynamics.curvature.operator import ParameterOperator
from eoc.errors import InvalidInput

Loss = Callable[[Any, Any], Tensor]
_LAUNCHES = 1 << 32  # parameters times examples up to which several vectors go through a GPU in one pass
_TOGETHER = 8  # vectors in one pass: each takes the memory of a backward pass


class HessianOperator(ParameterOperator):
    """Products with the Hessian of the mean loss over all batches: A_c = d^2 loss_c / d theta^2.

    Args:
        loss: ``loss(inputs, targets)``, the scalar *mean* loss over the examples of a chunk, a twice differentiable
            function of ``parameters``.
        parameters: see `ParameterOperator`, as for the other arguments and attributes.
        batches: chunks of (inputs, targets).
        metric: learning-rate factors.
        reduce: averages over processes.
        module: whose buffers are put back.
        autocast: evaluate the loss in this lower precision, as `torch.autocast` does: with ``torch.bfloat16`` in a
            third to three fifths of the time on CPUs made for it. A product is then right to about a per cent of the
            largest eigenvalue, which is itself right to 3e-3: ask for residuals of 1e-2, not less.

    Raises:
        InvalidInput: ``autocast`` is asked of float64 parameters, or is no lower precision.

    Source: Pearlmutter, "Fast exact multiplication by the Hessian" (1994), by differentiating the gradient.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Iterable[Tensor],
        batches: Iterable[Batch],
        metric: Sequence[float | Tensor] | None = None,
        reduce: Callable[[Tensor], None] | None = None,
        module: nn.Module | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(parameters, batches, metric, reduce, module)
        self._loss, self._autocast = loss, autocast
        self._metric = None if metric is None else list(metric)
        self._may_batch = True
        self._longest = max(self._lengths)
        if autocast not in (None, torch.bfloat16, torch.float16):
            raise InvalidInput("autocast", autocast, "it must be torch.bfloat16, torch.float16 or None")
        if autocast is not None and self.dtype != torch.float32:
            raise InvalidInput("autocast", autocast, f"it is for parameters of float32, these are of {self.dtype}")

    def block(self, indices: Sequence[int]) -> HessianOperator:
        """Return the operator on these parameters alone, the others held fixed: a diagonal block of A.

        Args:
            indices: of parameters in the order in which they were given, from 0.

        Raises:
            InvalidInput: there are none, one is listed twice or is out of range.
        """
        if not all(0 <= i < len(self._parameters) for i in indices):
            raise InvalidInput("indices", list(indices), f"they must lie between 0 and {len(self._parameters) - 1}")
        metric = None if self._metric is None else [self._metric[i] for i in indices]
        parameters = [self._parameters[i] for i in indices]
        return HessianOperator(
            self._loss, parameters, self._batches, metric, self._reduce, self._module, self._autocast
        )

    def gradient(self) -> list[Tensor]:
        """Return the loss's gradient at the present weights from the graph that serves the products.

        A full-batch training step that takes it from here saves a gradient. Only with a single chunk; of several
        processes it is this one's, ``reduce`` has no part in it.

        Raises:
            InvalidInput: there are several chunks, whose graphs are not kept, or they are of lower precision.
        """
        if self._autocast is not None:
            raise InvalidInput("autocast", self._autocast, "its gradient is not that of a training step")
        if len(self._lengths) != 1:
            raise InvalidInput("batches", len(self._lengths), "the gradient is at hand with a single chunk only")
        with torch.inference_mode(False):
            parts = zip(self._derivatives(self._single_graph()), self._parameters, strict=True)
            return [torch.zeros_like(p) if g is None else g.detach().clone() for g, p in parts]

    def _build(self, batch: Batch) -> Any:
        coarse = nullcontext() if self._autocast is None else torch.autocast(self.device.type, self._autocast)
        with coarse:
            loss = scalar(self._loss(*batch))
        return reaching(differentiated(loss, self._parameters))

    def _derivatives(self, graph: Any) -> Parts:
        """Return the gradient of a chunk."""
        parts: Parts = graph
        return parts

    def _apply(self, graph: Any, direction: Sequence[Tensor], *, together: bool = False) -> Parts:
        return transposed(graph, self._parameters, direction, together=together)

    def _waits(self) -> bool:
        """Whether a pass is so short that a GPU waits to be told what to do."""
        return self.device.type == "cuda" and self.size * self._longest <= _LAUNCHES

    def _apply_all(self, graph: Any, directions: list[list[Tensor]]) -> Iterator[Parts]:
        for start in range(0, len(directions), _TOGETHER):
            some = directions[start : start + _TOGETHER]
            yield from self._in_one_pass(graph, some) or super()._apply_all(graph, some)

    def _in_one_pass(self, graph: Any, directions: list[list[Tensor]]) -> list[Parts] | None:
        """Return the products, or None where there is nothing to gain, or no memory or rule for it."""
        if len(directions) == 1 or not self._may_batch or not self._waits():
            return None
        try:
            stacked = [torch.stack(parts) for parts in zip(*directions, strict=True)]
            together = self._apply(graph, stacked, together=True)
        except RuntimeError:  # not every operation of a module has a rule for several vectors
            self._may_batch = False
            return None
        return list(zip(*([None] * len(directions) if part is None else part for part in together), strict=True))
