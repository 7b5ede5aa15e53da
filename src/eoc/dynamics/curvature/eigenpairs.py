"""The extreme eigenpairs of a symmetric operator, to a stated residual."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.dynamics.curvature.operator import SymmetricOperator
from eoc.dynamics.curvature.subspace import inner, orthonormalized, random_vector
from eoc.errors import InvalidInput, choice, integer, real

WHICH = ("largest", "smallest", "magnitude")


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of a symmetric operator A, with what they cost and how good they are.

    Attributes:
        values: (k,) float64 on the CPU, the wanted end first: descending for "largest".
        vectors: (k, parameters), unit rows.
        residuals: (k,) float64 on the CPU, ||A v - value v||: an eigenvalue lies this near to the value.
        products: number of products with A that were spent.
        converged: whether every residual is at most the tolerance times |values[0]| (or is rounding).
        block: (k + guards, parameters), the Ritz vectors to start the next, nearby problem from.
    """

    values: Float[Tensor, " k"]
    vectors: Float[Tensor, "k parameters"]
    residuals: Float[Tensor, " k"]
    products: int
    converged: bool
    block: Float[Tensor, "block parameters"]

    @property
    def relative_bound(self) -> float:
        """The largest residual over |values[0]|: 0 where both vanish, infinity where only the value does."""
        worst, scale = float(self.residuals.max()), abs(float(self.values[0]))
        return worst / scale if scale > 0 else (math.inf if worst > 0 else 0.0)


def top_eigenpairs(
    operator: SymmetricOperator,
    k: int = 1,
    *,
    tolerance: float = 1e-3,
    start: Tensor | None = None,
    guards: int = 2,
    max_products: int = 200,
    generator: torch.Generator | None = None,
    which: str = "largest",
) -> Eigenpairs:
    """Return the k extreme eigenpairs of A: by default the k algebraically largest.

    Block Davidson: Rayleigh-Ritz on an orthonormal basis that starts as a block of k + guards vectors and
    grows by the residuals A x - theta x of the wanted pairs, with thick restarts. It stops when each of the k
    residuals is at most ``tolerance * |theta_1|`` and no guard's interval theta_j + ||r_j|| reaches above
    them. As |lambda - theta| <= ||r||, the tolerance bounds the relative error; the actual error is mostly far
    smaller, being of second order in the residual. What the start lacks is filled with random vectors, whose
    Krylov space is then explored for ln(size) rounds before the result is believed: this finds wanted pairs
    orthogonal to the start.

    Args:
        operator: products with A.
        k: number of eigenpairs, at most ``operator.size``.
        tolerance: largest admitted residual over |theta_1|.
        start: (rows, parameters), vectors near the wanted ones, best first; dependent rows do no harm.
        guards: number of further pairs that are followed, so that close or crossing ones are not missed.
        max_products: budget; when it is spent the best known pairs are returned with ``converged`` false.
        generator: private source (CPU) of the random vectors; None is one seeded with 0.
        which: "largest" or "smallest" (algebraic), or largest in "magnitude".

    Returns:
        The pairs, with their residuals.

    Raises:
        InvalidInput: an argument is out of range, or ``start`` has another length.
        NonFiniteCurvature: from the operator.

    Source: Saad, "Numerical methods for large eigenvalue problems" (2011), chapters 3 (bounds), 8 (Davidson).
    """
    integer("k", k, minimum=1, maximum=operator.size)
    integer("guards", guards, minimum=0)
    real("tolerance", tolerance, above=0)
    integer("max_products", max_products, minimum=min(k + guards, operator.size))
    choice("which", which, WHICH)
    if start is not None and (start.ndim != 2 or start.shape[1] != operator.size):
        raise InvalidInput("start", tuple(start.shape), f"its rows must have {operator.size} entries")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    with torch.no_grad():
        search = _Search(operator, k, guards, which, generator)
        search.begin(start)
        rounds = math.ceil(math.log(operator.size)) if search.explores else 0
        while True:
            search.project()
            open_pairs = search.open_pairs(tolerance, everything=rounds > 0)
            room = min(max_products - search.products, operator.size - search.dimension)
            if not open_pairs or room <= 0 or not search.expand(open_pairs[:room]):
                return search.result(tolerance)
            rounds -= 1


