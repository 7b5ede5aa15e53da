"""Logs what a step does to each layer: the coordinate check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eoc.dynamics.layer_steps import layer_steps
from eoc.errors import integer
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class LayerStepsCallback(Measurement):
    """``layer_step/preactivations/layer_k`` (r_k), ``layer_step/output_share/layer_k``, ``layer_step/output``.

    See `eoc.dynamics.layer_steps.LayerSteps`; they describe the update Δ_t on a fixed probe batch. Beside them
    ``layer_step/mean_residual``, the RMS over outputs of the batch's mean residual f − y before the step (softmax − y
    for the cross-entropy): inputs grow alike from layer to layer, so that this is what a step acts on.

    Args:
        every: cadence in steps.
        examples: size of the fixed probe batch, the first training examples.
    """

    def __init__(self, every: int = 1, examples: int = 256) -> None:
        super().__init__(every)
        self.examples = integer("examples", examples, minimum=1)
        self._before: list[Tensor] = []

    def names(self, module: EdgeOfChaosModule) -> set[str]:
        """Two by layer, two of the output."""
        kinds = ("layer_step/preactivations", "layer_step/output_share")
        whole = {"layer_step/output", "layer_step/mean_residual"}
        return whole | {*(f"{kind}/{name}" for kind in kinds for name in module.network.layer_names)}

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Remember θ_t."""
        if self.due(module.step):
            self._before = [weight.detach().clone() for weight in module.network.weights]
            self._write_residual(module)

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """Measure Δ_t."""
        if self.due(module.step):
            inputs = module.dataset.train_inputs[: self.examples]
            step = layer_steps(module.network, inputs, self._before, list(module.network.weights))
            self.by_layer(module, "layer_step/preactivations", step.preactivations)
            self.by_layer(module, "layer_step/output_share", step.shares)
            self.write(module, "layer_step/output", step.output)
            self._before = []

    def _write_residual(self, module: EdgeOfChaosModule) -> None:
        inputs, targets = (
            part[: self.examples] for part in (module.dataset.train_inputs, module.dataset.train_targets)
        )
        with torch.enable_grad():
            outputs = module.network(inputs).detach().requires_grad_()
            (residuals,) = torch.autograd.grad(module.loss(outputs, targets), outputs)  # of a mean: each is over n
        self.write(module, "layer_step/mean_residual", residuals.sum(0, dtype=torch.float64).square().mean().sqrt())
