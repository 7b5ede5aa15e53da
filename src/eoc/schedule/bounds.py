"""Lower and upper bounds of a rate that follows a measurement."""

from __future__ import annotations

from eoc.errors import InvalidInput, optional, real


def bounds(min_rate: object, max_rate: object) -> tuple[float | None, float | None]:
    """Return both bounds as numbers, or None where there is none.

    Args:
        min_rate: above 0, or None.
        max_rate: above 0 and not below ``min_rate``, or None.

    Raises:
        InvalidInput: if one of them is not allowed.
    """
    low = optional(real, "min_rate", min_rate, above=0.0)
    high = optional(real, "max_rate", max_rate, above=0.0)
    if low is not None and high is not None and high < low:
        raise InvalidInput("max_rate", max_rate, f"it must be at least min_rate, which is {low:g}")
    return low, high


def clip(rate: float, low: float | None, high: float | None) -> float:
    """Return the rate moved into [low, high].

    Args:
        rate: what the rule asks for.
        low: lower bound, or None.
        high: upper bound, or None.
    """
    if low is not None:
        rate = max(rate, low)
    return rate if high is None else min(rate, high)
