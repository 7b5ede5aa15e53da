"""Hands each step's metrics to the loggers, in one call, and remembers the best values."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from eoc.errors import integer
from eoc.training.callbacks.base import StepCallback

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule

BEST = {"train/loss": min, "train/accuracy": max, "test/loss": min, "test/accuracy": max}
Name = TypeVar("Name", bound=Hashable)
MOST = 256  # rows that wait on the device to be read together
ALWAYS = ("train/", "test/", "features/")  # measured at θ_T whatever its cadence
CHEAP = {"train/loss", "train/accuracy", "lr"}  # there at every step, whatever is measured


class Recorder(StepCallback):
    """Empties the module's metrics into every logger once a step; always there, behind all that measure.

    Args:
        every: rows on which nothing but loss, accuracy and rate was measured are logged every so many steps.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = integer("every", every, minimum=1)
        self.last: dict[str, float] = {}  # the last known value of every metric
        self.known_at: dict[str, int] = {}  # the step of each
        self.best: dict[str, dict[str, float]] = {}
        self.unconverged = 0
        self._thinned: list[tuple[int, dict[str, float | Tensor]]] = []  # rows that were not logged, not read yet
        self.seconds = 0.0  # of this process's steps, with what was measured at θ_0, …, θ_T
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clock before anything is measured."""
        self._start = time.perf_counter()

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """Log row t."""
        thinned = module.step % self.every != 0 and module.divergence is None
        if module.metrics.keys() - CHEAP or not thinned:
            self._log(module)
        else:
            self._thinned.append((module.step, dict(module.metrics)))
            if len(self._thinned) == MOST:
                self._read()
        module.metrics.clear()

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Log the last row: θ_T, from which no update was taken; a loss that is not finite there is divergence too."""
        for part in ("train", "test"):
            if f"{part}/loss" not in module.metrics:
                module.metrics.update(module.evaluate(part))
        loss = float(module.metrics["train/loss"])
        if not math.isfinite(loss):
            module.diverge(f"the training loss is {loss}")
        row = self._log(module)
        if module.divergence is not None:  # what is undefined at its end is not what it was at its start
            known = {*self.last, "train/accuracy", "test/accuracy"}
            lost = [name for name in known if name.startswith(ALWAYS) and name not in row]
            self.last.update(dict.fromkeys(lost, math.nan))
        module.metrics.clear()
        self.seconds = time.perf_counter() - self._start

    def state_dict(self) -> dict[str, Any]:
        """Return the last and the best values so far."""
        self._read()
        return {"last": self.last, "known_at": self.known_at, "best": self.best, "unconverged": self.unconverged}

    def take_back(self, module: EdgeOfChaosModule, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Take them back."""
        self.last = {name: float(value) for name, value in state["last"].items()}
        self.known_at = {name: int(step) for name, step in state.get("known_at", {}).items()}  # older ones have none
        self.best = {
            name: {"value": float(known["value"]), "step": int(known["step"])} for name, known in state["best"].items()
        }
        self.unconverged = int(state["unconverged"])

    def _read(self) -> None:
        """Let rows that were not logged count among the last and the best values."""
        fetched = to_numbers({(step, name): value for step, row in self._thinned for name, value in row.items()})
        for step, row in self._thinned:
            self._remember(step, _defined({name: fetched[step, name] for name in row}))
        self._thinned.clear()

    def _remember(self, step: int, row: dict[str, float]) -> None:
        self.last.update(row)
        self.known_at.update(dict.fromkeys(row, step))
        for name, better in BEST.items():
            value = row.get(name, math.nan)
            known = self.best.get(name)
            if not math.isnan(value) and (known is None or better(value, known["value"]) != known["value"]):
                self.best[name] = {"value": value, "step": step}

    def _log(self, module: EdgeOfChaosModule) -> dict[str, float]:
        self._read()
        row = _defined(to_numbers(module.metrics))
        self._remember(module.step, row)
        self.unconverged += (row.get("hessian/converged") == 0) + (row.get("hessian/top_converged") == 0)
        if module.trainer.is_global_zero:
            for logger in module.trainer.loggers:
                logger.log_metrics(row, step=module.step)
        return row


def _defined(row: dict[str, float]) -> dict[str, float]:
    """Leave out undefined (NaN) values, but for losses, whose NaN is what a divergence looks like."""
    return {name: value for name, value in row.items() if name.endswith("/loss") or not math.isnan(value)}


def to_numbers(metrics: dict[Name, float | Tensor]) -> dict[Name, float]:
    """Return the same with every tensor a Python number, fetched from a GPU in one transfer."""
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
    numbers = {name: value for name, value in metrics.items() if not isinstance(value, Tensor)}
    if all(value.is_cpu for value in tensors.values()):
        numbers |= {name: float(value.item()) for name, value in tensors.items()}
    else:
        fetched = torch.stack([value.detach().double() for value in tensors.values()]).tolist()
        numbers |= dict(zip(tensors, fetched, strict=True))
    return {name: numbers[name] for name in metrics}
