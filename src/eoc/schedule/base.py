"""What every learning-rate rule does: say what it must be told, be told, give the rate, save its state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from eoc.errors import InvalidInput, RunFailure, choice, real

UNITS = ("inverse_sharpness", "absolute")
SOURCES = ("hessian", "critical")
LATER = ("unit", "first_rate", "source")  # what states of before it was kept lack


class Schedule(ABC):
    """A rule for the global learning rate η_t; layer k then moves with η_t·g_k, which is not its business.

    Time t is the integer step, from 0. Every step goes: where `needs_sharpness` says so, measure the
    sharpness λ_t = λ_max(D^½ H D^½) at θ_t and `tell` it; take `rate`; update the parameters; where
    `needs_cosine` is true, `tell` the cosine of that update with the cumulative one, undefined (None or NaN)
    or not. A sharpness that was not asked for is ignored, so a run does not depend on who else measures.

    Attributes:
        needs_cosine: whether ``tell(step, cosine=...)`` is required after every step.
        source: which curvature it wants to be told as the sharpness: ``hessian`` for λ, or ``critical`` for the
            critical sharpness λ_c (`eoc.dynamics.curvature.critical_sharpness`).
    """

    needs_cosine: bool = False
    source: str = "hessian"

    def needs_sharpness(self, step: int) -> bool:  # noqa: ARG002
        """Return whether λ_t must be told before ``rate(step)``.

        Args:
            step: t, from 0.
        """
        return False

    @abstractmethod
    def tell(self, step: int, *, sharpness: float | None = None, cosine: float | None = None) -> None:
        """Take in what was measured at one step.

        Args:
            step: t, from 0.
            sharpness: λ_t at θ_t in the learning-rate metric, in units of 1/η; None where not measured.
            cosine: cos_t of the update θ_{t+1} − θ_t with θ_t − θ_0, in [−1, 1]; None or NaN where undefined.

        Raises:
            RunFailure: if a sharpness that was asked for gives no rate, or a rule that keeps what it is told has been
                told of a later step.
        """

    @abstractmethod
    def rate(self, step: int) -> float:
        """Return η_t; asking twice changes nothing.

        Args:
            step: t, from 0.

        Raises:
            RunFailure: if something that is needed was not told.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured so far (plain numbers, lists and strings), none of the settings."""
        return {"rule": type(self).__name__, **self._measured()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Args:
            state: the saved state of a rule of the same class; its settings may differ.

        Raises:
            InvalidInput: if it is the state of another rule, lacks something, or has no meaning under these settings.
        """
        own = type(self).__name__
        saved = state.get("rule")
        if saved != own:
            raise InvalidInput(
                "state",
                saved,
                f"this run uses {own}; continue with the schedule the checkpoint was written with",
            )
        kept = self._measured()
        lacking = [name for name in kept if name not in state and name not in LATER]
        if lacking:
            raise InvalidInput("state", state, f"it lacks {', '.join(lacking)}; give what state_dict() returned")
        self._restore({name: state[name] for name in kept if name in state})

    @abstractmethod
    def _measured(self) -> dict[str, Any]: ...

    @abstractmethod
    def _restore(self, measured: dict[str, Any]) -> None: ...


class Scaled(Schedule):
    """A rule in units of 1/λ_0 or of η itself: η_t = r_t/λ_0 or η_t = r_t.

    λ_0, the sharpness told at step 0, is measured once and is part of the state.

    Args:
        rate: the r that r_t is built from, a number above 0, in the unit below.
        unit: ``inverse_sharpness`` (of 1/λ_0) or ``absolute`` (of η itself).

    Raises:
        InvalidInput: if one of them is not allowed.
    """

    def __init__(self, rate: object, unit: object) -> None:
        self.base_rate = real("rate", rate, above=0.0)
        self.unit = choice("unit", unit, UNITS)
        self._initial_sharpness: float | None = None

    @abstractmethod
    def in_unit(self, step: int) -> float:
        """Return r_t, the rate in the unit that was set.

        Args:
            step: t, from 0.
        """

    def needs_sharpness(self, step: int) -> bool:
        """Return True at step 0 if the rate is in units of 1/λ_0.

        Args:
            step: t, from 0.
        """
        return step == 0 and self.unit == "inverse_sharpness"

    def tell(self, step: int, *, sharpness: float | None = None, cosine: float | None = None) -> None:  # noqa: ARG002
        """Keep λ_0 if it was asked for.

        Args:
            step: t, from 0.
            sharpness: λ_t, in units of 1/η.
            cosine: ignored.

        Raises:
            RunFailure: if λ_0 is not a finite number above 0.
        """
        if sharpness is None or not self.needs_sharpness(step):
            return
        if not usable_sharpness(sharpness, step):
            raise no_rate(sharpness, step)
        self._initial_sharpness = float(sharpness)

    def rate(self, step: int) -> float:
        """Return η_t = r_t/λ_0, or r_t where the unit is absolute.

        Args:
            step: t, from 0.

        Raises:
            RunFailure: if λ_0 is needed and was not told.
        """
        rate = self.in_unit(step)
        if self.unit == "absolute":
            return rate
        if self._initial_sharpness is None:
            raise not_told("sharpness", 0, step)
        return rate / self._initial_sharpness

    def _measured(self) -> dict[str, Any]:
        return {"initial_sharpness": self._initial_sharpness, "unit": self.unit}

    def _restore(self, measured: dict[str, Any]) -> None:
        initial = measured["initial_sharpness"]
        self._initial_sharpness = None if initial is None else real("state.initial_sharpness", initial, above=0.0)
        if self.unit == "inverse_sharpness" and self._initial_sharpness is None and measured.get("unit") == "absolute":
            rule = "the run began with rates in absolute units, without measuring λ_0; keep absolute"
            raise InvalidInput("unit", self.unit, rule)


def usable_sharpness(sharpness: float, step: int) -> bool:
    """Return whether a rate can be a multiple of 1/λ, that is whether λ > 0.

    Args:
        sharpness: λ, in units of 1/η.
        step: where it was measured.

    Raises:
        RunFailure: if it is NaN or infinite.
    """
    if not math.isfinite(sharpness):
        raise RunFailure(f"The sharpness told at step {step} is {sharpness}: the loss or its curvature is not finite.")
    return sharpness > 0


def no_rate(sharpness: float, step: int) -> RunFailure:
    """Return the complaint that a rate in units of 1/λ has no value yet.

    Args:
        sharpness: the λ ≤ 0 that was told.
        step: where it was measured.
    """
    return RunFailure(
        f"The sharpness told at step {step} is {sharpness:g}, so no learning rate can be a multiple of its "
        "inverse: the network starts dead or in a concave place; try another seed or initialization, "
        "or a schedule whose rate is absolute (unit: absolute)."
    )


def not_told(what: str, measured_at: int, step: int) -> RunFailure:
    """Return the complaint that ``rate(step)`` was asked for too early.

    Args:
        what: ``sharpness`` or ``cosine``.
        measured_at: the step whose measurement is missing.
        step: the step whose rate was asked for.
    """
    return RunFailure(
        f"The learning rate of step {step} needs the {what} of step {measured_at}, which nobody has told the "
        f"schedule: call tell({measured_at}, {what}=...) first."
    )


def already_told(step: int, last: int) -> RunFailure:
    """Return the complaint that ``tell`` goes back in time, as it does when one schedule is used for a second run.

    Args:
        step: the step that was told.
        last: the last one before.
    """
    return RunFailure(
        f"The schedule is told of step {step}, but has been told up to step {last}; a new run needs a new schedule "
        "(or load its state)."
    )
