"""Products of a loss's curvature with vectors, in the learning-rate metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.errors import InvalidInput, real

Loss = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Tensor, Tensor]


class NonFiniteCurvature(ArithmeticError):
    """A product with the curvature met NaN or infinity: weights, data or loss are no longer finite."""


@runtime_checkable
class SymmetricOperator(Protocol):
    """What the solvers need of a symmetric matrix A: its size, where it lives, and products with it.

    Attributes:
        size: number of rows of A.
        device: device of the vectors.
        dtype: floating dtype of the vectors.
        products: number of vectors multiplied so far, for accounting.
    """

    size: int
    device: torch.device
    dtype: torch.dtype
    products: int

    def __call__(self, vectors: Float[Tensor, "k parameters"]) -> Float[Tensor, "k parameters"]:
        """Return A v for every row v."""
        ...


class HessianOperator:
    """Products with the Hessian of the mean loss over all batches, in the metric of the learning rates.

        A = D^(1/2) H D^(1/2),   H = sum_c (n_c / n) d^2 loss_c / d theta^2,   D = diag(metric)

    where chunk c holds n_c of the n examples, so that chunks of any sizes average exactly. Gradient descent
    with rates eta * D is plain descent with rate eta in the coordinates D^(-1/2) theta, whose Hessian is A.

    Products are taken at the parameters' values at the time of the call. With one chunk the gradient's graph
    is built at the first call and serves every product until a parameter changes in place; with several it is
    built for one chunk at a time and freed, so that the data may exceed memory. Nothing is written to: no
    ``.grad``, no parameter, no global random state; it works where gradients are switched off.

    Args:
        loss: ``loss(inputs, targets)``, the scalar *mean* loss over the examples of a chunk, a twice
            differentiable function of ``parameters``.
        parameters: tensors that require gradients, of one dtype and device. A subset gives that block of A.
        batches: chunks of (inputs, targets); the length of ``inputs`` is its number of examples.
        metric: for every parameter tensor its learning-rate factor, a positive number or a positive tensor
            that broadcasts to the parameter's shape; None is 1 throughout.
        reduce: called on the summed product and changes it in place, to average over the processes of a
            data-parallel run.

    Attributes:
        size: number of scalar parameters.
        device: device of the parameters.
        dtype: dtype of the parameters.
        products: number of vectors multiplied so far.

    Raises:
        InvalidInput: no parameters or batches, an empty batch, parameters of several dtypes or devices, a
            metric of another length or not positive.

    Source: Pearlmutter, "Fast exact multiplication by the Hessian" (1994): differentiate the gradient.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Sequence[Tensor],
        batches: Sequence[Batch],
        metric: Sequence[float | Tensor] | None = None,
        reduce: Callable[[Tensor], None] | None = None,
    ) -> None:
        self._loss, self._reduce = loss, reduce
        self._parameters = _checked_parameters(parameters)
        self._batches, self._weights = _checked_batches(batches)
        self._sizes = [p.numel() for p in self._parameters]
        self.size = sum(self._sizes)
        self.device, self.dtype = self._parameters[0].device, self._parameters[0].dtype
        self._scales = None if metric is None else _square_roots(metric, self._parameters)
        self.products = 0
        self._graph: tuple[Tensor | None, ...] | None = None
        self._versions: list[int] = []

    @torch.inference_mode(False)
    def __call__(self, vectors: Float[Tensor, "k parameters"]) -> Float[Tensor, "k parameters"]:
        """Return A v for every row v of ``vectors``.

        Args:
            vectors: (k, parameters), each row flattened in the order of ``parameters``.

        Returns:
            (k, parameters), the products.

        Raises:
            NonFiniteCurvature: a product holds NaN or infinity.
        """
        directions = [self._split(row) for row in vectors]
        self.products += len(directions)
        if len(self._batches) == 1:
            result = self._multiply(self._single_graph(), directions)
        else:
            # Many small chunks are summed in float64, so that their number does not cost digits.
            total = torch.zeros(len(directions), self.size, dtype=torch.float64, device=self.device)
            for batch, weight in zip(self._batches, self._weights, strict=True):
                total += weight * self._multiply(self._gradient(batch), directions)
            result = total.to(self.dtype)
        if self._reduce is not None:
            self._reduce(result)
        # The sum of finite numbers is finite, unless they are huge: the quick test spares the exact one.
        if not bool(torch.isfinite(result.sum())) and not bool(torch.isfinite(result).all()):
            raise NonFiniteCurvature("a product with the Hessian holds NaN or infinity")
        return result

    def _single_graph(self) -> tuple[Tensor | None, ...]:
        versions = [p._version for p in self._parameters]
        if self._graph is None or versions != self._versions:
            self._graph, self._versions = None, versions
            self._graph = self._gradient(self._batches[0])
        return self._graph

    @torch.enable_grad()
    def _gradient(self, batch: Batch) -> tuple[Tensor | None, ...]:
        """Return the gradient of one chunk's loss, differentiable once more; None where it is constant."""
        value = self._loss(*batch)
        if not value.requires_grad:
            return (None,) * len(self._parameters)
        return torch.autograd.grad(value, self._parameters, create_graph=True, allow_unused=True)

    def _multiply(self, gradient: tuple[Tensor | None, ...], directions: list[list[Tensor]]) -> Tensor:
        outputs = [(i, g) for i, g in enumerate(gradient) if g is not None and g.requires_grad]
        result = torch.zeros(len(directions), self.size, dtype=self.dtype, device=self.device)
        if not outputs:
            return result
        for row, direction in zip(result, directions, strict=True):
            products = torch.autograd.grad(
                [g for _, g in outputs],
                self._parameters,
                [direction[i] for i, _ in outputs],
                retain_graph=True,
                allow_unused=True,
            )
            for i, (part, product) in enumerate(zip(row.split(self._sizes), products, strict=True)):
                if product is not None:
                    flat = product if self._scales is None else product * self._scales[i]
                    part.copy_(flat.reshape(-1))
        return result

    def _split(self, vector: Tensor) -> list[Tensor]:
        parts = [s.view_as(p) for s, p in zip(vector.detach().split(self._sizes), self._parameters, strict=True)]
        return parts if self._scales is None else [s * v for s, v in zip(self._scales, parts, strict=True)]


