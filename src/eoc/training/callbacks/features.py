"""Logs how far the features have moved."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Trainer

from eoc.dynamics.features import FeatureChange
from eoc.errors import integer
from eoc.training.callbacks.base import Measurement
from eoc.training.module import EdgeOfChaosModule


class FeaturesCallback(Measurement):
    """``features/preactivation_change/layer_k`` (relative, of h_k) and ``features/kernel_change`` (1 − CKA).

    Args:
        every: cadence in steps.
        examples: size of the fixed probe batch, the first training examples.
    """

    def __init__(self, every: int = 1, examples: int = 256) -> None:
        super().__init__(every)
        self.examples = integer("examples", examples, minimum=2)
        self._change: FeatureChange | None = None
        self._state: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: EdgeOfChaosModule) -> None:  # noqa: ARG002
        """Keep the first preactivations, or those that a checkpoint brought."""
        network = pl_module.network
        inputs = pl_module.dataset.to(network.weights[0].device, network.weights[0].dtype).train_inputs[: self.examples]
        self._change = FeatureChange(lambda: network.preactivations(inputs), network.phi)
        if self._state is not None:
            self._change.load_state_dict(self._state)

    def on_train_batch_start(self, trainer: Trainer, pl_module: EdgeOfChaosModule, *args: Any) -> None:  # noqa: ARG002
        """Measure θ_t, before the update."""
        if self.due(trainer.global_step):
            self._write(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: EdgeOfChaosModule) -> None:  # noqa: ARG002
        """Measure θ_T."""
        self._write(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the first preactivations."""
        return self.change.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back when the fit starts."""
        self._state = state_dict

    @property
    def change(self) -> FeatureChange:
        """The measurement; there from the start of the fit."""
        assert self._change is not None, "the fit has not started"
        return self._change

    def _write(self, module: EdgeOfChaosModule) -> None:
        by_layer, kernel = self.change.measure()
        self.by_layer(module, "features/preactivation_change", by_layer)
        self.write(module, "features/kernel_change", kernel)
