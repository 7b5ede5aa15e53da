"""What measuring callbacks have in common."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytorch_lightning import Callback
from torch import Tensor

from eoc.errors import integer

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class Measurement(Callback):
    """A callback that writes numbers into the module's metrics of the current step.

    Args:
        every: cadence in steps; steps 0, every, 2·every, … are measured, and the final weights.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = integer("every", every, minimum=1)

    def due(self, step: int) -> bool:
        """Whether ``step`` is one to measure."""
        return step % self.every == 0

    def write(self, module: EdgeOfChaosModule, name: str, value: Tensor) -> None:
        """Write one number; an undefined (NaN) value is left out."""
        number = value.item()
        if not math.isnan(number):
            module.metrics[name] = number

    def by_layer(self, module: EdgeOfChaosModule, name: str, values: Tensor, over_all: Tensor | None = None) -> None:
        """Write ``name/layer_1`` … and ``name/all``; an undefined (NaN) value is left out."""
        named = dict(zip(module.network.layer_names, values.tolist(), strict=True))
        if over_all is not None:
            named = {"all": over_all.item(), **named}
        module.metrics.update({f"{name}/{key}": value for key, value in named.items() if not math.isnan(value)})
