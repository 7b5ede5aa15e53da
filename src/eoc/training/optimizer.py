"""Gradient descent that can be watched layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eoc.dynamics.update_cosines import UpdateCosines


class LayerwiseSGD(torch.optim.SGD):
    """`torch.optim.SGD`, one parameter group a layer; while it is watched it steps one layer after the other.

    The values are those of the step at once. Whoever watches needs a copy of one layer, not of the network.

    Args:
        weights: the layers' weights.
        rates: the learning rate of each.
        momentum: β of heavy-ball gradient descent, 0 for plain.

    Attributes:
        watchers: who measures the next step's update; the caller sets it anew for every step.
    """

    def __init__(self, weights: Sequence[Tensor], rates: Sequence[float], momentum: float) -> None:
        groups = [{"params": [weight], "lr": rate} for weight, rate in zip(weights, rates, strict=True)]
        super().__init__(groups, momentum=momentum)
        self.watchers: Sequence[UpdateCosines] = ()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; ``closure`` computes the gradients first."""
        if not self.watchers:
            return super().step(closure)
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        groups = self.param_groups
        try:
            for layer, group in enumerate(groups):
                for watcher in self.watchers:
                    watcher.before_layer(layer)
                self.param_groups = [group]
                super().step()
                for watcher in self.watchers:
                    watcher.after_layer(layer)
        finally:
            self.param_groups = groups
        return result
