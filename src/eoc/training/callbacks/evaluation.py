"""Logs loss and accuracy on the test part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class EvaluationCallback(Measurement):
    """``test/loss`` and ``test/accuracy`` over the whole test part; the final weights are always evaluated.

    Args:
        every: cadence in steps.
    """

    def __init__(self, every: int = 10) -> None:
        super().__init__(every)

    def before_step(self, module: EdgeOfChaosModule) -> None:
        """Evaluate θ_t."""
        if self.due(module.step):
            module.metrics.update(module.evaluate("test"))
