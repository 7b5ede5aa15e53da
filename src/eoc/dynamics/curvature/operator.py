"""What all curvature operators share: chunks of data, the learning-rate metric, and that they disturb nothing."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eoc.dynamics.curvature.arguments import (
    Batch,
    checked_batches,
    checked_parameters,
    checked_vectors,
    square_roots,
)
from eoc.dynamics.curvature.derivatives import Parts, exact_arithmetic, random_state_kept, undisturbed


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

    def __call__(self, vectors: Float[Tensor, "k size"]) -> Float[Tensor, "k size"]:
        """Return A v for every row v."""
        ...


class ParameterOperator(ABC):
    """A symmetric operator on the parameters that is a mean over chunks of examples, in the learning rates' metric.

        A = D^(1/2) (sum_c (n_c / n) A_c) D^(1/2),   D = diag(metric)

    where chunk c holds n_c of the n examples, so that chunks of any sizes average exactly. Gradient descent with
    rates eta * D is plain descent with rate eta in the coordinates D^(-1/2) theta: there A is what counts.

    Products are taken at the parameters' values at the time of the call. With one chunk its graph is built at the
    first call and serves every product until a parameter changes, these or others of ``module``, or a buffer or mode
    of that; with several, a graph is built for one chunk at a time and freed. What else the loss depends on must not
    change as long as the operator is used. Nothing is written to: no ``.grad``, parameter, mode or random state, nor
    a buffer of ``module``; it works where gradients are switched off, and in its tensors' precision under autocast.

    Args:
        parameters: tensors that require gradients, each once, of one dtype and device, the very ones that the model
            is evaluated with. A subset gives that block of A.
        batches: chunks of (inputs, targets), of which the loss is the mean over the examples, each counting as much.
            With several, ``inputs`` is a tensor whose first dimension counts the chunk's examples. A list or tuple is
            held; anything else that can be read again and again, such as a `torch.utils.data.DataLoader`, is read
            anew for every product, so that the data may exceed memory, and must give the same chunks each time.
        metric: for every parameter tensor its learning-rate factor, a positive number or a positive tensor that
            broadcasts to the parameter's shape; None is 1 throughout.
        reduce: called on the summed product and changes it in place, to average over the processes of a
            data-parallel run.
        module: the module that is evaluated, if it has buffers that an evaluation in training mode changes (running
            statistics), which are put back, or parameters beside these that training changes.

    Attributes:
        size: number of scalar parameters.
        device: device of the parameters.
        dtype: dtype of the parameters.
        products: number of vectors multiplied so far.

    Raises:
        InvalidInput: no parameters or batches, an empty batch, parameters of several dtypes or devices or listed
            twice, a metric of another length or not positive; at a product, a loss that depends on no parameter, or
            has no second derivative in PyTorch.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        batches: Iterable[Batch],
        metric: Sequence[float | Tensor] | None = None,
        reduce: Callable[[Tensor], None] | None = None,
        module: nn.Module | None = None,
    ) -> None:
        self._parameters = checked_parameters(parameters)
        self._batches, self._lengths = checked_batches(batches)
        self._scales = None if metric is None else square_roots(metric, self._parameters)
        self._reduce, self._module = reduce, module
        self._give_shapes([p.shape for p in self._parameters])
        self.device, self.dtype = self._parameters[0].device, self._parameters[0].dtype
        self.products = 0
        self._graph: Any = None
        self._modules = [] if module is None else list(module.modules())
        others = [] if module is None else module.parameters()
        self._watched = [*self._parameters, *(p for p in others if all(p is not q for q in self._parameters))]
        self._versions: list[object] = []
        self._values: list[Tensor] = []  # of what is watched, when the graph was built
        self._holding = self._settled = False  # inside `held`, and looked at there

    def _give_shapes(self, shapes: list[torch.Size]) -> None:
        """Say what shapes the parts of a vector have."""
        self._shapes, self._sizes = shapes, [shape.numel() for shape in shapes]
        self.size = sum(self._sizes)

    @abstractmethod
    def _build(self, batch: Batch) -> Any:
        """Return whatever serves the products of one chunk."""

    @abstractmethod
    def _apply(self, graph: Any, direction: Sequence[Tensor]) -> Parts:
        """Return A_c v for one vector, split by parameter."""

    @torch.inference_mode(False)
    def __call__(self, vectors: Float[Tensor, "k size"]) -> Float[Tensor, "k size"]:
        """Return A v for every row v of ``vectors``.

        Args:
            vectors: (k, size), each row flattened in the order of ``parameters``.

        Returns:
            (k, size), the products.

        Raises:
            NonFiniteCurvature: a product holds NaN or infinity.
        """
        directions = [self._split(row) for row in checked_vectors(vectors, self.size)]
        self.products += len(directions)
        with exact_arithmetic(self.device):
            if len(self._lengths) == 1:
                result = self._rows(self._single_graph(), directions)
            else:
                # Many small chunks are summed in float64, so that their number does not cost digits.
                total = torch.zeros(len(directions), self.size, dtype=torch.float64, device=self.device)
                for batch, length in self._chunks():
                    total += length / sum(self._lengths) * self._rows(self._built(batch), directions)
                result = total.to(self.dtype)
        if self._reduce is not None:
            self._reduce(result)
        return finite(result)

    def _chunks(self) -> Iterator[tuple[Batch, int]]:
        """Yield the chunks and their numbers of examples; to read them (a loader may shuffle) moves no random state."""
        with random_state_kept(self.device):
            yield from zip(self._batches, self._lengths, strict=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Look whether a weight has changed at the first product inside alone: for who lets none change there."""
        outer, self._holding = self._holding, True
        try:
            yield
        finally:
            self._holding = outer
            self._settled = self._settled and outer

    def _single_graph(self) -> Any:
        if self._settled:
            return self._graph
        versions: list[object] = [p._version for p in self._watched]
        for part in self._modules:
            versions += [part.training, *map(id, part._parameters.values())]
            versions += [(id(b), b._version) for b in part._buffers.values() if b is not None]
        if self._graph is None or versions != self._versions or not self._unmoved():
            self._graph, self._versions = None, versions
            self._values = [value.clone() for value in self._present()]
            ((batch, _),) = self._chunks()
            self._graph = self._built(batch)
        self._settled = self._holding
        return self._graph

    def _unmoved(self) -> bool:
        # Fused optimizers, and whoever writes to `.data`, leave no trace in the version counters.
        return all(torch.equal(now, then) for now, then in zip(self._present(), self._values, strict=True))

    def _present(self) -> list[Tensor]:
        """What is watched; on a GPU in one piece, which is told to compare once and waited for once."""
        values = [p.detach() for p in self._watched]
        return values if self.device.type == "cpu" else [torch.cat([value.flatten() for value in values])]

    def _built(self, batch: Batch) -> Any:
        kept, exact = undisturbed(self._module, self.device), exact_arithmetic(self.device)
        with torch.inference_mode(False), torch.enable_grad(), kept, exact:
            return self._build(batch)

    def _apply_all(self, graph: Any, directions: list[list[Tensor]]) -> Iterator[Parts]:
        """Return A_c v for several vectors, one after the other where there is no better way."""
        return (self._apply(graph, direction) for direction in directions)

    def _rows(self, graph: Any, directions: list[list[Tensor]]) -> Tensor:
        result = torch.empty(len(directions), sum(self._sizes), dtype=self.dtype, device=self.device)
        for row, parts in zip(result, self._apply_all(graph, directions), strict=True):
            self._join(parts, row)
        return result

    def _split(self, vector: Tensor) -> list[Tensor]:
        pieces = vector.detach().split(self._sizes)
        parts = [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]
        return parts if self._scales is None else [s * v for s, v in zip(self._scales, parts, strict=True)]

    def _join(self, parts: Parts, row: Tensor) -> None:
        for i, (place, part) in enumerate(zip(row.split(self._sizes), parts, strict=True)):
            if part is None:
                place.zero_()
                continue
            dense = part.to_dense() if part.is_sparse else part
            if self._scales is not None:
                torch.mul(dense, self._scales[i], out=place.view_as(dense))
            else:
                place.view_as(dense).copy_(dense)


def finite(result: Tensor) -> Tensor:
    """Return ``result``, or raise `NonFiniteCurvature`."""
    if not all_finite(result):
        raise NonFiniteCurvature("a product with the curvature holds NaN or infinity")
    return result


def all_finite(values: Tensor) -> bool:
    """Return whether no entry is NaN or infinity."""
    # The sum of finite numbers is finite, unless they are huge: the quick test spares the exact one.
    return math.isfinite(values.sum().item()) or bool(values.isfinite().all())
