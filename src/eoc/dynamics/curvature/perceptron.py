"""Products with the Hessian of an MLP's loss by formulas written out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.dynamics.curvature.arguments import Batch, checked_vectors
from eoc.dynamics.curvature.derivatives import Parts, differentiated, reaching, scalar, transposed
from eoc.dynamics.curvature.hessian import HessianOperator
from eoc.dynamics.curvature.span import InputSpan
from eoc.errors import InvalidInput
from eoc.model import MLP

_AT_ONCE = 384  # terms that MKL sums at once: of more, a sum that goes on from another has other last digits


@dataclass
class _Passes:
    """What a forward and a backward pass leave: h_k = c_k A_k x_(k-1), x_k = phi(h_k), one entry a layer k.

    In a lower precision c_k goes with the weights instead, before they are rounded.
    """

    weights: list[Tensor]  # A_k
    inputs: Tensor  # x_0
    features: list[Tensor]  # x_(k-1), (examples, fan_in); x_0 in the span's coordinates, if there is one
    slopes: list[Tensor]  # c_k phi'(h_k) of the hidden layers
    errors: list[Tensor]  # c_k d loss / d h_k, (examples, fan_out)
    outputs: Tensor  # h_l
    output_slope: Tensor  # d loss / d h_l, differentiable by ``outputs`` unless the loss is linear in them


class PerceptronHessian(HessianOperator):
    """`HessianOperator` for an `eoc.model.MLP`: the same products, in some nine tenths of the time or less.

    A product takes one pass forward and one back, of two matrix products a layer each, and two for the weights:

        R h_k = c_k (A_k R x_(k-1) + V_k x_(k-1)),              R x_k = phi'(h_k) R h_k
        R g_(k-1) = phi'(h_(k-1)) c_k (A_k^T R g_k + V_k^T g_k),    (H V)_k = c_k (R g_k x_(k-1)^T + g_k R x_(k-1)^T)

    with g_k = d loss / d h_k, R x_0 = 0 and R g_l = (d^2 loss / d h_l^2) R h_l, the last by differentiating the loss
    of the outputs alone. phi is piecewise linear: phi'' = 0. Sums are taken in the order in which PyTorch's graphs take
    them: to rounding the results are the same.

    Args:
        network: all of its weights are the parameters.
        loss: ``loss(outputs, targets)``, the scalar *mean* loss over the examples of a chunk.
        batches: see `ParameterOperator`, as for the other arguments and attributes.
        metric: learning-rate factors.
        reduce: averages over processes.
        autocast: take the passes in this lower precision, the loss of the outputs and the sums of two products in
            that of the parameters; see `HessianOperator`.
        span: the space that the inputs span, see `input_span`: the first layer's part of a vector is then in its
            coordinates, which are fewer (so is ``size``); the eigenvalues are the same but for zeros.

    Raises:
        InvalidInput: ``network`` is of another class, whose formulas are its own; ``autocast`` as in `HessianOperator`;
            a span of other inputs, with several chunks or processes, or with a first factor of ``metric`` that is no
            number.

    Source: Pearlmutter, "Fast exact multiplication by the Hessian" (1994), the R-operator.
    """

    def __init__(
        self,
        network: MLP,
        loss: Callable[[Tensor, Tensor], Tensor],
        batches: Iterable[Batch],
        metric: Sequence[float | Tensor] | None = None,
        reduce: Callable[[Tensor], None] | None = None,
        autocast: torch.dtype | None = None,
        span: InputSpan | None = None,
    ) -> None:
        if type(network) is not MLP:
            rule = "it must be an eoc.model.MLP itself, no other class; HessianOperator takes any module"
            raise InvalidInput("network", type(network).__name__, rule)
        super().__init__(lambda x, y: loss(network(x), y), network.weights, batches, metric, reduce, autocast=autocast)
        self._phi, self._loss_of_outputs, self._lower = network.phi, loss, autocast
        self._precision = autocast or self.dtype
        self._factors = network.forward_factors if autocast is None else (1.0,) * len(network.weights)
        self._with_weights = network.forward_factors
        self._span = span
        if span is not None:
            self._check_span(span)
            shapes = [weight.shape for weight in network.weights]
            self._give_shapes([torch.Size((shapes[0][0], len(span.basis))), *shapes[1:]])

    def _check_span(self, span: InputSpan) -> None:
        if len(self._lengths) != 1 or self._reduce is not None:
            raise InvalidInput("span", f"of {len(span.inputs)} examples", "it is for one chunk in one process")
        if self._scales is not None and isinstance(self._scales[0], Tensor):
            raise InvalidInput("metric", "tensor", "with a span, the first layer's factor must be a number")
        ((inputs, _),) = self._batches
        if inputs.shape != (len(span.inputs), span.basis.shape[1]):
            raise InvalidInput("span", tuple(span.basis.shape), f"it is of other inputs than {tuple(inputs.shape)}")

    def expanded(self, vectors: Float[Tensor, "k size"]) -> Float[Tensor, "k parameters"]:
        """Return vectors in the span's coordinates as those of all parameters; the others as they are."""
        if self._span is None:
            return vectors
        first, rest = checked_vectors(vectors, self.size).split([self._sizes[0], self.size - self._sizes[0]], dim=1)
        first = first.unflatten(1, tuple(self._shapes[0])) @ self._span.basis
        return torch.cat([first.flatten(1), rest], dim=1)

    def _build(self, batch: Batch) -> _Passes:
        inputs, targets = batch
        weights = self._lowered([weight.detach() for weight in self._parameters])
        features = [inputs.to(self._precision)]
        hidden: list[Tensor] = []
        with torch.no_grad():
            for weight, factor in zip(weights, self._factors, strict=True):
                if hidden:
                    features.append(self._phi(hidden[-1]))
                hidden.append(torch.nn.functional.linear(features[-1], weight) * factor)
            slopes = [self._phi.derivative(h).mul_(c) for h, c in zip(hidden[:-1], self._factors[:-1], strict=True)]
        outputs = hidden[-1].to(self.dtype).requires_grad_()
        loss = scalar(self._loss_of_outputs(outputs, targets))
        (output_slope,) = reaching(differentiated(loss, [outputs]))
        assert output_slope is not None
        errors = [output_slope.detach().to(self._precision) * self._factors[-1]]
        for weight, slope in zip(weights[:0:-1], slopes[::-1], strict=True):
            errors.append(torch.mm(errors[-1], weight).mul_(slope))
        if self._span is not None:
            features[0] = self._span.inputs.to(self._precision)
        return _Passes(weights, inputs, features, slopes, errors[::-1], outputs, output_slope)

    def _lowered(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return A_k as they are, or c_k A_k in the lower precision."""
        if self._lower is None:
            return list(parts)
        return [(part * factor).to(self._lower) for part, factor in zip(parts, self._with_weights, strict=True)]

    def _derivatives(self, graph: _Passes) -> Parts:
        features = [graph.inputs, *graph.features[1:]]
        return [torch.mm(x.t(), error).t() for x, error in zip(features, graph.errors, strict=True)]

    def _apply(self, graph: _Passes, direction: Sequence[Tensor], *, together: bool = False) -> Parts:
        # `mm` spares a small network the time in which `matmul` finds out that it takes two matrices.
        product = torch.matmul if together else torch.mm
        weights, features, slopes, errors = graph.weights, graph.features, graph.slopes, graph.errors
        direction = self._lowered(direction)
        moved = product(features[0], direction[0].mT)  # R h_k / c_k
        moves = []  # R x_k
        for k, slope in enumerate(slopes, start=1):
            moves.append(moved.mul_(slope))
            moved = self._plus(product(moves[-1], weights[k].t()), features[k], direction[k].mT)

        there = [moved.mul_(self._factors[-1]).to(self.dtype)]
        (curved,) = transposed([graph.output_slope], [graph.outputs], there, together=together)
        turned = torch.zeros_like(moved) if curved is None else curved.to(self._precision) * self._factors[-1]
        result: list[Tensor] = []  # turned: c_k R g_k
        for k in range(len(slopes), 0, -1):
            result.append(self._sum(errors[k], moves[k - 1], turned, features[k]))
            turned = self._plus(product(turned, weights[k]), errors[k], direction[k]).mul_(slopes[k - 1])
        result.append(product(turned.mT, features[0]).to(self.dtype))
        if self._lower is None:
            return result[::-1]
        return [part.mul_(factor) for part, factor in zip(result[::-1], self._with_weights, strict=True)]

    def _plus(self, first: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Return first + left right, of one vector or a stack of them."""
        if first.dim() > 2:
            return first.add_(left @ right)
        if self._lower is None and left.shape[1] > _AT_ONCE:
            return first.add_(torch.mm(left, right))
        return first.addmm_(left, right)

    def _sum(self, error: Tensor, move: Tensor, turned: Tensor, features: Tensor) -> Tensor:
        """Return g_k R x_(k-1)^T + R g_k x_(k-1)^T, of one vector or a stack of them."""
        if move.dim() > 2 or self._lower is not None:
            return (error.t() @ move).to(self.dtype).add_(turned.mT @ features)
        return torch.mm(error.t(), move).addmm_(turned.t(), features)
