"""The same eigenpairs, probe after probe, along a training run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eoc.dynamics.curvature.eigenpairs import Eigenpairs, top_eigenpairs
from eoc.dynamics.curvature.memory import SpectralMemory
from eoc.dynamics.curvature.operator import SymmetricOperator
from eoc.dynamics.curvature.subspace import inner
from eoc.errors import InvalidInput, integer, real

# How far a scout is asked to look: products in bfloat16 are right to about 1e-2 and no more, and cost a CPU made for
# them a third to three fifths.
SCOUT_TOLERANCE = 1e-2
SCOUT_CAUTION = 4.0


class CurvatureTracker:
    """Follow the k algebraically largest eigenpairs of a slowly changing operator.

    At the edge of stability and in the catapult phase the weights bounce with period two: this step's eigenvectors
    resemble those of two steps ago more than the last ones. The tracker remembers the last two probes and starts
    from the one that would have been the better start for the probe before. What it remembers is plain tensors and
    numbers (`state_dict`): a restored tracker continues bit for bit.

    Args:
        k: number of eigenpairs.
        tolerance: largest admitted residual over |lambda_1|, a bound on the relative error.
        guards: number of further pairs that every probe multiplies anew, so that close or crossing ones are not
            missed.
        max_products: budget of a single probe.
        seed: seed of the private random generator.
        capacity: pairs remembered beyond the k + guards: memory of 2 (k + guards + capacity) copies of the
            parameters, no products.
        caution: 0, or how many times its residual a guard must lie below the wanted pairs; see `top_eigenpairs`.

    Raises:
        InvalidInput: an argument is out of range.
    """

    def __init__(
        self,
        k: int = 1,
        tolerance: float = 1e-3,
        guards: int = 1,
        max_products: int = 200,
        seed: int = 0,
        capacity: int = 10,
        caution: float = 0.0,
    ) -> None:
        self.k = integer("k", k, minimum=1)
        self.tolerance = real("tolerance", tolerance, above=0, below=1)
        self.guards = integer("guards", guards, minimum=0)
        self.max_products = integer("max_products", max_products, minimum=1)
        if k + guards > max_products:
            key, value = ("guards", guards) if guards > k else ("max_products", max_products)
            raise InvalidInput(key, value, f"max_products must be at least k + guards, {k + guards}")
        self.capacity = integer("capacity", capacity, minimum=0)
        self.caution = real("caution", caution, minimum=0)
        self._generator = torch.Generator("cpu").manual_seed(integer("seed", seed, minimum=0))
        self._memories: list[SpectralMemory] = []  # of the last probe, and of the one before
        self._lag = 1

    def probe(self, operator: SymmetricOperator, scout: SymmetricOperator | None = None) -> Eigenpairs:
        """Return the eigenpairs of ``operator`` and remember them for the next probes.

        A scout searches first, with a caution of 4 and to 1e-2 of what is right for it. ``operator`` improves what it
        has found to the tolerance, mostly with a product for each pair where that is 1e-2, and without guards: the
        values and residuals are those of ``operator``, that nothing larger was missed rests on the scout. The first
        probe, which has nothing to start from, goes without.

        Args:
            operator: products with the curvature at the present weights.
            scout: cheaper products with nearly the same matrix, as those of a `HessianOperator` with ``autocast``.

        Returns:
            The k largest pairs, see `top_eigenpairs`; their products include the scout's.

        Raises:
            InvalidInput: the operator has another size than at the last probe.
            NonFiniteCurvature: a product was not finite; the tracker stays as it was.
        """
        start = self._memories[min(self._lag, len(self._memories)) - 1] if self._memories else None
        if self.size not in (None, operator.size):
            rule = f"the tracker follows {self.size} parameters; for others take a new one, or let it forget"
            raise InvalidInput("operator", f"of size {operator.size}", rule)
        random = self._generator.get_state()
        try:
            if scout is None or start is None:
                found = self._search(operator, self.tolerance, start, self.caution)
            else:
                found = self._scouted(operator, scout, start)
        except BaseException:
            self._generator.set_state(random)
            raise
        if len(self._memories) == 2:
            held = [self._held(memory, found.vectors) for memory in self._memories]
            self._lag = 2 if held[1] > held[0] else 1
        self._memories = [found.memory, *self._memories][:2]
        return found

    @property
    def size(self) -> int | None:
        """Number of parameters of the operators that it follows, None where it remembers none."""
        return self._memories[0].vectors.shape[1] if self._memories else None

    def forget(self) -> None:
        """Start anew, as for an operator on other parameters; the random state stays."""
        self._memories, self._lag = [], 1

    def _scouted(self, operator: SymmetricOperator, scout: SymmetricOperator, start: SpectralMemory) -> Eigenpairs:
        first = self._search(scout, SCOUT_TOLERANCE, start, max(self.caution, SCOUT_CAUTION))
        found = top_eigenpairs(
            operator,
            self.k,
            tolerance=self.tolerance,
            start=first.memory,
            guards=0,
            max_products=max(self.max_products - first.products, self.k),
            capacity=self.guards + self.capacity,
            generator=self._generator,
        )
        return replace(found, products=first.products + found.products)

    def _search(
        self, operator: SymmetricOperator, tolerance: float, start: SpectralMemory | None, caution: float
    ) -> Eigenpairs:
        return top_eigenpairs(
            operator,
            self.k,
            tolerance=tolerance,
            start=start,
            guards=self.guards,
            max_products=self.max_products,
            capacity=self.capacity,
            generator=self._generator,
            caution=caution,
        )

    def _held(self, memory: SpectralMemory, vectors: Tensor) -> float:
        """Return how much of the wanted vectors the start block from this memory would have held."""
        start = memory.vectors[: self.k + self.guards].to(vectors)
        return float(inner(start, vectors).square().sum())

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered, and the random state."""
        return {
            "vectors": [memory.vectors.clone() for memory in self._memories],
            "values": [memory.values.clone() for memory in self._memories],
            "lag": self._lag,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidInput: an entry is missing, or vectors and values do not fit together.
        """
        entries = {"vectors", "values", "lag", "generator"}
        if set(state) != entries:
            raise InvalidInput("state", sorted(state), f"a curvature state holds exactly {', '.join(sorted(entries))}")
        pairs = list(zip(state["vectors"], state["values"], strict=False))
        fitting = len(state["vectors"]) == len(state["values"]) <= 2 and all(
            v.ndim == 2
            and w.ndim == 1
            and len(v) == len(w)
            and bool(v.isfinite().all() & w.isfinite().all().to(v.device))
            for v, w in pairs
        )
        if not fitting:
            rule = "it needs at most two blocks of finite vectors, each with its values"
            raise InvalidInput("state", "curvature", rule)
        self._generator.set_state(state["generator"].cpu())
        self._lag = integer("state.lag", state["lag"], minimum=1, maximum=2)
        self._memories = [SpectralMemory(v.clone(), w.cpu().clone()) for v, w in pairs]
