"""A callback with which one job of a sweep kills its own process."""

from __future__ import annotations

import os
import signal
from typing import Any

from eoc.training.callbacks.base import StepCallback


class Saboteur(StepCallback):
    """Kills the process at the second step of the run with ``seed``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def after_step(self, module: Any) -> None:
        if module.seed == self.seed and module.step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
