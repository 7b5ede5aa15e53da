"""Hands each step's metrics to the loggers, in one call, and remembers the best values."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from eoc.training.module import EdgeOfChaosModule

BEST = {"train/loss": min, "train/accuracy": max, "test/loss": min, "test/accuracy": max}


class Recorder(Callback):
    """Empties the module's metrics into every logger once a step; always there, behind all that measure.

    ``trainer.log_every_n_steps`` thins out rows on which nothing but loss, accuracy and rate was measured.
    """

    def __init__(self) -> None:
        self.row: dict[str, float] = {}
        self.best: dict[str, dict[str, float]] = {}
        self.unconverged = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: EdgeOfChaosModule, *args: Any) -> None:  # noqa: ARG002
        """Log row t."""
        measured = pl_module.metrics.keys() - {"train/loss", "train/accuracy", "lr"}
        if measured or pl_module.step % trainer.log_every_n_steps == 0 or pl_module.divergence:
            self._log(trainer, pl_module)
        pl_module.metrics.clear()

    def on_train_end(self, trainer: Trainer, pl_module: EdgeOfChaosModule) -> None:
        """Log the last row: θ_T, from which no update was taken."""
        pl_module.metrics.update(pl_module.evaluate("train"))
        pl_module.metrics.update(pl_module.evaluate("test"))
        self._log(trainer, pl_module)
        pl_module.metrics.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the best values so far."""
        return {"best": self.best, "unconverged": self.unconverged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.best, self.unconverged = state_dict["best"], state_dict["unconverged"]

    def _log(self, trainer: Trainer, module: EdgeOfChaosModule) -> None:
        self.row = to_numbers(module.metrics)
        for name, better in BEST.items():
            value = self.row.get(name)
            if value is not None and value == value:
                known = self.best.get(name)
                if known is None or (value != known["value"] and better(value, known["value"]) == value):
                    self.best[name] = {"value": value, "step": module.step}
        self.unconverged += self.row.get("hessian/converged") == 0
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(self.row, step=module.step)


def to_numbers(metrics: dict[str, float | Tensor]) -> dict[str, float]:
    """The same with every tensor a Python number, fetched from the device in one transfer."""
    names = [name for name, value in metrics.items() if isinstance(value, Tensor)]
    fetched = {}
    if names:
        stacked = torch.stack([metrics[name].detach().double() for name in names])  # type: ignore[union-attr]
        fetched = dict(zip(names, stacked.tolist(), strict=True))
    return {name: fetched[name] if name in fetched else value for name, value in metrics.items()}  # type: ignore[misc]
