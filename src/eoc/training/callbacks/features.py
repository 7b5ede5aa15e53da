"""Logs how far the features have moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eoc.dynamics.features import FeatureChange
from eoc.errors import InvalidInput, integer
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule

REMOVED = "this callback with ~callbacks.features"


class FeaturesCallback(Measurement):
    """``features/preactivation_change/layer_k`` (relative, of h_k) and ``features/kernel_change`` (1 − CKA).

    Args:
        every: cadence in steps.
        examples: size of the fixed probe batch, the first training examples (all, where there are fewer).
    """

    def __init__(self, every: int = 10, examples: int = 256) -> None:
        super().__init__(every)
        self.examples = integer("examples", examples, minimum=2)
        self._change: FeatureChange | None = None
        self._state: dict[str, Any] | None = None
        self._probe = torch.zeros(0)

    def names(self, module: EdgeOfChaosModule) -> set[str]:
        """One by layer, one of the last hidden layer."""
        layers = {f"features/preactivation_change/{name}" for name in module.network.layer_names}
        return {*layers, "features/kernel_change"}

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Keep the first preactivations, or those that a checkpoint brought."""
        network, inputs = module.network, module.dataset.train_inputs[: self.examples]
        self._probe = _marks(inputs)
        self._change = FeatureChange(lambda: network.preactivations(inputs), network.phi)
        if self._state is not None:
            kept = len(self._state["initial"][0])
            if kept != len(inputs):
                rule = f"the checkpoint began with the features of {kept} examples, this run has {len(inputs)}"
                remedy = f"set it and dataset.n_train as they were, or remove {REMOVED}"
                raise InvalidInput("callbacks.features.examples", self.examples, f"{rule}; {remedy}")
            there = self._state.get("probe")
            if there is not None and not torch.allclose(there, self._probe, rtol=1e-3, atol=1e-3):
                rule = "the checkpoint began with the features of other training examples; keep the dataset's settings"
                raise InvalidInput("callbacks.features.examples", self.examples, f"{rule}, or remove {REMOVED}")
            self._change.load_state_dict({name: value for name, value in self._state.items() if name != "probe"})

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
        """Return the first preactivations, and what tells their examples from others."""
        return {**self.change.state_dict(), "probe": self._probe}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back when the fit starts."""
        self._state = state_dict

    @property
    def change(self) -> FeatureChange:
        """The measurement; there from the start of the fit."""
        assert self._change is not None, "the fit has not started"
        return self._change


def _marks(inputs: Tensor) -> Tensor:
    """A number for each example that tells it from others, of whatever precision and device."""
    flat = inputs.double().flatten(1).cpu()
    return flat @ torch.linspace(-1, 1, flat.shape[1], dtype=torch.float64)
