"""Whether κ, the rate in units of the present 1/λ, can be tuned on shallow networks and used on deep ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eoc.analysis.claims import lr_transfer
from eoc.analysis.claims.base import DERIVED, Claim, judge, ratio
from eoc.analysis.claims.best_rate import CURVE, at, judged_drift, optima, runs_of
from eoc.analysis.claims.best_rate import drifts as _drifts
from eoc.analysis.claims.drawing import COLOURS, RULES, legend, panels, ticks
from eoc.analysis.style import layer_colours

MODELS = ("mup", "nup_growth_1", "nup")


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: its κ and the geometric mean of the last losses, infinite if it diverged."""
    return lr_transfer.cells(runs, "schedule.kappa")


def drifts(cells: pd.DataFrame) -> pd.DataFrame:
    """By rule: octaves that the best κ moves per doubling of depth, the price of not retuning, losses."""
    return _drifts(_as_rates(cells)).drop(columns="fresh")


def claims(cells: pd.DataFrame) -> list[Claim]:
    """Drift of the best κ per doubling of depth, and what it costs to keep that of the shallowest networks."""
    runs, table = _as_rates(cells), drifts(cells)
    found = []
    for model in (name for name in MODELS if name in set(table["model"])):
        row = table[table["model"] == model].iloc[-1]
        of_model = runs_of(runs, row[CURVE])
        best = optima(of_model)
        depths = sorted(best["model.depth"].unique())
        shallow, deep = (best[best["model.depth"] == depth].set_index("seed") for depth in (depths[0], depths[-1]))
        paid = at(of_model[of_model["model.depth"] == depths[-1]], shallow["rate"]).set_index("seed")["loss"]
        drift, verdict = judged_drift(row)
        price = ratio((paid / deep["loss"]).to_numpy())
        found += [
            Claim(
                f"{model}_drift",
                f"{RULES[model]}, geometric schedule: the best κ does not move with depth.",
                DERIVED,
                f"octaves of the best κ per doubling of depth within ±0.25, depths {depths[0]} to {depths[-1]}",
                drift,
                verdict,
                row["course"],
            ),
            Claim(
                f"{model}_price",
                f"{RULES[model]}, geometric schedule: κ tuned at depth {depths[0]} costs depth {depths[-1]} at most a "
                "tenth of its loss.",
                DERIVED,
                f"loss at depth {depths[-1]} with the best κ of depth {depths[0]} over that with its own best, "
                "at most 1.1",
                price,
                judge(price, 0.0, 1.1, slack=0.1),
            ),
        ]
    return found


def figure(cells: pd.DataFrame) -> Figure:
    """Loss against κ by depth for each rule, and the best κ against depth."""
    drawn, axes = panels(len(MODELS) + 1, "Train loss after 60 steps of the geometric schedule against κ, by depth")
    runs = _as_rates(cells)
    depths = sorted(runs["model.depth"].unique())
    shades = dict(zip(depths, layer_colours(len(depths)), strict=True))
    for axis, model in zip(axes, MODELS, strict=False):
        for depth, part in runs[runs["model"] == model].groupby("model.depth"):
            curve = part.groupby("schedule.rate")["loss"]
            middle = curve.median()
            middle = middle[np.isfinite(middle)]
            axis.plot(middle.index, middle, marker="o", markersize=2, color=shades[depth], label=f"l = {depth}")
            ends = [quantile[middle.index] for quantile in (curve.min(), curve.max().clip(upper=10 * middle.max()))]
            axis.fill_between(middle.index, *ends, color=shades[depth], alpha=0.15, linewidth=0)
        axis.axvline(2.0, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=RULES[model], xscale="log", yscale="log", xlabel="κ = η·λ", ylabel="train loss")
        ticks(axis, (0.5, 1, 2, 4))
    legend(axes[0])
    for model, part in optima(runs).groupby("model", sort=False):
        grouped = part.groupby("model.depth")["rate"]
        axes[-1].errorbar(
            grouped.median().index,
            grouped.median(),
            yerr=[grouped.median() - grouped.min(), grouped.max() - grouped.median()],
            marker="o",
            markersize=3,
            capsize=2,
            color=COLOURS[model],
            label=RULES[model],
        )
    axes[-1].axhline(2.0, color="black", linewidth=0.8, linestyle=":")
    axes[-1].set(title="best κ", xscale="log", yscale="log", xlabel="depth l")
    axes[-1].set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes[-1].minorticks_off()
    ticks(axes[-1], depths)
    legend(axes[-1])
    return drawn


def _as_rates(cells: pd.DataFrame) -> pd.DataFrame:
    """κ is a rate, in units of the present 1/λ."""
    return cells.rename(columns={"schedule.kappa": "schedule.rate"})
