"""The same eigenpairs, probe after probe, along a training run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eoc.dynamics.curvature.eigenpairs import Eigenpairs, top_eigenpairs
from eoc.dynamics.curvature.operator import SymmetricOperator
from eoc.errors import InvalidInput, integer, real


class CurvatureTracker:
    """Follow the k algebraically largest eigenpairs of a slowly changing operator.

    Each probe starts from the Ritz vectors of the last one. The state (`state_dict`) is plain tensors and
    numbers: a restored tracker continues bit for bit.

    Args:
        k: number of eigenpairs.
        tolerance: largest admitted residual over |lambda_1|, a bound on the relative error.
        guards: number of further pairs followed, so that close or crossing ones are not missed.
        max_products: budget of a single probe.
        seed: seed of the private random generator.

    Raises:
        InvalidInput: an argument is out of range.
    """

    def __init__(
        self, k: int = 1, tolerance: float = 1e-3, guards: int = 2, max_products: int = 200, seed: int = 0
    ) -> None:
        self.k = integer("k", k, minimum=1)
        self.tolerance = real("tolerance", tolerance, above=0)
        self.guards = integer("guards", guards, minimum=0)
        self.max_products = integer("max_products", max_products, minimum=k + guards)
        self._generator = torch.Generator().manual_seed(integer("seed", seed, minimum=0))
        self._block: Tensor | None = None

    def probe(self, operator: SymmetricOperator) -> Eigenpairs:
        """Return the eigenpairs of ``operator`` and remember their vectors for the next probe.

        Args:
            operator: products with the curvature at the present weights.

        Returns:
            The k largest pairs; see `top_eigenpairs`.

        Raises:
            InvalidInput: the operator has another size than at the last probe.
            NonFiniteCurvature: a product was not finite; the tracker stays as it was.
        """
        found = top_eigenpairs(
            operator,
            self.k,
            tolerance=self.tolerance,
            start=self._block,
            guards=self.guards,
            max_products=self.max_products,
            generator=self._generator,
        )
        self._block = found.block
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the remembered vectors and the random state."""
        return {
            "block": None if self._block is None else self._block.clone(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidInput: the vectors are not a matrix, or an entry is missing.
        """
        if set(state) != {"block", "generator"}:
            raise InvalidInput("state", sorted(state), "a curvature state holds exactly block and generator")
        block = state["block"]
        if block is not None and (not isinstance(block, Tensor) or block.ndim != 2):
            raise InvalidInput("state.block", type(block).__name__, "it must be a matrix of vectors, or None")
        self._generator.set_state(state["generator"].cpu())
        self._block = None if block is None else block.clone()
