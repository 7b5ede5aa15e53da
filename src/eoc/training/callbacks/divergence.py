"""Ends a run that has blown up, as a result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eoc.errors import real
from eoc.training.callbacks.base import Measurement

if TYPE_CHECKING:
    from eoc.training.module import EdgeOfChaosModule


class DivergenceCallback(Measurement):
    """Marks a run as ``diverged`` when its training loss is not finite or exceeds a bound.

    Args:
        every: cadence in steps.
        bound: largest loss that is let go on, in units of the first one.
    """

    def __init__(self, every: int = 1, bound: float = 1e4) -> None:
        super().__init__(every)
        self.bound = real("bound", bound, above=1.0)
        self._first: float | None = None

    def after_step(self, module: EdgeOfChaosModule) -> None:
        """Look at the loss at θ_t."""
        if self.due(module.step):
            self._judge(module)

    def at_end(self, module: EdgeOfChaosModule) -> None:
        """Look at the loss at θ_T."""
        module.metrics.update(module.evaluate("train"))
        self._judge(module)

    def state_dict(self) -> dict[str, Any]:
        """Return the first loss."""
        return {"first": self._first}

    def take_back(self, module: EdgeOfChaosModule, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Take it back."""
        self._first = None if state["first"] is None else float(state["first"])

    def _judge(self, module: EdgeOfChaosModule) -> None:
        loss = float(module.metrics["train/loss"])
        if self._first is None and loss > 0.0 and math.isfinite(loss):
            self._first = loss
        if not math.isfinite(loss):
            module.diverge(f"the training loss is {loss}")
        elif self._first is not None and loss > self.bound * self._first:
            limit = f"{self.bound:g} times the first one, {self._first:.3g}"
            module.diverge(f"the training loss {loss:.3g} exceeds {limit}")
