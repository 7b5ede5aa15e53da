"""Keeps the last state of a run, whole or not at all."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from eoc.errors import integer, text
from eoc.tracking.run_folder import make_writable
from eoc.training.callbacks.base import StepCallback

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class InPlace(TorchCheckpointIO):
    """Writes where it is told to: Lightning's own goes through TMPDIR, which may be another disk, and full."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ARG002
        """Write the file, or leave none and say in which folder there is no room."""
        buffer = io.BytesIO()  # PyTorch hides what the disk says
        torch.save(checkpoint, buffer)
        file = Path(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(buffer.getbuffer())
        except OSError as error:
            with suppress(OSError):
                file.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(file.parent)) from error


class CheckpointCallback(StepCallback, Checkpoint):
    """Writes ``last.ckpt`` every so many steps and after the last; ``ckpt_path=…/last.ckpt`` goes on from it.

    Lightning runs checkpoints behind all other callbacks, so the state it keeps is the one between two steps. The
    file is replaced in one move: an interrupted write leaves the one before. That of the last step takes its place
    when the final weights have been measured: a run that is cut off meanwhile goes on from the one before. A diverged
    run keeps its last state before divergence, and weights that are not finite are never kept.

    Args:
        folder: where ``last.ckpt`` goes.
        every: cadence in steps.
    """

    def __init__(self, folder: str, every: int = 100) -> None:
        self.every = integer("every", every, minimum=1)
        self.path = Path(text("folder", folder)) / "last.ckpt"
        self._waits = False  # whether what was saved last is not in its place yet

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Refuse a folder that cannot be written, before the first step."""
        make_writable(self.path.parent, "callbacks.checkpoint.folder")
        strategy = module.trainer.strategy
        if type(strategy.checkpoint_io) is TorchCheckpointIO:  # and not one of the user's
            strategy.checkpoint_io = InPlace()

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """Save between two steps."""
        trainer = module.trainer
        done = trainer.global_step
        due = module.divergence is None and (done % self.every == 0 or done == trainer.max_steps)
        if due and all(bool(torch.isfinite(weight).all()) for weight in module.network.weights):
            for logger in trainer.loggers:
                logger.save()  # a run that goes on from here logs what comes after alone
            trainer.save_checkpoint(self._partial)
            self._waits = done == trainer.max_steps
            if not self._waits:
                self._keep(module)

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Keep what was saved after the last step."""
        if self._waits:
            self._keep(module)

    @property
    def _partial(self) -> Path:
        return self.path.with_suffix(".part")

    def _keep(self, module: EdgeOfChaosModule) -> None:
        if module.trainer.is_global_zero:
            self._partial.replace(self.path)
