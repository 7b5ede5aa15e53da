"""The extreme eigenpairs of a symmetric operator, to a stated residual."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.dynamics.curvature.derivatives import exact_arithmetic
from eoc.dynamics.curvature.memory import SpectralMemory
from eoc.dynamics.curvature.operator import ParameterOperator, SymmetricOperator
from eoc.dynamics.curvature.search import WHICH, Search
from eoc.errors import InvalidInput, choice, integer, real


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of a symmetric operator A, with what they cost and how good they are.

    Attributes:
        values: (k,) float64 on the CPU, the wanted end first: descending for "largest".
        vectors: (k, parameters), unit rows: of an operator with a metric D in the coordinates D^(-1/2) theta.
        residuals: (k,) float64 on the CPU, ||A v - value v||: an eigenvalue lies within this distance of the value.
        products: number of products with A that were spent.
        converged: whether every residual is at most the tolerance times |values[0]| (or is rounding).
        memory: the model of A to start the next, nearby problem from.
    """

    values: Float[Tensor, " k"]
    vectors: Float[Tensor, "k parameters"]
    residuals: Float[Tensor, " k"]
    products: int
    converged: bool
    memory: SpectralMemory

    @property
    def relative_bound(self) -> float:
        """The largest residual over |values[0]|: 0 where both vanish, infinity where only the value does."""
        worst, scale = float(self.residuals.max()), abs(float(self.values[0]))
        return worst / scale if scale > 0 else (math.inf if worst > 0 else 0.0)


_LISTEN = 16  # products between two looks at their noise


def top_eigenpairs(
    operator: SymmetricOperator,
    k: int = 1,
    *,
    tolerance: float = 1e-3,
    start: Tensor | SpectralMemory | None = None,
    guards: int = 1,
    max_products: int = 200,
    capacity: int = 10,
    generator: torch.Generator | None = None,
    which: str = "largest",
    caution: float = 0.0,
) -> Eigenpairs:
    """Return the k extreme eigenpairs of A: by default the k algebraically largest.

    Block Davidson: Rayleigh-Ritz on an orthonormal basis that starts as a block of k + guards vectors and grows by
    the residuals A x - theta x of the wanted pairs, or by what a `SpectralMemory` predicts (see `Prediction`), with
    thick restarts. It stops when each of the k residuals is at most ``tolerance * |theta_1|`` and no guard may turn
    out above them. As an eigenvalue lies within ||r|| of theta, the tolerance bounds the relative error; the actual
    error is mostly far smaller, being of second order in the residual. What the start lacks is filled with random
    vectors, whose Krylov space is then explored for ln(size) rounds before the result is believed: this finds wanted
    pairs orthogonal to the start.

    Args:
        operator: products with A.
        k: number of eigenpairs, at most ``operator.size``.
        tolerance: largest admitted residual over |theta_1|.
        start: vectors near the wanted ones, (rows, parameters), best first (dependent rows do no harm), or the
            ``memory`` of a nearby problem.
        guards: number of further pairs in the first block, so that close or crossing ones are not missed.
        max_products: budget; when it is spent the best known pairs are returned with ``converged`` false, and earlier
            where the residuals are down to the noise of the products (a loss that is 0 but for rounding).
        capacity: pairs kept in the returned memory beyond the k + guards, at no cost in products.
        generator: private source (CPU) of the random vectors; None is one seeded with 0.
        which: "largest" or "smallest" (algebraic), or largest in "magnitude".
        caution: with c > 0, a guard is improved until it lies c times its residual below the wanted pairs, instead of
            its second-order estimate, and, however small its residual, c times what a memory shows of it; 4 misses
            fewer pairs that have just risen, for about one product more.

    Returns:
        The pairs, with their residuals.

    Raises:
        InvalidInput: an argument is out of range, or ``start`` has another length.
        NonFiniteCurvature: from the operator, or inner products overflow.

    Source: Saad, "Numerical methods for large eigenvalue problems" (2011), chapters 3 (bounds) and 8 (Davidson).
    """
    integer("k", k, minimum=1, maximum=operator.size)
    integer("guards", guards, minimum=0)
    integer("capacity", capacity, minimum=0)
    real("tolerance", tolerance, above=0)
    real("caution", caution, minimum=0)
    integer("max_products", max_products, minimum=min(k + guards, operator.size))
    choice("which", which, WHICH)
    rows = start.vectors if isinstance(start, SpectralMemory) else start
    if rows is not None and (rows.ndim != 2 or rows.shape[1] != operator.size):
        raise InvalidInput("start", tuple(rows.shape), f"its shape must be (rows, {operator.size})")
    generator = torch.Generator("cpu").manual_seed(0) if generator is None else generator
    held = operator.held() if isinstance(operator, ParameterOperator) else nullcontext()
    with torch.inference_mode(False), torch.no_grad(), exact_arithmetic(operator.device), held:
        memory = start if isinstance(start, SpectralMemory) else None
        search = Search(operator, k, guards, which, memory, caution)
        rounds = search.begin(rows, generator, max_products, math.ceil(math.log(operator.size)))
        listen = k + guards + _LISTEN
        while True:
            search.project(whole_block=rounds > 0)
            if search.products >= listen:
                if search.drowned():
                    break
                listen += _LISTEN
            pairs = search.unexplored() if rounds > 0 else search.unfinished(tolerance)
            room = min(max_products - search.products, operator.size - search.dimension)
            if not pairs or room <= 0 or not search.expand(pairs[:room]):
                break
            rounds -= 1
        return Eigenpairs(
            values=search.values[:k].clone(),
            vectors=search.ritz(k),
            residuals=search.norms[:k].clone(),
            products=search.products,
            converged=not search.unfinished(tolerance),
            memory=search.remembered(k + guards + capacity),
        )