def _checked_parameters(parameters: Sequence[Tensor]) -> list[Tensor]:
    checked = list(parameters)
    if not checked:
        raise InvalidInput("parameters", [], "there must be at least one parameter tensor")
    kinds = {(p.dtype, p.device) for p in checked}
    if len(kinds) > 1:
        raise InvalidInput("parameters", kinds, "all of them must share one dtype and one device")
    if not checked[0].dtype.is_floating_point:
        raise InvalidInput("parameters", checked[0].dtype, "they must be of a floating dtype")
    if not all(p.requires_grad for p in checked):
        raise InvalidInput("parameters", "frozen", "every one of them must require gradients")
    return checked


def _checked_batches(batches: Sequence[Batch]) -> tuple[list[Batch], list[float]]:
    checked = list(batches)
    lengths = [len(inputs) for inputs, _ in checked]
    if not lengths or min(lengths) < 1:
        raise InvalidInput("batches", lengths, "there must be at least one batch, each with at least one example")
    return checked, [length / sum(lengths) for length in lengths]


def _square_roots(metric: Sequence[float | Tensor], parameters: list[Tensor]) -> list[float | Tensor]:
    if len(metric) != len(parameters):
        raise InvalidInput("metric", metric, f"it needs one entry for each of {len(parameters)} parameters")
    roots: list[float | Tensor] = []
    for factor, parameter in zip(metric, parameters, strict=True):
        if isinstance(factor, Tensor):
            if not bool((torch.isfinite(factor) & (factor > 0)).all()):
                raise InvalidInput("metric", "tensor", "all of its entries must be positive and finite")
            roots.append(factor.detach().to(parameter).sqrt().expand_as(parameter))
        else:
            roots.append(math.sqrt(real("metric", factor, above=0)))
    return roots
