"""Shows where a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from pytorch_lightning import Trainer
from tqdm import tqdm

from eoc.errors import real
from eoc.schedule import phase
from eoc.training.callbacks.base import Measurement
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
        self._last_line = 0.0
        self._product: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: EdgeOfChaosModule) -> None:  # noqa: ARG002
        """Open the bar at the step where this run begins."""
        self._last_line = time.monotonic()
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(total=trainer.max_steps, initial=trainer.global_step, unit="step", dynamic_ncols=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: EdgeOfChaosModule, *args: Any) -> None:  # noqa: ARG002
        """Move on; runs ahead of the recorder, while the step's metrics are there."""
        product = pl_module.metrics.get("lr_x_sharpness")
        self._product = float(product) if product is not None else self._product
        if not trainer.is_global_zero:
            return
        if self._bar is not None:
            self._bar.update(1)
        if self.due(pl_module.step) or pl_module.divergence:
            self._show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: EdgeOfChaosModule) -> None:  # noqa: ARG002
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: EdgeOfChaosModule, exception: BaseException) -> None:  # noqa: ARG002
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, trainer: Trainer, module: EdgeOfChaosModule) -> None:
        known = {"loss": f"{float(module.metrics['train/loss']):.3g}"}
        if module.divergence:
            known["phase"] = "diverged"
        elif self._product is not None:
            known |= {"η·λ": f"{self._product:.2f}", "phase": phase(self._product, module.limit)}
        if self._bar is not None:
            self._bar.set_postfix(known)
        elif time.monotonic() - self._last_line >= self.line_seconds:
            self._last_line = time.monotonic()
            shown = ", ".join(f"{name} {value}" for name, value in known.items())
            print(f"step {module.step} of {trainer.max_steps}: {shown}", file=sys.stderr, flush=True)
