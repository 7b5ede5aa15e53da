"""Draws the run when it is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning.utilities import rank_zero_warn

from eoc.errors import boolean, integer, text
from eoc.tracking.csv_log import CSVLog
from eoc.tracking.run_folder import METRICS, make_writable
from eoc.training.callbacks.base import MOST_DOTS, StepCallback, drawing, log_figure, takes_images
from eoc.training.past import in_sweep

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class SummaryFigureCallback(StepCallback):
    """``summary.png`` in the run folder, also sent to the loggers that take images.

    Args:
        folder: where the figure goes, the run folder.
        draw: makes the figure from that folder, the one of metrics.csv, the stability limit of η·λ and the step at
            which the run diverged (None if it did not), and returns its path.
        dots_per_inch: resolution.
        always: draw it for those jobs of a sweep too whose loggers take no images, such as CSV alone.
    """

    def __init__(self, folder: str, draw: Callable[..., Path], dots_per_inch: int = 150, always: bool = False) -> None:
        self.dots_per_inch = integer("dots_per_inch", dots_per_inch, 1, MOST_DOTS)
        self.always = boolean("always", always)
        self.folder, self.draw = Path(text("folder", folder)), drawing("draw", draw)

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Refuse a folder that cannot be written, before the first step; say so where there will be no rows to draw."""
        make_writable(self.folder, "callbacks.summary_figure.folder")
        if self._rows(module) is None and not (self.folder / METRICS).exists():
            rank_zero_warn("no logger keeps metrics.csv, which summary.png is drawn from; logger=csv keeps it")

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Draw, behind the recorder; a figure that cannot be drawn is said, and costs nothing else."""
        if not module.trainer.is_global_zero:
            return
        if in_sweep() and not self.always and not any(takes_images(logger) for logger in module.trainer.loggers):
            return
        diverged = module.divergence.step if module.divergence else None
        rows = self._rows(module)
        if rows is None and not (self.folder / METRICS).exists():
            return
        settings = {"limit": module.limit, "diverged": diverged, "dots_per_inch": self.dots_per_inch}
        log_figure(module, "summary", lambda: self.draw(self.folder, rows=rows, **settings))

    def _rows(self, module: EdgeOfChaosModule) -> Path | None:
        """The folder of ``metrics.csv``, if a logger keeps it."""
        return next((logger.path.parent for logger in module.trainer.loggers if isinstance(logger, CSVLog)), None)
