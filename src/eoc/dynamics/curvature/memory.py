"""What earlier probes leave behind: a low-rank model of the operator that tells where to search next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Squared length below which what a remembered vector adds to the basis is taken for rounding.
_DEPENDENT = 1e-3

Rank = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SpectralMemory:
    """A low-rank model M = U^T diag(values) U of a symmetric operator.

    Attributes:
        vectors: (r, parameters), orthonormal rows U, the wanted end first.
        values: (r,) float64 on the CPU.
    """

    vectors: Float[Tensor, "r parameters"]
    values: Float[Tensor, " r"]


class Prediction:
    """The least change of a remembered model M that agrees with the products known so far.

    With the orthonormal basis V, its products W = V A and P = 1 - V^T V, the matrix that reproduces W and else
    differs least (in the Frobenius norm) from M is

        A' = V^T W + W^T V - V^T T V + P M P,   T = V W^T.

    Its eigenvectors in the span of V, U and the residuals say which direction is worth the next product: where V
    holds a wanted vector but for a mixture with remembered neighbours, the mixture is undone in one product instead
    of one per neighbour. All of it needs inner products only, a small fraction of a product.

    Args:
        T: (m, m), V A V^T.
        C: (m, r), V U^T.
        D: (m, r), W U^T.
        values: (r,), the eigenvalues of M.
        rank: turns eigenvalues into numbers that are larger the more an eigenvalue is wanted.

    Source: the update is Powell's symmetric Broyden formula (1970) for a block of vectors; that it makes a
    preconditioner for Davidson's method is derived here, see docs/curvature.md.
    """

    def __init__(
        self,
        T: Float[Tensor, "m m"],
        C: Float[Tensor, "m r"],
        D: Float[Tensor, "m r"],
        values: Float[Tensor, " r"],
        rank: Rank,
    ) -> None:
        self._T, self._C, self._values, self._rank = T, C, values, rank
        self._rest = torch.eye(len(values), dtype=T.dtype, device=T.device) - C.T @ C  # U P U^T
        self._coupling = D - T @ C  # V A' P U^T

    def directions(
        self,
        pairs: list[int],
        overlap: Float[Tensor, "r p"],
        coupling: Float[Tensor, "m p"],
        gram: Float[Tensor, "p p"],
    ) -> Float[Tensor, "p total"]:
        """Return what to add to the basis for each of the given pairs, as coefficients of (U, residuals).

        Args:
            pairs: indices of the Ritz pairs to be improved, the most wanted first.
            overlap: U R^T, R the residuals of these pairs.
            coupling: W R^T.
            gram: R R^T.

        Returns:
            (pairs, r + pairs); the part along V is to be projected out.
        """
        # Residuals may be tiny beside the unit vectors U: they enter with unit length.
        length = gram.diagonal().sqrt()
        overlap, coupling, gram = overlap / length, coupling / length, gram / torch.outer(length, length)
        seen = torch.cat([self._rest, overlap], 1)
        _, _, outside = self._eigenvectors(
            torch.cat([self._coupling, coupling], 1),
            seen.T * self._values @ seen,
            torch.cat([seen, torch.cat([overlap.T, gram], 1)]),
        )
        outside[len(self._values) :] /= length[:, None]
        return outside[:, pairs].T

    def remembered(self, capacity: int) -> tuple[Float[Tensor, " s"], Float[Tensor, "s m"], Float[Tensor, "s r"]]:
        """Return the leading eigenvalues of A' in the span of V and U, and their vectors as coefficients of V and U."""
        model = self._rest * self._values @ self._rest
        values, inside, outside = self._eigenvectors(self._coupling, model, self._rest)
        inside = inside - self._C @ outside
        return values[:capacity], inside[:, :capacity].T, outside[:, :capacity].T

    def _eigenvectors(self, coupling: Tensor, model: Tensor, gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Diagonalize A' in the span of V and of vectors Q orthogonal to it.

        Args:
            coupling: V A' Q^T.
            model: Q M Q^T.
            gram: Q Q^T.

        Returns:
            Eigenvalues, the wanted first, and the coefficients of V and of Q, by columns.
        """
        lengths, axes = torch.linalg.eigh(gram)
        kept = lengths > _DEPENDENT
        axes = axes[:, kept] / lengths[kept].sqrt()
        across = coupling @ axes
        matrix = torch.cat([torch.cat([self._T, across], 1), torch.cat([across.T, axes.T @ model @ axes], 1)])
        values, vectors = torch.linalg.eigh(matrix)
        order = torch.argsort(self._rank(values), descending=True, stable=True)
        vectors = vectors[:, order]
        return values[order], vectors[: len(self._T)], axes @ vectors[len(self._T) :]
