"""Inner products and orthonormal bases of few, long vectors, with float64 accumulation."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.dynamics.curvature.operator import NonFiniteCurvature, all_finite

_BLOCK = 1024  # entries summed in the vectors' own precision before float64 takes over
_PIECE = 8192  # entries, of some thirty rows, that fit a core's cache
_FEW = 1 << 16  # entries up to which a CPU converts them all faster than it makes blocks
_MUCH = 0.5**0.5  # of a row's length: what a pass of Gram-Schmidt must leave for it to be the last
_SMALL = 1 << 24  # entries up to which a GPU takes longer to be told what to do than to do it


def inner(a: Float[Tensor, "i parameters"], b: Float[Tensor, "j parameters"]) -> Float[Tensor, "i j"]:
    """Return the inner products of the rows of ``a`` with the rows of ``b``, accumulated in float64.

    Blocks of 1,024 entries are summed in the vectors' precision and the blocks in float64: for float32 the error is
    about 1e-9 of the norms, far below the rounding of a product, at a fifth of the time of converting every entry.

    Args:
        a: (i, parameters).
        b: (j, parameters).

    Returns:
        (i, j), float64, on the rows' device.
    """
    if a.numel() + b.numel() <= (_SMALL if a.is_cuda else _FEW):
        return a.double() @ b.double().T
    blocks = a.shape[1] // _BLOCK
    whole = blocks * _BLOCK
    total = a[:, whole:].double() @ b[:, whole:].double().T
    if blocks:
        left = a[:, :whole].unflatten(1, (blocks, _BLOCK)).transpose(0, 1)
        right = b[:, :whole].unflatten(1, (blocks, _BLOCK)).permute(1, 2, 0)
        total += (left @ right).sum(0, dtype=torch.float64)
    return total


def representable(products: Tensor, dtype: torch.dtype) -> Tensor:
    """Return inner products of vectors of this dtype.

    Raises:
        NonFiniteCurvature: the vectors, finite themselves, are so long that some of their inner products overflow.
    """
    if not all_finite(products):
        raise NonFiniteCurvature(f"the curvature is too large for {dtype}: inner products of its products overflow")
    return products


def norm(vector: Float[Tensor, " parameters"]) -> float:
    """Return the Euclidean norm, accumulated in float64."""
    if vector.is_cuda:
        return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
    return float(inner(vector[None], vector[None]).sqrt())


def combined(
    a: Float[Tensor, "i m"], rows: Float[Tensor, "m parameters"], b: Float[Tensor, "i r"], others: Tensor
) -> Float[Tensor, "i parameters"]:
    """Return a @ rows + b @ others, on a CPU in pieces that stay in a core's cache until both are added.

    Args:
        a: (i, m), any dtype.
        rows: (m, parameters).
        b: (i, r), any dtype.
        others: (r, parameters), of the dtype and device of ``rows``, as the result is.
    """
    a, b, size = a.to(rows), b.to(rows), rows.shape[1]
    result = torch.empty(len(a), size, dtype=rows.dtype, device=rows.device)
    piece = _PIECE if rows.device.type == "cpu" else size
    for start in range(0, size, piece):
        place = result[:, start : start + piece]
        torch.mm(a, rows[:, start : start + piece], out=place)
        place.addmm_(b, others[:, start : start + piece])
    return result


def orthonormalized(
    rows: Float[Tensor, "p parameters"], basis: Float[Tensor, "m parameters"]
) -> Float[Tensor, "kept parameters"]:
    """Return orthonormal rows that span, together with ``basis``, what ``rows`` and ``basis`` span.

    Classical Gram-Schmidt for all rows at once, X <- X - (X B^T) B, so that the basis is read once for all of them;
    then each against the rows before it. Repeated as long as a pass leaves less than 1/sqrt(2) of any row's length. A
    part smaller than the square root of the machine precision is made of rounding: such a row is left out.

    Args:
        rows: (p, parameters), the most wanted first.
        basis: (m, parameters) orthonormal rows, m may be 0.

    Returns:
        (at most p, parameters) of norm 1, orthogonal to ``basis`` and to each other to machine precision.

    Raises:
        NonFiniteCurvature: ``rows`` holds NaN or infinity.

    Source: Daniel, Gragg, Kaufman, Stewart, "Reorthogonalization and stable algorithms for updating the Gram-Schmidt QR
    factorization" (1976), the criterion; Giraud, Langou, Rozloznik, "The loss of orthogonality in the Gram-Schmidt
    orthogonalization process" (2005): twice is enough.
    """
    given = [norm(row) for row in rows]
    result = rows[[i for i, length in enumerate(given) if length != 0]]  # a copy, that what follows changes in place
    for row, length in zip(result, filter(None, given), strict=True):
        _normalize(row, length)
    smallest = torch.finfo(result.dtype).eps ** 0.5
    left = [1.0] * len(result)
    while len(basis) or len(result) > 1:
        if len(basis):
            result.addmm_(inner(result, basis).to(result.dtype), basis, alpha=-1)
        lengths = []
        for i, row in enumerate(result):
            if i:
                row -= (inner(row[None], result[:i]).to(row.dtype) @ result[:i])[0]
            lengths.append(norm(row))
            left[i] *= lengths[i]
            row /= lengths[i] if left[i] >= smallest else math.inf
        kept = [i for i, part in enumerate(left) if part >= smallest]
        if len(kept) < len(result):
            result, left = result[kept], [left[i] for i in kept]
        if all(lengths[i] > _MUCH for i in kept):  # its rounding, over what is left, is all that may be wrong
            break
    return result


def _normalize(vector: Float[Tensor, " parameters"], length: float) -> None:
    """Give a vector of this length, not 0, length 1 in place."""
    if not math.isfinite(length):  # squares overflow, or entries are not finite
        vector /= vector.abs().max()
        length = norm(vector)
        if not math.isfinite(length):
            raise NonFiniteCurvature("a product with the curvature holds NaN or infinity")
    vector /= length


class Rows:
    """A growing matrix of long rows in one piece of memory, so that adding a row copies no others.

    Args:
        width: length of the rows.
        like: a tensor of the dtype and on the device wanted.
    """

    def __init__(self, width: int, like: Tensor) -> None:
        self._buffer = torch.empty(8, width, dtype=like.dtype, device=like.device)
        self._count = 0

    def __len__(self) -> int:
        """The number of rows."""
        return self._count

    @property
    def matrix(self) -> Float[Tensor, "rows width"]:
        """The rows, as a view."""
        return self._buffer[: self._count]

    def append(self, rows: Float[Tensor, "new width"]) -> None:
        """Add rows at the end."""
        total = self._count + len(rows)
        if total > len(self._buffer):
            larger = torch.empty(2 * total, self._buffer.shape[1], dtype=rows.dtype, device=rows.device)
            larger[: self._count] = self.matrix
            self._buffer = larger
        self._buffer[self._count : total] = rows
        self._count = total

    def replace(self, rows: Float[Tensor, "new width"]) -> None:
        """Hold these rows instead."""
        self._count = 0
        self.append(rows)


def random_vector(size: int, generator: torch.Generator, like: Tensor) -> Float[Tensor, " parameters"]:
    """Return standard normal numbers drawn on the CPU, so that every device and dtype starts alike."""
    return torch.randn(size, generator=generator, dtype=torch.float64, device="cpu").to(like)


def exactly(a: Tensor, b: Tensor) -> Tensor:
    """Return inner products as `inner` does, on the CPU; raise where they overflow the vectors' precision."""
    return representable(inner(a, b).cpu(), a.dtype)


def roughly(a: Tensor, b: Tensor) -> Tensor:
    """Return inner products in the vectors' own precision, at half the cost: enough to predict from, not to report."""
    return representable((a @ b.T).cpu().double(), a.dtype)
