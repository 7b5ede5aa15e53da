"""Draws the run when it is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning.utilities import rank_zero_warn

from eoc.errors import integer, text
from eoc.training.callbacks.base import StepCallback

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class SummaryFigureCallback(StepCallback):
    """``summary.png`` in the run folder, also sent to the loggers that take images.

    Args:
        folder: the run folder.
        draw: makes the figure from the folder, the stability limit of η·λ and the step at which the run diverged (None
            if it did not), and returns its path.
        dots_per_inch: resolution.
    """

    def __init__(self, folder: str, draw: Callable[..., Path], dots_per_inch: int = 150) -> None:
        self.dots_per_inch = integer("dots_per_inch", dots_per_inch, minimum=1)
        self.folder, self.draw = Path(text("folder", folder)), draw

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Draw, behind the recorder; a figure that cannot be drawn is said, and costs nothing else."""
        if not module.trainer.is_global_zero:
            return
        try:
            diverged = module.divergence.step if module.divergence else None
            figure = self.draw(self.folder, limit=module.limit, diverged=diverged, dots_per_inch=self.dots_per_inch)
        except Exception as error:
            rank_zero_warn(f"summary.png could not be drawn: {error}")
            return
        for logger in module.trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("summary", [figure])
