"""The growing subspace in which eigenpairs are sought."""

from __future__ import annotations

import torch
from torch import Tensor

from eoc.dynamics.curvature.memory import Prediction, SpectralMemory
from eoc.dynamics.curvature.operator import SymmetricOperator
from eoc.dynamics.curvature.subspace import Rows, combined, exactly, inner, orthonormalized, random_vector, roughly

_RANKS = {"largest": lambda values: values, "smallest": torch.neg, "magnitude": torch.abs}
WHICH = tuple(_RANKS)
ROUNDINGS = 32  # of the largest value: no residual can fall below them, whatever the tolerance
_SEEN = 1e-3  # part of theta_1 below which what is seen of a guard's residual along the memory is taken for noise


class Search:
    """An orthonormal basis V, its products W = V A, and the Rayleigh-Ritz pairs of V.

    Args:
        operator: products with A.
        k: number of wanted pairs.
        guards: number of further pairs in the first block.
        which: the wanted end of the spectrum.
        memory: a model of a nearby operator, if there is one.
        caution: see `top_eigenpairs`.

    Attributes:
        products: number of products spent.
        values: (dimension,) Ritz values, the wanted first.
        norms: the norms of the residuals of the leading Ritz pairs, of k at least.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        k: int,
        guards: int,
        which: str,
        memory: SpectralMemory | None,
        caution: float,
    ) -> None:
        self._operator, self._k, self._rank, self._caution = operator, k, _RANKS[which], caution
        self._block = min(k + guards, operator.size)
        self._capacity = min(2 * self._block + 16, operator.size)
        like = torch.empty(0, operator.size, dtype=operator.dtype, device=operator.device)
        self._V, self._W = Rows(operator.size, like), Rows(operator.size, like)
        self._T = torch.zeros(0, 0, dtype=torch.float64, device="cpu")
        self._U, self._values = like, torch.zeros(0, dtype=torch.float64, device="cpu")
        if memory is not None:
            self._U, self._values = memory.vectors.to(like), memory.values
        self._C = self._D = self._T.new_zeros(0, len(self._U))
        self.products = 0

    @property
    def dimension(self) -> int:
        """Number of vectors in the basis."""
        return len(self._V)

    def begin(self, rows: Tensor | None, generator: torch.Generator, max_products: int, rounds: int) -> int:
        """Fill the first block from ``rows``, then with random vectors; return how many rounds are to be explored.

        A memory that promised more than its block holds is of another operator: it is forgotten, and what it may hide
        is looked for in the Krylov space of k random vectors.
        """
        if rows is not None:
            self._extend(rows[: self._block].to(self._U))
        self._cold = self.dimension < self._block
        while self.dimension < self._block:
            self._extend(random_vector(self._operator.size, generator, self._U)[None])
        self._multiply()
        if not self._disappointed():
            return rounds if self._cold else 0
        empty = self._T.new_zeros(self.dimension, 0)
        self._U, self._values, self._C, self._D = self._U[:0], self._values[:0], empty, empty
        self._cold, size = True, self._operator.size
        fresh = torch.stack([random_vector(size, generator, self._U) for _ in range(self._k)])
        for _ in range(1 + rounds):
            if self.dimension + len(fresh) > self._capacity:
                self.project(whole_block=False)
                self._make_room(len(fresh), 0)
            before = self.dimension
            self._extend(fresh[: min(max_products - self.products, size - before)])
            self._multiply()
            fresh = self._W.matrix[before:].clone()
        return 0

    def _disappointed(self) -> bool:
        """Return whether the best Ritz value falls short of the remembered one by more than half."""
        if not len(self._values):
            return False
        best = float(self._rank(torch.linalg.eigvalsh(self._T)).max())
        promised = float(self._rank(self._values).max())
        return promised - best > abs(promised) / 2

    def project(self, whole_block: bool) -> None:
        """Solve the Rayleigh-Ritz problem, and compute the residuals of the wanted pairs, or of the guards too."""
        values, mixing = torch.linalg.eigh(self._T)
        order = torch.argsort(self._rank(values), descending=True, stable=True)
        self.values, self._mixing = values[order], mixing[:, order]
        self._residuals = self._U[:0]
        # On a GPU always at once: more rows cost nothing, another call does.
        self._compute_residuals(self._block if whole_block or self._U.is_cuda else self._k)

    def _compute_residuals(self, count: int) -> None:
        """Compute the residuals of so many leading pairs, and their norms, where they are not there already."""
        there = len(self._residuals)
        if there >= count:
            return
        head = self._mixing[:, there:count].T
        rows = head.to(self._U) @ self._W.matrix
        rows.addmm_((self.values[there:count, None] * head).to(self._U), self._V.matrix, alpha=-1)
        self._residuals = torch.cat([self._residuals, rows]) if there else rows
        self._gram = exactly(self._residuals, self._residuals)
        self.norms = self._gram.diagonal().sqrt()

    def ritz(self, count: int) -> Tensor:
        """Return the leading Ritz vectors, (count, parameters)."""
        return self._mixing[:, :count].T.to(self._U) @ self._V.matrix

    def unfinished(self, tolerance: float) -> list[int]:
        """Return the indices of the wanted pairs whose residuals must still shrink, or else of such guards.

        A guard must be improved while it might turn out above the wanted pairs. After a cold start that is as long
        as its interval theta_j + ||r_j|| reaches there. Later its second-order estimate theta_j + ||r_j||^2 / gap
        must: its own vector is known from the last probes, and what mixes with it lies mostly below half of theta_k.
        Mostly: a close pair that has risen above theta_k may be a small part of a guard, and its residual small then.
        With caution c it is improved until theta_j + c ||r_j|| is below, or its residual small; and then as long as
        what the memory knows of its residual says so, see `_rising`.
        """
        limit = self._limit(tolerance)
        wanted = [i for i, norm in enumerate(self.norms[: self._k].tolist()) if norm > limit]
        if wanted:
            return wanted
        self._compute_residuals(self._block)
        lowest = self.values[self._k - 1]
        norms = self.norms[: self._block]
        if self._caution or self._cold:
            reach = norms * (max(self._caution, 1.0) if self._cold else self._caution)
        else:
            reach = norms.square() / (lowest.abs() / 2).clamp(min=limit)
        highest = self._rank(self.values[: self._block]) + reach
        slack = limit if self._cold else 0.0
        above = highest > self._rank(lowest) + slack
        loose = [j for j in range(self._k, self._block) if norms[j] > limit and above[j]]
        return loose or self._rising()

    def _rising(self) -> list[int]:
        """Return the guards in which a remembered pair may hide that has risen above the wanted ones.

        Where products or tolerance are coarse, what such a pair adds to a guard's residual drowns in the rest of it;
        not so in the part along the remembered vectors, ||U r_j||: noise is spread over all parameters, U over few.
        """
        if not self._caution or self._cold or not len(self._U) or self.products >= self._capacity:
            return []
        mixing, values = self._mixing[:, : self._block], self.values[: self._block]
        seen = (self._D.T @ mixing - self._C.T @ mixing * values).norm(dim=0)
        may = self._rank(values) + self._caution * seen > self._rank(values[self._k - 1])
        return [j for j in range(self._k, self._block) if may[j] and seen[j] > _SEEN * abs(float(values[0]))]

    def drowned(self) -> bool:
        """Return whether the wanted residuals are down to the noise of the products, as their asymmetry shows it.

        V^T W is symmetric but for the products' rounding errors n: of each, (V^T W - W^T V) holds the part in the span
        of V twice. Where the loss is a small difference of large numbers this exceeds any tolerance.
        """
        mixed = inner(self._V.matrix, self._W.matrix)
        noise = (mixed - mixed.T).norm() / (2 * len(mixed)) ** 0.5
        return float(self.norms[: self._k].max()) <= 2 * float(noise)

    def unexplored(self) -> list[int]:
        """Return the indices of the pairs of the block whose residuals are more than rounding."""
        self._compute_residuals(self._block)
        return [i for i, norm in enumerate(self.norms[: self._block].tolist()) if norm > self._limit(0.0)]

    def expand(self, pairs: list[int]) -> bool:
        """Add a direction for each of the given pairs to the basis; return whether anything was new."""
        residuals = self._residuals[pairs]
        self._make_room(len(pairs), max(pairs) + 1)
        before = self.dimension
        self._extend(self._predicted(pairs, residuals))
        if self.dimension == before:  # predictions may lie in the basis; residuals do not
            self._extend(residuals)
        self._multiply()
        return self.dimension > before

    def remembered(self, capacity: int) -> SpectralMemory:
        """Return the leading pairs of the model that agrees with all products of this search."""
        if not len(self._U):
            return SpectralMemory(self.ritz(capacity), self.values[:capacity].clone())
        values, inside, outside = self._prediction().remembered(capacity)
        return SpectralMemory(combined(inside, self._V.matrix, outside, self._U), values)

    def _limit(self, tolerance: float) -> float:
        rounding = ROUNDINGS * torch.finfo(self._U.dtype).eps * float(self.values.abs().max())
        return max(tolerance * abs(float(self.values[0])), rounding)

    def _prediction(self) -> Prediction:
        return Prediction(self._T, self._C, self._D, self._values, self._rank)

    def _predicted(self, pairs: list[int], residuals: Tensor) -> Tensor:
        # The model takes for 0 what it does not know: where 0 itself would be wanted it has nothing to say.
        ahead = self._rank(self.values[pairs]) > self._rank(self.values.new_zeros(1))
        if not len(self._U) or not bool(ahead.all()):
            return residuals
        mixing = self._mixing[:, pairs]
        overlap = self._D.T @ mixing - self._C.T @ mixing * self.values[pairs]
        coupling = roughly(self._W.matrix, residuals)
        coefficients = self._prediction().directions(pairs, overlap, coupling, self._gram[pairs][:, pairs])
        known, fresh = coefficients.split([len(self._U), len(pairs)], dim=1)
        # What lies along V is known and taken away here: it would cost an orthogonalization a second pass.
        inside = known @ self._C.T
        rows = (known.to(self._U) @ self._U).addmm_(fresh.to(self._U), residuals)
        return rows.addmm_(inside.to(self._U), self._V.matrix, alpha=-1)

    def _extend(self, rows: Tensor) -> None:
        self._V.append(orthonormalized(rows, self._V.matrix))

    def _multiply(self) -> None:
        """Multiply what is new in the basis, and extend the small matrices."""
        old = len(self._W)
        new = self._V.matrix[old:]
        if not len(new):
            return
        products = self._operator(new)
        self.products += len(new)
        self._W.append(products)
        across, corner = exactly(self._V.matrix, products).split([old, len(new)])
        self._T = torch.cat([torch.cat([self._T, across], 1), torch.cat([across.T, (corner + corner.T) / 2], 1)])
        if not len(self._U):
            self._C = self._D = self._T.new_zeros(len(self._V), 0)
            return
        seen = roughly(torch.cat([new, products]), self._U)
        self._C = torch.cat([self._C, seen[: len(new)]])
        self._D = torch.cat([self._D, seen[len(new) :]])

    def _make_room(self, rows: int, pairs: int) -> None:
        """Where so many rows more would exceed the capacity, keep the leading pairs alone, so many at least."""
        if self.dimension + rows <= self._capacity:
            return
        keep = max(self._block, self._capacity - rows - 8, pairs)
        mixing = self._mixing[:, :keep]
        head = mixing.T.to(self._U)
        self._V.replace(head @ self._V.matrix)
        self._W.replace(head @ self._W.matrix)
        self._C, self._D = mixing.T @ self._C, mixing.T @ self._D
        self.values = self.values[:keep]
        self._T = torch.diag(self.values)
        self._mixing = torch.eye(keep, dtype=torch.float64, device="cpu")
