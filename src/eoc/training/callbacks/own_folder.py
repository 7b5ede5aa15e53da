"""A run takes its folder over at its first step, when nothing can be refused any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from eoc.tracking.run_folder import CHECKPOINT
from eoc.training.past import begin, leads


class OwnFolder(Callback):
    """Leaves ``config.json``, and deletes a checkpoint of another run, which would be taken for this run's later.

    Args:
        folder: of the run.
        identity: of its settings.
        resolved: the resolved config.
    """

    def __init__(self, folder: Path, identity: str, resolved: dict[str, Any]) -> None:
        self.folder, self.identity, self.resolved = folder, identity, resolved
        self.kept = folder / CHECKPOINT  # where the run keeps its own
        self.source: Path | str | None = None  # the checkpoint from which the run goes on
        self.greeting: list[str] = []  # what is said when it does
        self.began = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Take over: all callbacks are ready, and a checkpoint has been read."""
        self.began = True
        if not leads():
            return
        for line in self.greeting:
            print(line, flush=True)
        if self.source is None or Path(self.source).resolve() != self.kept.resolve():
            self.kept.unlink(missing_ok=True)
        begin(self.folder, self.identity, self.resolved)
