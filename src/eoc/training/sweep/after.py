"""What follows a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class AfterSweep(Callback):
    """Hands a sweep's folder on when all its jobs have a result.

    Args:
        then: called with ``folder``.
    """

    def __init__(self, then: Callable[..., None]) -> None:
        self.then = then

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Call it."""
        self.then(folder=Path(config.hydra.sweep.dir))
