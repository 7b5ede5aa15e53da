"""A claim, how it is judged, and the statistics that all experiments share (those of pairs: `pairs`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import betaincinv

HOLDS, PARTLY, UNDECIDED, FAILS, UNKNOWN = "holds", "holds partly", "undecided", "fails", "not measured"
READ, COMPANION = "the paper, as read here", "its companion, as read here"  # their words; the criterion is ours
DERIVED, KNOWN = "derived here", "earlier work"

# two-sided 95% points of Student's t for 1, 2, … degrees of freedom; beyond them 1.96 + 2.37/ν + 2.8/ν² to 0.1%
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval: NaN where the value has no sampling error, unbounded where it is one draw."""

    value: float
    low: float
    high: float

    @classmethod
    def read(cls, node: dict[str, float | None]) -> Estimate:
        """An estimate as ``claims.json`` holds it, with null for what is not finite."""
        return cls(*(np.nan if end is None else float(end) for end in map(node.get, ("value", "low", "high"))))

    def __str__(self) -> str:
        if not np.isfinite([self.low, self.high]).all():
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Args:
        name: short, unique within its experiment.
        claim: what is claimed, one sentence.
        source: whose claim it is: `READ`, `COMPANION`, `DERIVED` or `KNOWN`.
        criterion: what would have to be measured, with its bounds.
        measured: what was.
        verdict: `HOLDS`, `PARTLY`, `UNDECIDED`, `FAILS`, or `UNKNOWN` where the runs that would tell are missing.
        remark: where or why it fails, if it does.
    """

    name: str
    claim: str
    source: str
    criterion: str
    measured: Estimate
    verdict: str
    remark: str = ""


def judge(measured: Estimate, low: float, high: float, slack: float = 0.0) -> str:
    """Judge by whether value and interval lie within [low, high].

    Holds if both do; partly if the value does, or misses by at most ``slack`` with an interval that reaches in; is
    undecided if the value misses by more and the interval still reaches in; fails if the interval lies outside. An
    `exact` value holds, holds partly (within ``slack``), or fails; a `lone` one can do neither the first nor the last.
    """
    value = measured.value
    if np.isnan(value):
        return UNKNOWN
    ends = [value if np.isnan(end) else end for end in (measured.low, measured.high)]
    alone = bool(np.isnan([measured.low, measured.high]).all())
    if low <= value <= high:
        return HOLDS if all(low <= end <= high for end in ends) else PARTLY
    if not alone and (ends[0] > high or ends[1] < low):
        return FAILS
    if low - slack <= value <= high + slack:
        return PARTLY
    return FAILS if alone else UNDECIDED


def judged(
    name: str,
    says: str,
    source: str,
    criterion: str,
    measured: Estimate,
    bounds: tuple[float, float],
    slack: float = 0.0,
    remark: str = "",
) -> Claim:
    """A claim with the verdict of `judge`."""
    return Claim(name, says, source, criterion, measured, judge(measured, bounds[0], bounds[1], slack), remark)


def mean(values: ArrayLike) -> Estimate:
    """Mean over seeds with Student's 95% interval; undefined values are left out, infinite ones are not."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return Estimate(np.nan, np.nan, np.nan)
    if np.isinf(known).any():
        return exact(np.inf if known.max() == np.inf else -np.inf)
    centre = float(known.mean())
    if len(known) == 1:
        return lone(centre)
    half = student(len(known) - 1) * float(known.std(ddof=1)) / np.sqrt(len(known))
    return Estimate(centre, centre - half, centre + half)


def ratio(values: ArrayLike) -> Estimate:
    """Geometric mean of ratios, Student's 95% interval of their logarithms; infinite if one is, or else 0 if one is."""
    with np.errstate(divide="ignore"):
        logs = mean(np.log(np.asarray(values, dtype=float)))
    return Estimate(*(float(np.exp(end)) for end in (logs.value, logs.low, logs.high)))


