"""Logs how far the features have moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eoc.dynamics.features import FeatureChange
from eoc.errors import InvalidInput, integer
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class FeaturesCallback(Measurement):
    """``features/preactivation_change/layer_k`` (relative, of h_k) and ``features/kernel_change`` (1 − CKA).

    Args:
        every: cadence in steps.
        examples: size of the fixed probe batch, the first training examples.
    """

    def __init__(self, every: int = 10, examples: int = 256) -> None:
        super().__init__(every)
        self.examples = integer("examples", examples, minimum=2)
        self._change: FeatureChange | None = None
        self._state: dict[str, Any] | None = None

    def names(self, module: EdgeOfChaosModule) -> set[str]:
        """One by layer, one of the last hidden layer."""
        layers = {f"features/preactivation_change/{name}" for name in module.network.layer_names}
        return {*layers, "features/kernel_change"}

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Keep the first preactivations, or those that a checkpoint brought."""
        network, inputs = module.network, module.dataset.train_inputs[: self.examples]
        self._change = FeatureChange(lambda: network.preactivations(inputs), network.phi)
        if self._state is not None:
            kept = len(self._state["initial"][0])
            if kept != len(inputs):
                rule = f"the checkpoint began with the features of {kept} examples, this run has {len(inputs)}"
                remedy = "set it and dataset.n_train as they were, or remove this callback with ~callbacks.features"
                raise InvalidInput("callbacks.features.examples", self.examples, f"{rule}; {remedy}")
            self._change.load_state_dict(self._state)

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Measure θ_t."""
        if self.due(module.step):
            self.at_end(module)

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Measure the present weights."""
        by_layer, kernel = self.change.measure()
        self.by_layer(module, "features/preactivation_change", by_layer)
        self.write(module, "features/kernel_change", kernel)

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
