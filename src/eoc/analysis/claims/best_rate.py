"""The best learning rate of every curve, how far it moves with depth, and what it costs not to follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eoc.analysis.claims.base import HOLDS, PARTLY, UNDECIDED, Estimate, judge, line

CURVE = ["model", "model.width", "model.richness"]
DRIFT = ["drift", "low", "high", "inside", "course", "loss_shallow", "loss_deep", "price"]
CHOSEN_RULE = "nup_growth_1"


@dataclass(frozen=True)
class Chosen:
    """A setting that was chosen from runs, and is judged by others.

    Args:
        name: of its claims.
        richness: of νP with γ = 1.
        first: the seeds from this one on had no part in the choice.
        after: what it was chosen from.
    """

    name: str
    richness: float
    first: int
    after: str

    def fresh(self, rows: pd.DataFrame) -> pd.Series:
        """Which rows are runs of it that had no part in its choice."""
        there = (rows["model"] == CHOSEN_RULE) & (rows["model.richness"] == self.richness)
        return there & (rows["seed"] >= self.first)


CHOSEN = (
    Chosen("third", 0.333, 2, "two seeds of digits"),
    Chosen("quarter", 0.25, 10, "the drifts at 1/3 and 1/5 on digits, MNIST and CIFAR-10"),
)


def optima(cells: pd.DataFrame) -> pd.DataFrame:
    """The best rate of every curve, depth and seed: the vertex of the parabola through the best three log losses.

    Returns:
        Columns of `CURVE`, ``model.depth``, ``seed``, ``rate``, ``loss``, and ``inside``: whether the best rate of the
        grid is not at its end.
    """
    rows = []
    for key, part in cells.groupby([*CURVE, "model.depth", "seed"], sort=False):
        curve = part.sort_values("schedule.rate")
        logs = np.log2(curve["schedule.rate"].to_numpy(dtype=float))
        loss = curve["loss"].fillna(np.inf).to_numpy(dtype=float)
        best = int(np.argmin(loss))
        inside = 0 < best < len(loss) - 1
        around = loss[best - 1 : best + 2]
        shift = _vertex(np.log(around)) if inside and np.isfinite(around).all() and (around > 0).all() else 0
        step = logs[1] - logs[0] if len(logs) > 1 else 0.0
        rate = float(2 ** (logs[best] + shift * step))
        rows.append((*key, rate, float(loss[best]), inside))
    return pd.DataFrame(rows, columns=[*CURVE, "model.depth", "seed", "rate", "loss", "inside"])


def drifts(cells: pd.DataFrame) -> pd.DataFrame:
    """By curve: octaves that the best rate moves per doubling of depth, the price of not retuning, the deepest loss.

    The ``fresh`` seeds of a `CHOSEN` setting are a row of their own; curves of one depth have none.
    """
    best = optima(cells)
    best["fresh"] = np.logical_or.reduce([chosen.fresh(best) for chosen in CHOSEN])
    rows = []
    for (*key, new), part in best.groupby([*CURVE, "fresh"], sort=False):
        depths = sorted(part["model.depth"].unique())
        if len(depths) < 2:
            continue
        drift = line(np.log2(part["model.depth"]), np.log2(part["rate"]))
        shallow, deep = (part[part["model.depth"] == depth] for depth in (depths[0], depths[-1]))
        runs = runs_of(cells, key)
        deepest = runs[(runs["model.depth"] == depths[-1]) & runs["seed"].isin(part["seed"])]
        rows.append(
            {
                **dict(zip(CURVE, key, strict=True)),
                "fresh": new,
                "seeds": part["seed"].nunique(),
                "deepest": depths[-1],
                "drift": drift.value,
                "low": drift.low,
                "high": drift.high,
                "inside": bool(part["inside"].all()),
                "course": _course(part),
                "loss_shallow": centre(shallow["loss"]),
                "loss_deep": centre(deep["loss"]),
                "price": _price(deepest, shallow["rate"], deep["loss"]),
            }
        )
    table = pd.DataFrame(rows, columns=[*CURVE, "fresh", "seeds", "deepest", *DRIFT])
    return table.astype({"fresh": bool, "inside": bool})


def judged_drift(row: pd.Series) -> tuple[Estimate, str]:
    """A curve's drift, and whether it is within a quarter octave."""
    drift = Estimate(row["drift"], row["low"], row["high"])
    return drift, judge_still(drift, inside=row["inside"])


def judge_still(drift: Estimate, *, inside: bool) -> str:
    """Whether a drift is within a quarter octave; undecided where a best rate is at an end of those tried."""
    verdict = judge(drift, -0.25, 0.25, slack=0.25)
    return verdict if inside or verdict not in (HOLDS, PARTLY) else UNDECIDED


def _course(best: pd.DataFrame) -> str:
    """The best rates by depth, and where they are at an end of those tried: the truth may lie beyond."""
    rates = best.groupby("model.depth")["rate"].apply(centre)
    said = (
        f"best {', '.join(f'{rate:.2g}' for rate in rates)} at depths {', '.join(str(depth) for depth in rates.index)}"
    )
    ends = best.groupby("model.depth")["inside"].all()
    censored = ", ".join(str(depth) for depth in ends.index[~ends])
    return said + (f", in some seeds an end of those tried at depth {censored}" if censored else "")


def centre(values: pd.Series) -> float:
    """The geometric mean of losses or rates; 0 if one is 0 but for rounding."""
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(values).mean()))


def _vertex(three: np.ndarray) -> float:
    """Where the parabola through values at −1, 0, 1 (the middle one least) has its minimum."""
    bend = three[0] - 2 * three[1] + three[2]
    return float(0.5 * (three[0] - three[2]) / bend) if bend > 0 else 0.0


def runs_of(cells: pd.DataFrame, key: Sequence[object]) -> pd.DataFrame:
    """The runs of one curve, named by its values of `CURVE`."""
    there = np.logical_and.reduce([cells[name] == value for name, value in zip(CURVE, key, strict=True)])
    return cells[there]


def at(runs: pd.DataFrame, rates: pd.Series) -> pd.DataFrame:
    """The runs whose rate is nearest to the geometric mean of some."""
    rate = 2 ** np.log2(rates).mean()
    nearest = min(runs["schedule.rate"].unique(), key=lambda each: abs(np.log(each / rate)))
    return runs[runs["schedule.rate"] == nearest]


def _price(deepest: pd.DataFrame, rates: pd.Series, losses: pd.Series) -> float:
    """Loss at the largest depth with the rate that was best at the smallest, over the best loss there."""
    return centre(at(deepest, rates)["loss"].fillna(np.inf)) / centre(losses)
