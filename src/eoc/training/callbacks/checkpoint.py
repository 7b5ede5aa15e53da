"""Keeps the last state of a run, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint

from eoc.errors import integer
from eoc.training.module import EdgeOfChaosModule


class CheckpointCallback(Checkpoint):
    """Writes ``last.ckpt`` every so many steps and at the end; ``ckpt_path=…/last.ckpt`` goes on from it.

    It runs behind all other callbacks, so that the state it keeps is the one between two steps. The file is replaced
    in one move: an interrupted write leaves the one before. A diverged run keeps its last state before divergence.

    Args:
        every: cadence in steps.
        folder: where ``last.ckpt`` goes.
    """

    def __init__(self, folder: str, every: int = 100) -> None:
        self.every = integer("every", every, minimum=1)
        self.path = Path(folder) / "last.ckpt"

    def on_train_batch_end(self, trainer: Trainer, pl_module: EdgeOfChaosModule, *args: Any) -> None:  # noqa: ARG002
        """Save between two steps."""
        done = trainer.global_step
        if pl_module.divergence is None and (done % self.every == 0 or done == trainer.max_steps):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        partial = self.path.with_suffix(".part")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.path)
