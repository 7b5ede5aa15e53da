"""The phases of training at a constant rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from eoc.analysis.claims.base import (
    DERIVED,
    KNOWN,
    Claim,
    Estimate,
    exact,
    judge,
    largest,
    late,
    mean,
    median,
    ratio,
    share,
    slope,
)
from eoc.analysis.claims.best_rate import centre
from eoc.analysis.claims.drawing import RULES, label, legend, panels, ticks
from eoc.analysis.claims.reading import SETTING, History, first, last, reduced
from eoc.analysis.style import BLUE, GREEN, GREY, ORANGE, PURPLE

MONOTONE, EDGE, CATAPULT, DEAD, DIVERGED = PHASES = ("monotone", "edge of stability", "catapult", "dead", "diverged")
SHADES = (BLUE, GREEN, ORANGE, PURPLE, GREY)
LOST = (DEAD, DIVERGED)
ZERO_OUTPUT_LOSSES = (0.5, np.log(10))  # half of a one-hot target's squared norm; ten classes' entropy
CONSTANT = {"mse": 0.45, "cross_entropy": np.log(10)}  # loss of the best outputs that ignore the input, ten classes
SPIKE, WINDOW = 1.1, 50  # a catapult: within WINDOW steps the loss rises to SPIKE times its least value before


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: the loss spike, sharpness before and after, and the phase."""
    kept = reduced(runs, _measure, (*SETTING, "schedule.rate", "loss"))
    kept.loc[kept["status"] == "diverged", "phase"] = DIVERGED
    return kept


def _measure(columns: History) -> dict[str, float | str]:
    loss = columns["train/loss"]
    start, product = first(columns, "sharpness"), late(columns["lr_x_sharpness"])
    level = median(product)
    begun = loss[:WINDOW]
    with np.errstate(invalid="ignore"):  # a loss may be infinite
        spike = largest(begun / np.fmin.accumulate(begun))
    tail = late(columns["sharpness"])
    fallen_to = median(tail) / start
    final = last(columns, "train/loss")
    phase = CATAPULT if spike > SPIKE else EDGE if level >= 1.9 else MONOTONE
    return {
        "phase": DEAD if _is_dead(final, fallen_to) else phase,
        "spike": spike,
        "late_product": level,
        "sharpness": start,
        "sharpness_ratio": fallen_to,
        "final_loss": final,
    }


def _is_dead(final_loss: float, sharpness_ratio: float) -> bool:
    """Whether a network ended with outputs 0, to a thousandth of their loss, and next to no curvature."""
    return sharpness_ratio < 0.03 and any(abs(final_loss / loss - 1) < 1e-3 for loss in ZERO_OUTPUT_LOSSES)


def claims(cells: pd.DataFrame) -> list[Claim]:
    """Where the phases begin and end, and what a catapult leaves behind: of a wide lazy network and of νP."""
    found = []
    for model in ("ntp", "nup"):
        part = cells[cells["model"] == model]
        below = part[part["schedule.rate"] < 2.0]
        between = part[(part["schedule.rate"] > 2.0) & (part["schedule.rate"] < 4.0)]
        survived = part[part["phase"] == CATAPULT]
        thrown = survived[survived["final_loss"] < survived["loss"].map(CONSTANT)]
        from_above = thrown[thrown["schedule.rate"] > 2.0]
        for name, says, criterion, measured, bounds, slack in (
            (
                "stable_below_two",
                "below η·λ_0 = 2 the loss does not rise in the first steps",
                "share of runs whose loss never rises by 10% within 50 steps, interval over networks, at least 0.9",
                share((below["spike"] <= SPIKE) & ~below["phase"].isin(LOST), _networks(below)),
                (0.9, 1.0),
                0.1,
            ),
            (
                "bounded_to_four",
                "between 2 and 4 training survives",
                "share of runs that neither diverge nor die (outputs 0, λ 0), interval over networks, at least 0.9",
                share(~between["phase"].isin(LOST), _networks(between)),
                (0.9, 1.0),
                0.1,
            ),
            (
                "spike_between",
                "between 2 and 4 the loss rises at first",
                "share of runs whose loss rises by 10% within 50 steps, interval over networks, at least 0.9",
                share(between["spike"] > SPIKE, _networks(between)),
                (0.9, 1.0),
                0.4,
            ),
            (
                "flatter_after",
                "a catapult ends where λ has fallen below that of the start",
                "λ (median of the second half) over λ_0, catapults from beyond 2 that end with a loss below the best "
                "constant prediction's, over networks, below 1",
                ratio(from_above.groupby(["model.depth", "seed"])["sharpness_ratio"].agg(centre)),
                (-np.inf, 1.0),
                0.0,
            ),
            (
                "stands_more_than_four",
                "ReLU networks stand more than η·λ_0 = 4 before they diverge or die",
                "smallest η·λ_0 at which a run did (or the largest tried), above 4",
                exact(_smallest_lost(part)),
                (4.0001, np.inf),
                0.5,
            ),
        ):
            verdict = judge(measured, bounds[0], bounds[1], slack)
            remark = ""
            if name == "flatter_after":
                remark = _other_catapults(survived, thrown)
            says = f"{RULES[model]}: {says}."
            found.append(Claim(f"{model}_{name}", says, KNOWN, criterion, measured, verdict, remark))
    nup = cells[cells["model"] == "nup"]
    if nup["model.depth"].nunique() > 1 and nup["phase"].isin(LOST).any():
        measured, censored = _limit_exponent(nup)
        verdict = judge(measured, -0.15, 0.15, slack=0.15)
        says = "νP: the η·λ_0 from which on runs diverge or die does not depend on depth."
        criterion = "its exponent in depth within ±0.15; the interval holds what the grid of rates leaves open"
        top = f"{nup['schedule.rate'].max():g}"
        remark = f"where none did up to {top} ({censored} of the curves) {top} is taken, the least it can be"
        found.append(Claim("nup_limit_flat", says, DERIVED, criterion, measured, verdict, remark if censored else ""))
    return found