class _Search:
    """An orthonormal basis V, its image W = V A, and the Rayleigh-Ritz pairs of V."""

    def __init__(
        self, operator: SymmetricOperator, k: int, guards: int, which: str, generator: torch.Generator
    ) -> None:
        self.operator, self.k, self.which, self.generator = operator, k, which, generator
        self.block = min(k + guards, operator.size)
        self.capacity = min(2 * self.block + 16, operator.size)
        shape = (self.capacity, operator.size)
        self.V = torch.empty(shape, dtype=operator.dtype, device=operator.device)
        self.W = torch.empty_like(self.V)
        self.T = torch.zeros(self.capacity, self.capacity, dtype=torch.float64)
        self.dimension = self.products = 0
        self.explores = False

    def begin(self, start: Tensor | None) -> None:
        """Fill the basis with the start block, and where that is too small or dependent with random vectors."""
        rows = [] if start is None else list(start.to(self.V)[: self.block])
        added = self._add(rows)
        self.explores = added < self.block
        while added < self.block:
            added += self._add([random_vector(self.operator.size, self.generator, self.V)])
        self._multiply(0)

    def project(self) -> None:
        """Solve the Rayleigh-Ritz problem and compute the residuals of the block."""
        values, mixing = torch.linalg.eigh(self.T[: self.dimension, : self.dimension])
        order = torch.argsort(self._rank(values), descending=True, stable=True)
        self.values, self.mixing = values[order], mixing[:, order]
        self.scale = float(values.abs().max())
        head = self.mixing[:, : self.block].T.to(self.V)
        ritz = self.values[: self.block].to(self.V)[:, None]
        images = head @ self.W[: self.dimension]
        self.residuals = images - ritz * (head @ self.V[: self.dimension])
        self.norms = torch.stack([inner(r[None], r[None])[0, 0] for r in self.residuals]).sqrt().cpu()

    def open_pairs(self, tolerance: float, everything: bool) -> list[int]:
        """Return the indices of the pairs whose residuals must still shrink."""
        limit = self._limit(tolerance)
        rounding = self._rounding()
        if everything:
            return [i for i in range(self.block) if float(self.norms[i]) > rounding]
        rank = self._rank(self.values[: self.block])
        highest = float(rank[self.k - 1]) + limit
        wanted = [i for i in range(self.k) if float(self.norms[i]) > limit]
        guards = [
            j
            for j in range(self.k, self.block)
            if float(rank[j] + self.norms[j]) > highest and float(self.norms[j]) > limit
        ]
        return wanted + guards

    def expand(self, pairs: list[int]) -> bool:
        """Add the residuals of the given pairs to the basis; return whether anything was new."""
        residuals = [self.residuals[i] for i in pairs]
        if self.dimension + len(residuals) > self.capacity:
            self._restart(max(self.block, self.capacity - len(residuals) - 8))
        old = self.dimension
        added = self._add(residuals[: self.capacity - self.dimension])
        self._multiply(old)
        return added > 0

    def result(self, tolerance: float) -> Eigenpairs:
        """Return the present pairs."""
        head = self.mixing[:, : self.block].T.to(self.V)
        block = head @ self.V[: self.dimension]
        return Eigenpairs(
            values=self.values[: self.k].clone(),
            vectors=block[: self.k],
            residuals=self.norms[: self.k].clone(),
            products=self.products,
            converged=not self.open_pairs(tolerance, everything=False),
            block=block,
        )

    def _rank(self, values: Tensor) -> Tensor:
        return {"largest": values, "smallest": -values, "magnitude": values.abs()}[self.which]

    def _rounding(self) -> float:
        return 32 * torch.finfo(self.V.dtype).eps * self.scale

    def _limit(self, tolerance: float) -> float:
        # A residual cannot fall below the rounding of the products, whatever the tolerance.
        return max(tolerance * abs(float(self.values[0])), self._rounding())

    def _add(self, rows: list[Tensor]) -> int:
        before = self.dimension
        for row in rows:
            unit = orthonormalized(row, self.V[: self.dimension])
            if unit is not None:
                self.V[self.dimension] = unit
                self.dimension += 1
        return self.dimension - before

    def _multiply(self, first: int) -> None:
        new = slice(first, self.dimension)
        if first == self.dimension:
            return
        self.W[new] = self.operator(self.V[new])
        self.products += self.dimension - first
        cross = inner(self.V[: self.dimension], self.W[new]).cpu()
        self.T[: self.dimension, new] = cross
        self.T[new, : self.dimension] = cross.T
        corner = self.T[new, new]
        self.T[new, new] = (corner + corner.T) / 2

    def _restart(self, keep: int) -> None:
        head = self.mixing[:, :keep].T.to(self.V)
        self.V[:keep] = head @ self.V[: self.dimension]
        self.W[:keep] = head @ self.W[: self.dimension]
        self.T.zero_()
        self.T[:keep, :keep] = torch.diag(self.values[:keep])
        self.dimension = keep
