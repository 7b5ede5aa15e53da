"""The phases of training at a constant rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from eoc.analysis.claims.base import DERIVED, KNOWN, Claim, Estimate, exact, judge, late, mean, slope
from eoc.analysis.claims.drawing import RULES, panels
from eoc.analysis.claims.reading import SETTING, History, first, reduced
from eoc.analysis.style import BLUE, GREEN, GREY, ORANGE

MONOTONE, EDGE, CATAPULT, DIVERGED = PHASES = ("monotone", "edge of stability", "catapult", "diverged")
SHADES = (BLUE, GREEN, ORANGE, GREY)
SPIKE, WINDOW = 1.1, 50  # a catapult: within WINDOW steps the loss rises to SPIKE times its least value before


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: the loss spike, sharpness before and after, and the phase."""
    kept = reduced(runs, _measure, (*SETTING, "schedule.rate"))
    kept.loc[kept["status"] == "diverged", "phase"] = DIVERGED
    return kept


def _measure(columns: History) -> dict[str, float | str]:
    loss = columns["train/loss"]
    start, product = first(columns, "sharpness"), late(columns["lr_x_sharpness"])
    level = float(np.median(product)) if len(product) else float("nan")
    begun = loss[:WINDOW]
    spike = float(np.nanmax(begun / np.fmin.accumulate(begun)))
    phase = CATAPULT if spike > SPIKE else EDGE if level >= 1.9 else MONOTONE
    tail = late(columns["sharpness"])
    return {
        "phase": phase,
        "spike": spike,
        "late_product": level,
        "sharpness": start,
        "sharpness_ratio": float(np.median(tail) / start) if len(tail) else float("nan"),
        "final_loss": float(loss[np.isfinite(loss)][-1]),
    }


def claims(cells: pd.DataFrame) -> list[Claim]:
    """Where the phases begin and end, and what a catapult leaves behind: of a wide lazy network and of νP."""
    found = []
    for model in ("ntp", "nup"):
        part = cells[cells["model"] == model]
        below = part[part["schedule.rate"] < 2.0]
        between = part[(part["schedule.rate"] > 2.0) & (part["schedule.rate"] < 4.0)]
        thrown = part[part["phase"] == CATAPULT]
        for name, says, criterion, measured, bounds, slack in (
            (
                "stable_below_two",
                "below η·λ_0 = 2 the loss does not rise in the first steps",
                "share of runs whose loss never rises by 10% within 50 steps",
                _share(~below["phase"].isin([CATAPULT, DIVERGED])),
                (1.0, 1.0),
                0.1,
            ),
            (
                "bounded_to_four",
                "between 2 and 4 training survives",
                "share of runs that do not diverge",
                _share(between["phase"] != DIVERGED),
                (1.0, 1.0),
                0.1,
            ),
            (
                "spike_between",
                "between 2 and 4 the loss rises at first",
                "share of runs whose loss rises by 10% within 50 steps, at least 0.9",
                _share(between["spike"] > SPIKE),
                (0.9, 1.0),
                0.4,
            ),
            (
                "flatter_after",
                "a catapult ends where λ has fallen below that of the start",
                "mean of λ (median of the second half) over λ_0, surviving catapults, below 1",
                mean(thrown["sharpness_ratio"]),
                (-np.inf, 1.0),
                0.0,
            ),
            (
                "stands_more_than_four",
                "ReLU networks stand more than η·λ_0 = 4 before they diverge",
                "smallest η·λ_0 at which a run diverged (or the largest tried), above 4",
                exact(_smallest_diverging(part)),
                (4.0001, np.inf),
                0.5,
            ),
        ):
            verdict = judge(measured, bounds[0], bounds[1], slack)
            found.append(Claim(f"{model}_{name}", f"{RULES[model]}: {says}.", KNOWN, criterion, measured, verdict))
    nup = cells[(cells["model"] == "nup") & (cells["phase"] == DIVERGED)]
    if nup["model.depth"].nunique() > 1:
        measured = _limit_exponent(cells[cells["model"] == "nup"])
        verdict = judge(measured, -0.15, 0.15, slack=0.15)
        says = "νP: the largest η·λ_0 that survives does not depend on depth."
        criterion = "exponent of the limit in depth within ±0.15; its interval holds what the grid of rates leaves open"
        found.append(Claim("nup_limit_flat", says, DERIVED, criterion, measured, verdict))
    return found


