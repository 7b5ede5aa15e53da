"""Products with the generalized Gauss-Newton matrix and with the tangent kernel's Gram matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eoc.dynamics.curvature.arguments import Batch, checked_vectors
from eoc.dynamics.curvature.derivatives import (
    Parts,
    differentiated,
    exact_arithmetic,
    reaching,
    scalar,
    transposed,
)
from eoc.dynamics.curvature.hessian import Loss
from eoc.dynamics.curvature.operator import ParameterOperator, finite
from eoc.errors import InvalidInput

Model = Callable[[Tensor], Tensor]


class _Linearization(NamedTuple):
    """A chunk's outputs f, the graph of u -> J^T u, and the gradient of the loss in the outputs' copy z."""

    outputs: Tensor
    probe: Tensor
    pulled: Parts
    copy: Tensor
    slope: Tensor | None


class GaussNewtonOperator(ParameterOperator):
    """Products with the generalized Gauss-Newton matrix of the mean loss: A_c = J_c^T (d^2 loss_c / d f^2) J_c.

    J is the Jacobian of the outputs f in the parameters. It is the Hessian less the term with the outputs' second
    derivatives, positive semidefinite for a loss convex in f, and costs a CPU four fifths of a Hessian product.

    Args:
        model: ``model(inputs)``, the outputs, a twice differentiable function of ``parameters``.
        loss: ``loss(outputs, targets)``, the scalar *mean* loss over the examples of a chunk.
        parameters: see `ParameterOperator`, as for the other arguments and attributes.
        batches: chunks of (inputs, targets).
        metric: learning-rate factors.
        reduce: averages over processes.
        module: whose buffers are put back.

    Source: Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent" (2002); J v is the
    derivative of u -> J^T u, so that no forward-mode differentiation is needed.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        parameters: Iterable[Tensor],
        batches: Iterable[Batch],
        metric: Sequence[float | Tensor] | None = None,
        reduce: Callable[[Tensor], None] | None = None,
        module: nn.Module | None = None,
    ) -> None:
        super().__init__(parameters, batches, metric, reduce, module)
        self._model, self._loss = model, loss

    def _build(self, batch: Batch) -> _Linearization:
        inputs, targets = batch
        outputs = _single(self._model(inputs))
        probe = torch.zeros_like(outputs, requires_grad=True)
        copy = outputs.detach().requires_grad_()
        (slope,) = differentiated(scalar(self._loss(copy, targets)), [copy])
        pulled = reaching(differentiated(outputs, self._parameters, probe))
        return _Linearization(outputs, probe, pulled, copy, slope)

    def _apply(self, graph: _Linearization, direction: Sequence[Tensor]) -> Parts:
        (pushed,) = transposed(graph.pulled, [graph.probe], direction)
        nothing = (None,) * len(self._parameters)
        if pushed is None:
            return nothing
        (curved,) = transposed([graph.slope], [graph.copy], [pushed])
        return nothing if curved is None else transposed([graph.outputs], self._parameters, [curved])


class TangentKernelOperator(ParameterOperator):
    """Products with the neural tangent kernel's Gram matrix over all examples, K = J D J^T / n.

    Its rows are (example, output) pairs, in the order of the batches; D is the learning rates' metric. For the loss
    1/(2n) sum_i ||f(x_i) - y_i||^2 its non-zero eigenvalues are those of the Gauss-Newton matrix.

    Args:
        model: ``model(inputs)``, outputs of shape (examples, ...).
        parameters: see `ParameterOperator`, as for the other arguments.
        batches: chunks of (inputs, targets); the targets are not used.
        metric: learning-rate factors.
        module: whose buffers are put back.

    Attributes:
        size: number of examples times outputs.

    Source: Jacot, Gabriel, Hongler, "Neural tangent kernel", arXiv:1806.07572.
    """

    def __init__(
        self,
        model: Model,
        parameters: Iterable[Tensor],
        batches: Iterable[Batch],
        metric: Sequence[float | Tensor] | None = None,
        module: nn.Module | None = None,
    ) -> None:
        super().__init__(parameters, batches, metric, module=module)
        self._model = model
        first = self._built(next(iter(self._batches))).outputs
        if not first.ndim or (len(self._lengths) > 1 and len(first) != self._lengths[0]):
            raise InvalidInput("model", tuple(first.shape), "its outputs must have one row for each example")
        self._lengths = [len(first)] if len(self._lengths) == 1 else self._lengths
        self._examples, self._outputs = sum(self._lengths), first[0].numel()
        self.size = self._examples * self._outputs

    @torch.inference_mode(False)
    def __call__(self, vectors: Float[Tensor, "k size"]) -> Float[Tensor, "k size"]:
        """Return K u for every row u of ``vectors``; see `ParameterOperator`."""
        pieces = checked_vectors(vectors, self.size).detach().split([n * self._outputs for n in self._lengths], dim=1)
        self.products += len(vectors)
        with exact_arithmetic(self.device):
            pulled = torch.zeros(len(vectors), sum(self._sizes), dtype=torch.float64, device=self.device)
            for (batch, _), piece in zip(self._chunks(), pieces, strict=True):
                pulled += self._pulled(self._graph_of(batch), piece)
            directions = [self._split(row) for row in pulled.to(self.dtype)]
            pushed = [self._pushed(self._graph_of(batch), directions) for batch, _ in self._chunks()]
            return finite(torch.cat(pushed, dim=1) / self._examples)

    def _graph_of(self, batch: Batch) -> _Linearization:
        return self._single_graph() if len(self._lengths) == 1 else self._built(batch)

    def _build(self, batch: Batch) -> _Linearization:
        outputs = _single(self._model(batch[0]))
        probe = torch.zeros_like(outputs, requires_grad=True)
        pulled = reaching(differentiated(outputs, self._parameters, probe))
        return _Linearization(outputs, probe, pulled, outputs, None)

    def _apply(self, graph: _Linearization, direction: Sequence[Tensor]) -> Parts:
        return transposed([graph.outputs], self._parameters, direction)

    def _pulled(self, graph: _Linearization, rows: Tensor) -> Tensor:
        return self._rows(graph, [[row.view_as(graph.outputs)] for row in rows])

    def _pushed(self, graph: _Linearization, directions: list[list[Tensor]]) -> Tensor:
        rows = [transposed(graph.pulled, [graph.probe], direction)[0] for direction in directions]
        zero = torch.zeros_like(graph.probe).detach()
        return torch.stack([(zero if row is None else row).reshape(-1) for row in rows])


def _single(outputs: object) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise InvalidInput("model", type(outputs).__name__, "it must return a single tensor, its outputs")
    return outputs
