"""The geometry-aware rule: the rate follows the curvature."""

from __future__ import annotations

from typing import Any

from eoc.errors import InvalidInput, choice, integer, optional, real, under
from eoc.schedule.base import SOURCES, Schedule, already_told, no_rate, not_told, usable_sharpness
from eoc.schedule.bounds import bounds, clip


class Geometric(Schedule):
    """The rate holds η·λ at κ, in whichever phase κ names: η_t = κ/λ_t.

    κ is the true product η·λ, whatever the optimizer. For gradient descent κ < 2 is stable descent, 2 the
    edge, and 2 < κ < 4 stays in the catapult phase for as long as the run lasts (with cross-entropy until the data
    are separated); with heavy ball of momentum β the edge is at κ = 2(1+β) (`eoc.schedule.stability_limit`).

    λ_t is told at multiples of ``interval`` and held in between. In the catapult phase the network bounces
    with period two and λ with it (by a factor 1.5 at κ = 2.5): an even interval sees one side of the valley
    only, so odd ones are better, and ``smoothing = 2`` with an odd interval averages both sides. λ must be
    precise: with an unconverged one the true product wanders far from κ.

    A told λ ≤ 0 gives no rate: the last usable one is held.

    With ``source = critical`` it is told the critical sharpness λ_c in the place of λ: η_t = κ/λ_c, so that κ = 2
    is the step at which the loss along full-batch gradient descent's update is back at its old value (no statement
    on momentum's or a smaller batch's). No Hessian product is needed; how λ_c differs from λ in the phases is
    measured in docs/curvature.md.

    Args:
        kappa: κ, a number above 0.
        interval: steps from one probe of λ to the next, at least 1.
        smoothing: number of last probes whose arithmetic mean is λ_t, at least 1 (1 = the last one alone).
        min_rate: lower bound of η, above 0; None for none.
        max_rate: upper bound of η, above 0; None for none.
        cooldown: fraction of the run, at its end, over which κ moves linearly to ``cooldown_kappa``, in
            [0, 1] (0 = no cooldown). The last step of the run has ``cooldown_kappa`` exactly.
        cooldown_kappa: κ at the last step, above 0 and below 2.
        total_steps: length of the run in steps, at least 1; None is allowed without a cooldown.
        source: the curvature that is told as λ_t, ``hessian`` (λ) or ``critical`` (λ_c).

    Raises:
        InvalidInput: if one of them is not allowed.

    Source: a geometry-aware schedule that prolongs the catapult phase is the idea of arXiv:2502.13110; this
    rule is derived, see docs/theory.md.
    """

    def __init__(
        self,
        kappa: object = 2.5,
        interval: object = 1,
        smoothing: object = 1,
        min_rate: object = None,
        max_rate: object = None,
        cooldown: object = 0.0,
        cooldown_kappa: object = 1.0,
        total_steps: object = None,
        source: object = "hessian",
    ) -> None:
        self.base_kappa = real("kappa", kappa, above=0.0)
        self.interval = integer("interval", interval, minimum=1)
        self.smoothing = integer("smoothing", smoothing, minimum=1)
        self.min_rate, self.max_rate = bounds(min_rate, max_rate)
        self.cooldown = real("cooldown", cooldown, minimum=0.0, maximum=1.0)
        self.cooldown_kappa = real("cooldown_kappa", cooldown_kappa, above=0.0, below=2.0)
        self.total_steps = optional(integer, "total_steps", total_steps, minimum=1)
        if self.cooldown > 0 and self.total_steps is None:
            raise InvalidInput("total_steps", total_steps, "a cooldown needs the length of the run, in steps")
        self.source = choice("source", source, SOURCES)
        self._probes: list[float] = []
        self._told_step = -1

    def needs_sharpness(self, step: int) -> bool:
        """Return True at multiples of the interval, and later if the probe due there was not told.

        Args:
            step: t, from 0.
        """
        return step % self.interval == 0 or self._told_step < self._due(step)

    def tell(self, step: int, *, sharpness: float | None = None, cosine: float | None = None) -> None:  # noqa: ARG002
        """Keep λ_t if it was asked for; one that is not above 0 leaves the last usable ones in place.

        Args:
            step: t, from 0; telling the same step again changes nothing.
            sharpness: λ_t at θ_t in the learning-rate metric, in units of 1/η.
            cosine: ignored.

        Raises:
            RunFailure: if λ_t is NaN or infinite, if it is not above 0 and there is no usable one yet, or if a later
                step has been told.
        """
        if sharpness is None:
            return
        if step < self._told_step:
            raise already_told(step, self._told_step)
        if step == self._told_step or not self.needs_sharpness(step):
            return
        if usable_sharpness(sharpness, step):
            self._probes = [*self._probes, float(sharpness)][-self.smoothing :]
        elif not self._probes:
            raise no_rate(sharpness, step)
        self._told_step = step

    def kappa(self, step: int) -> float:
        """Return κ_t: κ, then over the last N = round(cooldown·T) steps, 1 at least, a line to ``cooldown_kappa``.

        κ_t = κ + (cooldown_kappa − κ)·min(1, (t − (T − N) + 1)/N) for t ≥ T − N.

        Args:
            step: t, from 0.
        """
        if self.total_steps is None or self.cooldown == 0:
            return self.base_kappa
        length = max(1, round(self.cooldown * self.total_steps))
        into = step - (self.total_steps - length) + 1
        if into <= 0:
            return self.base_kappa
        progress = min(1.0, into / length)
        return (1 - progress) * self.base_kappa + progress * self.cooldown_kappa

    def rate(self, step: int) -> float:
        """Return η_t = κ_t/λ_t within the bounds.

        Args:
            step: t, from 0.

        Raises:
            RunFailure: if the sharpness due by this step was not told.
        """
        if self._told_step < self._due(step):
            raise not_told("sharpness", self._due(step), step)
        sharpness = sum(self._probes) / len(self._probes)
        return clip(self.kappa(step) / sharpness, self.min_rate, self.max_rate)

    def _due(self, step: int) -> int:
        return step - step % self.interval

    def _measured(self) -> dict[str, Any]:
        return {"probes": list(self._probes), "told_step": self._told_step, "source": self.source}

    def _restore(self, measured: dict[str, Any]) -> None:
        if measured.get("source", self.source) != self.source:
            return  # what was told is another quantity: the next step asks anew
        with under("state"):
            probes = [real("probes", probe, above=0.0) for probe in measured["probes"]]
            told_step = integer("told_step", measured["told_step"], minimum=-1)
        if told_step >= 0 and not probes:
            raise InvalidInput("state", measured, f"told up to step {told_step}, it must hold a sharpness in probes")
        self._probes, self._told_step = probes[-self.smoothing :], told_step