def share(flags: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """The share of true ones with the 95% interval of Clopper and Pearson (1934).

    Those of one group, such as one network at several rates, hang together: they count as one observation.
    """
    said = np.asarray(flags, dtype=bool)
    if not len(said):
        return exact(np.nan)
    count = len(said) if groups is None else len(np.unique(np.asarray(groups)))
    true = float(said.mean()) * count
    low = betaincinv(true, count - true + 1, 0.025) if true > 0 else 0.0
    high = betaincinv(true + 1, count - true, 0.975) if true < count else 1.0
    return Estimate(float(said.mean()), float(low), float(high))


def bootstrap(
    values: ArrayLike, statistic: object, draws: int = 2000, seed: int = 0, groups: ArrayLike | None = None
) -> Estimate:
    """``statistic`` of the rows of ``values`` with the 95% percentile interval over resampled rows.

    Rows of one group, such as seeds of one setting, are drawn together.
    """
    rows = np.asarray(values, dtype=float)
    assert callable(statistic)
    if not rows.size:
        return exact(np.nan)
    labels = np.arange(len(rows)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    if len(members) == 1:  # it would be drawn again and again
        return lone(float(statistic(rows)))
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(members), size=(draws, len(members)))
    with np.errstate(divide="ignore", invalid="ignore"):  # draws of one row alone may leave it undefined
        drawn = np.array([statistic(rows[np.hstack([members[each] for each in pick])]) for pick in picks], dtype=float)
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return Estimate(float(statistic(rows)), float(low), float(high))


def by_setting(cells: pd.DataFrame, quantity: str, setting: Sequence[str]) -> np.ndarray:
    """A quantity's mean over the seeds of every setting: seeds of one setting are no independent settings."""
    return cells.groupby(list(setting), dropna=False, sort=False)[quantity].mean().to_numpy(dtype=float)


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of log y against log x: the exponent of a power law; NaN without two positive points."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    there = (x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)
    if len(np.unique(x[there])) < 2:
        return float("nan")
    return float(np.polyfit(np.log(x[there]), np.log(y[there]), 1)[0])


def slopes(cells: pd.DataFrame, x: str, y: str, by: str = "seed") -> Estimate:
    """Mean over seeds of each seed's own exponent, with its interval."""
    return mean([slope(part[x], part[y]) for _, part in cells.groupby(by)])


def line(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Least-squares slope of y against x over all points, with its 95% interval from the scatter around the line."""
    points = np.stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])
    across, up = points[:, np.isfinite(points).all(axis=0)]
    if len(np.unique(across)) < 2:
        return exact(np.nan)
    centred = across - across.mean()
    value = float(centred @ up / (centred @ centred))
    freedom = len(across) - 2
    if freedom < 1:
        return lone(value)
    scatter = up - up.mean() - value * centred
    half = student(freedom) * float(np.sqrt(scatter @ scatter / freedom / (centred @ centred)))
    return Estimate(value, value - half, value + half)


def late(values: ArrayLike, share: float = 0.5) -> np.ndarray:
    """The last ``share`` of a history, undefined values left out."""
    history = np.asarray(values, dtype=float)
    tail = history[int(len(history) * (1 - share)) :]
    return tail[np.isfinite(tail)]


def median(values: ArrayLike) -> float:
    """The median, or NaN where there is nothing."""
    held = np.asarray(values, dtype=float)
    return float(np.median(held)) if len(held) else float("nan")


def largest(values: ArrayLike) -> float:
    """The largest value, or NaN where there is nothing; undefined values are left out."""
    held = np.asarray(values, dtype=float)
    return float(np.fmax.reduce(held, initial=np.nan))


def average(values: ArrayLike) -> float:
    """The mean, or NaN where there is nothing; undefined values are left out."""
    held = np.asarray(values, dtype=float)
    held = held[~np.isnan(held)]
    return float(held.mean()) if len(held) else float("nan")


def exact(value: float) -> Estimate:
    """A value that has no sampling error, such as an extreme over all runs."""
    return Estimate(float(value), float("nan"), float("nan"))


def lone(value: float) -> Estimate:
    """A value whose sampling error is unknown, such as a mean over one seed: its interval is unbounded."""
    return Estimate(float(value), -np.inf, np.inf)


def worst(verdicts: Sequence[str]) -> str:
    """The verdict of several parts: all hold, none does, or something between."""
    if all(verdict == HOLDS for verdict in verdicts):
        return HOLDS
    return FAILS if all(verdict == FAILS for verdict in verdicts) else PARTLY


def student(freedom: int) -> float:
    """The two-sided 95% point of Student's t."""
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.37 / freedom + 2.8 / freedom**2
