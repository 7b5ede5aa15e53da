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
        self._probe = torch.zeros(0)

    def names(self, module: EdgeOfChaosModule) -> set[str]:
        """One by layer, one of the last hidden layer."""
        layers = {f"features/preactivation_change/{name}" for name in module.network.layer_names}
        return {*layers, "features/kernel_change"}

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Keep the first preactivations."""
        network, inputs = module.network, module.dataset.train_inputs[: self.examples]
        self._probe = _marks(inputs)
        self._change = FeatureChange(lambda: network.preactivations(inputs), network.phi)

    def take_back(self, module: EdgeOfChaosModule, state: dict[str, Any]) -> None:
        """Take the preactivations that a checkpoint brought, if they are of the same examples."""
        kept, here = len(state["initial"][0]), len(self._probe)
        if kept != here:
            rule = f"it began with the features of {kept} examples, this run has {here}"
            remedy = f"set dataset.n_train and callbacks.features.examples as they were, or remove {REMOVED}"
            raise InvalidInput("ckpt_path", module.trainer.ckpt_path, f"{rule}; {remedy}")
        there = state.get("probe")
        if there is not None and not torch.allclose(there, self._probe, rtol=1e-3, atol=1e-3):
            rule = "it began with the features of other training examples; keep the dataset's settings"
            raise InvalidInput("ckpt_path", module.trainer.ckpt_path, f"{rule}, or remove {REMOVED}")
        self.change.load_state_dict({name: value for name, value in state.items() if name != "probe"})

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

    @property
    def change(self) -> FeatureChange:
        """The measurement; there from the start of the fit."""
        assert self._change is not None, "the fit has not started"
        return self._change


def _marks(inputs: Tensor) -> Tensor:
    """A number for each example that tells it from others, of whatever precision and device."""
    flat = inputs.double().flatten(1).cpu()
    return flat @ torch.linspace(-1, 1, flat.shape[1], dtype=torch.float64)
