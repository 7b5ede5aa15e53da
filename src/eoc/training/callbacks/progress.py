"""Shows where a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pytorch_lightning import LightningModule, Trainer
from tqdm import tqdm

from eoc.errors import real
from eoc.schedule import phase
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class ProgressCallback(Measurement):
    """Step rate, loss, η·λ and phase (monotone, edge, catapult, diverged).

    Args:
        every: cadence in steps at which the numbers are read (which waits for the device).
        line_seconds: s between lines where the output is not a terminal.
    """

    def __init__(self, every: int = 10, line_seconds: float = 10.0) -> None:
        super().__init__(every)
        self.line_seconds = real("line_seconds", line_seconds, minimum=0.0)
        self._bar: tqdm | None = None
        self._last_line, self._last_step = 0.0, 0
        self._product: float | None = None

    def prepare(self, module: EdgeOfChaosModule) -> None:
        """Open the bar at the step where this run begins."""
        self._last_line, self._last_step = time.monotonic(), module.first_step - 1
        trainer = module.trainer
        if trainer.is_global_zero and sys.stderr.isatty():
            width: dict[str, Any] = {"dynamic_ncols": True} if _has_width() else {"ncols": 100, "nrows": 20}
            self._bar = tqdm(total=trainer.max_steps, initial=module.first_step, unit="step", **width)

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """Move on; runs ahead of the recorder, while the step's metrics are there."""
        product = module.metrics.get("lr_x_sharpness")
        self._product = float(product) if product is not None else self._product
        if not module.trainer.is_global_zero:
            return
        if self._bar is not None:
            self._bar.update(1)
        if self.due(module.step) or module.divergence:
            self._show(module)

    def at_end(self, module: EdgeOfChaosModule) -> None:  # noqa: ARG002
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, module: EdgeOfChaosModule) -> None:
        known = {"loss": f"{float(module.metrics['train/loss']):.3g}"}
        if module.divergence:
            known["phase"] = "diverged"
        elif self._product is not None and math.isfinite(self._product):
            known |= {"η·λ": f"{self._product:.2f}", "phase": phase(self._product, module.limit)}
        if self._bar is not None:
            self._bar.set_postfix(known)
        elif (seconds := time.monotonic() - self._last_line) >= self.line_seconds:
            rate = (module.step - self._last_step) / seconds
            self._last_line, self._last_step = time.monotonic(), module.step
            shown = ", ".join([f"{rate:.3g} steps/s", *(f"{name} {value}" for name, value in known.items())])
            print(f"step {module.step} of {module.trainer.max_steps}: {shown}", file=sys.stderr, flush=True)


def _has_width() -> bool:
    """Whether the terminal says how wide it is; one that says 0 (a container's) would be shown no bar at all."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except OSError:
        return False