def figure(cells: pd.DataFrame) -> Figure:
    """The phase diagram of each rule, and the spike and the fall of λ against η·λ_0."""
    models = [model for model in RULES if model in set(cells["model"])]
    drawn, axes = panels(len(models) + 2, "Training at a constant rate")
    rates = sorted(cells["schedule.rate"].unique())
    for axis, model in zip(axes, models, strict=False):
        part = cells[cells["model"] == model]
        ranks = part.assign(rank=part["phase"].map(PHASES.index))
        grid = ranks.pivot_table(index="model.depth", columns="schedule.rate", values="rank", aggfunc="max")
        axis.imshow(grid, cmap=ListedColormap(SHADES), vmin=-0.5, vmax=3.5, aspect="auto", origin="lower")
        axis.set_xticks(range(len(grid.columns)), [f"{rate:g}" for rate in grid.columns], fontsize=6)
        axis.set_yticks(range(len(grid.index)), [str(depth) for depth in grid.index])
        axis.grid(visible=False)
        axis.set(title=f"{RULES[model]}", xlabel="η·λ₀", ylabel="depth l")
    axes[0].legend(
        handles=[Patch(color=shade, label=phase) for shade, phase in zip(SHADES, PHASES, strict=True)],
        fontsize=6,
        loc="upper left",
        frameon=True,
    )
    for model in models:
        part = cells[(cells["model"] == model) & (cells["phase"] != DIVERGED)]
        for axis, name in ((axes[-2], "spike"), (axes[-1], "sharpness_ratio")):
            axis.scatter(part["schedule.rate"], part[name], s=10, label=RULES[model], alpha=0.7)
    for axis, title in ((axes[-2], "largest rise of the loss in 50 steps"), (axes[-1], "late λ/λ₀")):
        axis.axvline(2.0, color="black", linewidth=0.8, linestyle=":")
        axis.axhline(1.0, color="black", linewidth=0.5)
        axis.set(title=title, xscale="log", yscale="log", xlabel="η·λ₀", xlim=(rates[0] * 0.9, rates[-1] * 1.1))
    axes[-1].legend()
    return drawn


def _share(flags: pd.Series) -> Estimate:
    """The share of true ones, an exact count."""
    return exact(float(flags.mean()) if len(flags) else float("nan"))


def _limit_exponent(cells: pd.DataFrame) -> Estimate:
    """The exponent in depth of the rate at which divergence begins, mean over seeds.

    A limit lies anywhere between the smallest diverging rate and the next smaller one that was tried: the interval
    over seeds is widened by what that can do to the exponent. Depths at which no run diverged are left out.
    """
    rates = np.sort(cells["schedule.rate"].unique())
    exponents, open_ends = [], []
    for _, part in cells[cells["phase"] == DIVERGED].groupby("seed"):
        above = part.groupby("model.depth")["schedule.rate"].min()
        if len(above) < 2:
            continue
        below = np.array([rates[max(np.searchsorted(rates, rate) - 1, 0)] for rate in above])
        exponents.append(slope(above.index, np.sqrt(above * below)))
        depths = np.log(above.index.to_numpy(dtype=float))
        x = depths - depths.mean()
        open_ends.append(float(np.abs(x) @ np.log(above / below) / (x @ x)) / 2)
    found = mean(exponents)
    if not exponents:
        return found
    low, high = (found.value if np.isnan(end) else end for end in (found.low, found.high))
    return Estimate(found.value, low - float(np.mean(open_ends)), high + float(np.mean(open_ends)))


def _smallest_diverging(cells: pd.DataFrame) -> float:
    diverged = cells[cells["phase"] == DIVERGED]["schedule.rate"]
    return float(diverged.min()) if len(diverged) else float(cells["schedule.rate"].max())
