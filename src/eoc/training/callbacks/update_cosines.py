"""Logs the cosines of new and cumulative updates, update norms and distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eoc.dynamics.update_cosines import UpdateCosines, UpdateGeometry
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class UpdateCosinesCallback(Measurement):
    """``cosine/cumulative/…``, ``cosine/previous/…``, ``update_norm/…``, ``distance/…``: over all layers and of each.

    Norms and cosines over all layers are in the learning-rate metric ⟨u, v⟩ = Σ_k ⟨u_k, v_k⟩/g_k, those of one layer
    plain. Undefined values are missing, such as the cumulative cosine at step 0. Where the schedule follows the updates
    they are followed once, for both.

    Args:
        every: cadence in steps.
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__(every)
        self._cosines: UpdateCosines | None = None
        self._shared = False  # with the schedule, which then has them measured

    def names(self, module: EdgeOfChaosModule) -> set[str]:
        """Four kinds, each over all layers and of each."""
        kinds = ("cosine/cumulative", "cosine/previous", "update_norm", "distance")
        return {f"{kind}/{part}" for kind in kinds for part in ("all", *module.network.layer_names)}

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Keep θ_0; nothing where the schedule has it."""
        by_schedule = module.schedules_cosines()
        self._shared = by_schedule is not None
        self._cosines = by_schedule or UpdateCosines(list(module.network.weights), module.network.rates)

    def take_back(self, module: EdgeOfChaosModule, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Take the reference that a checkpoint brought; nothing where the schedule has it."""
        if not self._shared:
            self.cosines.load_state_dict(state)

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Have the step watched where this update, or the next one's predecessor, is measured."""
        if self._followed(module.step) and not self._shared:
            module.watchers.append(self.cosines)

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """Write what was measured of Δ_t."""
        geometry = module.geometry
        if not self._shared:
            if not self._followed(module.step):
                self.cosines.forget_previous()
                return
            geometry = self.cosines.after_step()
        if self.due(module.step):
            assert geometry is not None, "the step was followed"
            self._write(module, geometry)

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Measure ‖U_T‖."""
        over_all, by_layer = self.cosines.distance()
        self.by_layer(module, "distance", by_layer, over_all)

    def state_dict(self) -> dict[str, Any]:
        """Return θ_0 and θ_{t−1}."""
        return self.cosines.state_dict()

    @property
    def cosines(self) -> UpdateCosines:
        """The measurement; there from the start of the fit."""
        assert self._cosines is not None, "the fit has not started"
        return self._cosines

    def _followed(self, step: int) -> bool:
        return self.due(step) or self.due(step + 1)

    def _write(self, module: EdgeOfChaosModule, geometry: UpdateGeometry) -> None:
        kinds = ("cosine/cumulative", "cosine/previous", "update_norm", "distance")
        for name, numbers in zip(kinds, geometry.table.tolist(), strict=True):  # the device is waited for once
            self.put(module, name, ["all", *module.network.layer_names], numbers)
