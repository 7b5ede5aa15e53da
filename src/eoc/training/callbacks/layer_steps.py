"""Logs what a step does to each layer: the coordinate check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from eoc.dynamics.layer_steps import layer_steps
from eoc.errors import integer
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class LayerStepsCallback(Measurement):
    """``layer_step/preactivations/layer_k`` (r_k), ``layer_step/output_share/layer_k``, ``layer_step/output``.

    See `eoc.dynamics.layer_steps.LayerSteps`; they describe the update Δ_t on a fixed probe batch.

    Args:
        every: cadence in steps.
        examples: size of the fixed probe batch, the first training examples.
    """

    def __init__(self, every: int = 1, examples: int = 256) -> None:
        super().__init__(every)
        self.examples = integer("examples", examples, minimum=1)
        self._before: list[Tensor] = []

    def names(self, module: EdgeOfChaosModule) -> set[str]:
        """Two by layer, one of the output."""
        kinds = ("layer_step/preactivations", "layer_step/output_share")
        return {"layer_step/output", *(f"{kind}/{name}" for kind in kinds for name in module.network.layer_names)}

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Remember θ_t."""
        if self.due(module.step):
            self._before = [weight.detach().clone() for weight in module.network.weights]

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """Measure Δ_t."""
        if self.due(module.step):
            inputs = module.dataset.train_inputs[: self.examples]
            step = layer_steps(module.network, inputs, self._before, list(module.network.weights))
            self.by_layer(module, "layer_step/preactivations", step.preactivations)
            self.by_layer(module, "layer_step/output_share", step.shares)
            self.write(module, "layer_step/output", step.output)
            self._before = []