def figure(cells: pd.DataFrame) -> Figure:
    """The phase diagram of each rule, and the spike and the fall of λ against η·λ_0."""
    models = [model for model in RULES if model in set(cells["model"])]
    drawn, axes = panels(len(models) + 2, "Training at a constant rate")
    rates = sorted(cells["schedule.rate"].unique())
    for axis, model in zip(axes, models, strict=False):
        part = cells[cells["model"] == model]
        ranks = part.assign(rank=part["phase"].map(PHASES.index))
        tried, seeds = sorted(part["schedule.rate"].unique()), sorted(part["seed"].unique())
        columns = pd.MultiIndex.from_product([tried, seeds])
        grid = ranks.pivot_table(index="model.depth", columns=["schedule.rate", "seed"], values="rank")
        drawn_grid = grid.reindex(columns=columns)
        image = axis.imshow(drawn_grid, ListedColormap(SHADES), origin="lower", interpolation="nearest", aspect="auto")
        image.set_clim(-0.5, 4.5)
        axis.set_xticks([(i + 0.5) * len(seeds) - 0.5 for i in range(len(tried))], [f"{rate:g}" for rate in tried])
        axis.tick_params(axis="x", labelsize=6)
        axis.set_yticks(range(len(grid.index)), [str(depth) for depth in grid.index])
        axis.grid(visible=False)
        axis.set(title=f"{RULES[model]}, seeds side by side", xlabel="η·λ₀", ylabel="depth l")
    shades = [Patch(color=shade, label=phase) for shade, phase in zip(SHADES, PHASES, strict=True)]
    drawn.legend(handles=shades, loc="outside lower left", ncols=len(PHASES))
    for model in models:
        part = cells[(cells["model"] == model) & ~cells["phase"].isin(LOST)]
        for axis, name in ((axes[-2], "spike"), (axes[-1], "sharpness_ratio")):
            axis.scatter(part["schedule.rate"], part[name], s=10, alpha=0.7, **label(model))
    for axis, title in ((axes[-2], "largest rise of the loss in 50 steps"), (axes[-1], "late λ/λ₀")):
        axis.axvline(2.0, color="black", linewidth=0.8, linestyle=":")
        axis.axhline(1.0, color="black", linewidth=0.5)
        axis.set(title=title, xscale="log", yscale="log", xlabel="η·λ₀", xlim=(rates[0] * 0.9, rates[-1] * 1.1))
        ticks(axis, [rate for rate in (0.5, 1, 2, 4, 8, 16, 32) if rates[0] <= rate <= rates[-1]])
    legend(axes[-1])
    return drawn


def _limit_exponent(cells: pd.DataFrame) -> tuple[Estimate, int]:
    """The exponent in depth of the rate at which runs begin to diverge or die, mean over seeds.

    A limit lies anywhere between the smallest such rate and the next smaller one that was tried: the interval over
    seeds is widened by what that can do to the exponent. Where no run of a depth and seed is lost, the largest rate
    enters, and is counted in the second number returned.
    """
    rates = np.sort(cells["schedule.rate"].unique())
    exponents, open_ends, censored = [], [], 0
    for _, part in cells.groupby("seed"):
        lost = part[part["phase"].isin(LOST)].groupby("model.depth")["schedule.rate"].min()
        lost = lost.reindex(np.sort(part["model.depth"].unique()))
        above = lost.fillna(rates[-1]).to_numpy()
        below = rates[np.maximum(np.searchsorted(rates, above) - 1, 0)]
        below = np.where(lost.isna(), above, below)
        censored += int(lost.isna().sum())
        exponents.append(slope(lost.index, np.sqrt(above * below)))
        depths = np.log(lost.index.to_numpy(dtype=float))
        x = depths - depths.mean()
        open_ends.append(float(np.abs(x) @ np.log(above / below) / (x @ x)) / 2)
    found = mean(exponents)
    low, high = (found.value if np.isnan(end) else end for end in (found.low, found.high))
    return Estimate(found.value, low - float(np.mean(open_ends)), high + float(np.mean(open_ends))), censored


def _networks(cells: pd.DataFrame) -> pd.Series:
    """Which runs are of one network, at several rates: they live and die together."""
    return cells.groupby(["model", "model.depth", "seed"]).ngroup()


def _other_catapults(survived: pd.DataFrame, learned: pd.DataFrame) -> str:
    """λ over λ_0 of catapults from below 2, and with those from beyond it that end as if the input did not count."""
    said = []
    below = learned[learned["schedule.rate"] < 2.0]
    if len(below):
        said.append(f"of catapults from below 2: {centre(below['sharpness_ratio']):.2g}")
    above = survived[survived["schedule.rate"] > 2.0]
    nothing = len(above) - int((learned["schedule.rate"] > 2.0).sum())
    if nothing:
        with_them = ratio(above.groupby("seed")["sharpness_ratio"].agg(centre))
        said.append(f"{with_them} with {nothing} of {len(above)} that learned nothing")
    return "; ".join(said)


def _smallest_lost(cells: pd.DataFrame) -> float:
    """The smallest η·λ_0 at which a run was lost, or else the largest tried: unknown where none was beyond 4."""
    lost = cells[cells["phase"].isin(LOST)]["schedule.rate"]
    tried = cells["schedule.rate"].max()
    return float(lost.min()) if len(lost) else float(tried) if tried > 4.0 else np.nan
