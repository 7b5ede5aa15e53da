"""The curvature-free relative of the geometric rule: the rate follows the cosine of the updates."""

from __future__ import annotations

import math
import sys
from typing import Any

from eoc.errors import InvalidInput, integer, real
from eoc.schedule.base import Scaled, already_told, not_told
from eoc.schedule.bounds import bounds, clip

ROUNDING = 1e-6  # by which a cosine may lie beyond 1
LARGEST_EXPONENT = math.log(sys.float_info.max)  # beyond it exp has no value


class Alignment(Scaled):
    """Feedback that holds the cosine of the new and the cumulative update near a target.

    r_{t+1} = r_t·exp(gain·(cos_t − target)), clipped; an undefined cosine leaves r as it is. r_0 = rate.

    cos_t is near 1 early, near 0 at the edge of stability and negative above it. Two updates of a bounce, Δ
    and −Δ, have cosines whose mean is about −‖Δ‖/(2‖U‖), U the distance travelled: a target below 0 sets how wide
    the run bounces relative to how far it has come.

    Seen on 300 handwritten digits (νP, ReLU, depths 4 and 6, m = 12, full-batch gradient descent on the squared loss,
    500 to 2,500 steps, rate 1/λ_0, gain 0.05, two to four seeds): the target sets the η·λ that the run settles at, 2.3
    for 0, 2.7 to 3.0 for −0.02, 3.7 to 3.8 for −0.05, the loss falling and never above 1.4 times its start; at −0.1
    the loss goes back to where it started. In the first tens of steps cosines near 1 raise the rate, and η·λ peaks
    between 3 and 10 before the catapult has lowered λ; a gain of 0.5 diverges there, within ten steps, and one of 0.02
    is gentler but takes more than 500 steps to settle. cos_t bounces with period two, by 0.25 either way; at a small
    gain that moves η by 1 %, and averaging it over two steps changed nothing.

    Args:
        rate: the rate at step 0, a number above 0, in the unit below.
        unit: ``inverse_sharpness`` (of 1/λ_0) or ``absolute`` (of η itself).
        target: the cosine to hold, in [−1, 1].
        gain: change of ln η per step and unit of cosine, above 0.
        min_rate: lower bound, above 0, in the unit of ``rate``; None for none.
        max_rate: upper bound, above 0, in the unit of ``rate``; None for none.

    Raises:
        InvalidInput: if one of them is not allowed.

    Source: derived, see docs/theory.md.
    """

    needs_cosine = True

    def __init__(
        self,
        rate: object = 1.0,
        unit: object = "inverse_sharpness",
        target: object = -0.02,
        gain: object = 0.05,
        min_rate: object = None,
        max_rate: object = None,
    ) -> None:
        super().__init__(rate, unit)
        self.target = real("target", target, minimum=-1, maximum=1.0)
        self.gain = real("gain", gain, above=0.0)
        self.min_rate, self.max_rate = bounds(min_rate, max_rate)
        self._current = clip(self.base_rate, self.min_rate, self.max_rate)
        self._told_step = -1

    def tell(self, step: int, *, sharpness: float | None = None, cosine: float | None = None) -> None:
        """Move the rate by what cos_t says; a sharpness without a cosine is a probe before the update.

        Args:
            step: t, from 0; telling the same step's cosine again changes nothing.
            sharpness: λ_t, in units of 1/η; None where it was not measured.
            cosine: cos_t, in [−1, 1]; None or NaN where undefined.

        Raises:
            InvalidInput: if the cosine is beyond ±1 by more than rounding.
            RunFailure: if λ_0 was asked for and is not a finite number above 0, or if a later step has been told.
        """
        if step < self._told_step:
            raise already_told(step, self._told_step)
        if cosine is not None and abs(cosine) > 1 + ROUNDING:
            raise InvalidInput("cosine", cosine, "it must be in [-1, 1], or None or NaN where it is undefined")
        super().tell(step, sharpness=sharpness)
        if (sharpness is not None and cosine is None) or step == self._told_step:
            return
        self._told_step = step
        if cosine is not None and not math.isnan(cosine):
            exponent = min(self.gain * (cosine - self.target), LARGEST_EXPONENT)
            moved = self._current * math.exp(exponent)
            self._current = clip(moved, self.min_rate, self.max_rate)

    def in_unit(self, step: int) -> float:
        """Return r_t.

        Args:
            step: t, from 0.

        Raises:
            RunFailure: if the last step's cosine was not told.
        """
        if self._told_step < step - 1:
            raise not_told("cosine", step - 1, step)
        return self._current

    def _measured(self) -> dict[str, Any]:
        own = {"current_rate": self._current, "first_rate": self.base_rate, "told_step": self._told_step}
        return {**super()._measured(), **own}

    def _restore(self, measured: dict[str, Any]) -> None:
        unit = measured.get("unit", self.unit)
        if unit != self.unit:
            raise InvalidInput("unit", self.unit, f"the present rate of the run is in the unit {unit}; keep it")
        super()._restore(measured)
        # A run that goes on with another rate is scaled by as much.
        first = real("state.first_rate", measured.get("first_rate", self.base_rate), above=0.0)
        current = real("state.current_rate", measured["current_rate"], minimum=0.0)
        self._current = clip(self.base_rate / first * current, self.min_rate, self.max_rate)
        self._told_step = integer("state.told_step", measured["told_step"], minimum=-1)
