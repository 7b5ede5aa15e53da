"""The curvature of single layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eoc.dynamics.curvature.eigenpairs import Eigenpairs
from eoc.dynamics.curvature.hessian import HessianOperator
from eoc.dynamics.curvature.tracker import CurvatureTracker
from eoc.errors import InvalidInput


class LayerCurvature:
    """Follow the sharpness of each layer: the largest eigenvalue of its own diagonal block of the Hessian.

    A layer's sharpness is what limits its learning rate if it alone were trained; the largest of them is at most the
    sharpness of the whole.

    Args:
        layers: for each layer's name the indices of its parameters in the operator.
        tolerance: largest admitted residual over the layer's sharpness.
        guards: see `CurvatureTracker`.
        max_products: budget of a single layer's probe.
        seed: of the first start vectors.
        caution: see `CurvatureTracker`.
    """

    def __init__(
        self,
        layers: Mapping[str, Sequence[int]],
        tolerance: float = 1e-3,
        guards: int = 1,
        max_products: int = 200,
        seed: int = 0,
        caution: float = 0.0,
    ) -> None:
        self.layers = {name: list(indices) for name, indices in layers.items()}
        self.trackers = {
            name: CurvatureTracker(1, tolerance, guards, max_products, seed, caution=caution) for name in self.layers
        }

    def probe(self, operator: HessianOperator) -> dict[str, Eigenpairs]:
        """Return the top eigenpair of every layer's block of ``operator``."""
        return {name: self.trackers[name].probe(operator.block(indices)) for name, indices in self.layers.items()}

    def state_dict(self) -> dict[str, dict[str, object]]:
        """Return the trackers' states by layer."""
        return {name: tracker.state_dict() for name, tracker in self.trackers.items()}

    def load_state_dict(self, state: Mapping[str, dict[str, object]]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidInput: it is of other layers, or not a tracker's.
        """
        if set(state) != set(self.trackers):
            raise InvalidInput("state", sorted(state), f"it must be of the layers {', '.join(self.trackers)}")
        for name, tracker in self.trackers.items():
            tracker.load_state_dict(state[name])
