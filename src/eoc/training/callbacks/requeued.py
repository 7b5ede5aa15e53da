"""Lets a queue that will start this run again decide when it ends."""

from __future__ import annotations

import signal
import threading

from pytorch_lightning import Callback, LightningModule, Trainer


class Requeued(Callback):
    """Gives SIGTERM back to submitit, which answers it by going on.

    A queue that preempts a job sends SIGTERM first, and SIGUSR2, at which submitit requeues it, or SIGKILL later. With
    Lightning's handler the run would end at the first, and not be requeued.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Remember submitit's answer, before Lightning sets its own."""
        self._answer = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Put it back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._answer)
