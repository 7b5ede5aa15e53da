"""Logs loss and accuracy on the test part."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Trainer

from eoc.training.callbacks.base import Measurement
from eoc.training.module import EdgeOfChaosModule


class EvaluationCallback(Measurement):
    """``test/loss`` and ``test/accuracy`` over the whole test part. (The final weights are always evaluated.)

    Args:
        every: cadence in steps.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: EdgeOfChaosModule, *args: Any) -> None:  # noqa: ARG002
        """Evaluate θ_t, before the update."""
        if self.due(trainer.global_step):
            pl_module.metrics.update(pl_module.evaluate("test"))
