"""Rules that follow the clock alone: constant, warm-up, cosine decay."""

from __future__ import annotations

import math

from eoc.errors import InvalidInput, integer, real
from eoc.schedule.base import Scaled


class Constant(Scaled):
    """The same rate at every step: r_t = rate.

    Args:
        rate: a number above 0, in the unit below.
        unit: ``inverse_sharpness`` (of 1/λ_0) or ``absolute`` (of η itself).

    Raises:
        InvalidInput: if one of them is not allowed.
    """

    def __init__(self, rate: object = 1.0, unit: object = "inverse_sharpness") -> None:
        super().__init__(rate, unit)

    def in_unit(self, step: int) -> float:  # noqa: ARG002
        """Return the rate.

        Args:
            step: t, from 0.
        """
        return self.base_rate


class Warmup(Scaled):
    """A linear rise, then constant: r_t = rate·min(1, (t+1)/W), full from step W−1 on.

    Args:
        rate: the full rate, a number above 0, in the unit below.
        unit: ``inverse_sharpness`` (of 1/λ_0) or ``absolute`` (of η itself).
        warmup_steps: W, in steps, at least 0 (0 and 1 are no warm-up).

    Raises:
        InvalidInput: if one of them is not allowed.
    """

    def __init__(self, rate: object = 1.0, unit: object = "inverse_sharpness", warmup_steps: object = 50) -> None:
        super().__init__(rate, unit)
        self.warmup_steps = integer("warmup_steps", warmup_steps, minimum=0)

    def in_unit(self, step: int) -> float:
        """Return rate·min(1, (t+1)/W).

        Args:
            step: t, from 0.
        """
        return self.base_rate * _rise(step, self.warmup_steps)


class Cosine(Scaled):
    """A linear rise over W steps, then half a cosine down to a fraction F of the rate at t = T.

    r_t = rate·(F + (1−F)·(1 + cos(π·p))/2) with p = (t−W)/(T−W) for t ≥ W. The run ends at step T−1, so that
    with F = 0 its last step still moves.

    Args:
        rate: the full rate, a number above 0, in the unit below.
        unit: ``inverse_sharpness`` (of 1/λ_0) or ``absolute`` (of η itself).
        total_steps: T, the length of the run in steps, at least 1.
        warmup_steps: W, in steps, at least 0 and below T.
        final_fraction: F, in [0, 1].

    Raises:
        InvalidInput: if one of them is not allowed.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983 (eq. 5, without restarts).
    """

    def __init__(
        self,
        rate: object,
        unit: object,
        total_steps: object,
        warmup_steps: object = 0,
        final_fraction: object = 0.0,
    ) -> None:
        super().__init__(rate, unit)
        self.warmup_steps = integer("warmup_steps", warmup_steps, minimum=0)
        self.total_steps = integer("total_steps", total_steps, minimum=1)
        if self.warmup_steps >= self.total_steps:
            rule = f"it must be below total_steps, which is {self.total_steps}"
            raise InvalidInput("warmup_steps", warmup_steps, rule)
        self.final_fraction = real("final_fraction", final_fraction, minimum=0.0, maximum=1.0)

    def in_unit(self, step: int) -> float:
        """Return the rise for t < W, the half cosine up to T, rate·F beyond.

        Args:
            step: t, from 0.
        """
        if step < self.warmup_steps:
            return self.base_rate * _rise(step, self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        height = (1 + math.cos(math.pi * progress)) / 2
        return self.base_rate * (self.final_fraction + (1 - self.final_fraction) * height)


def _rise(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / max(1, warmup_steps))
