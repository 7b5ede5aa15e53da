"""The tangent kernel at initialization against depth: constant and growing widths."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eoc.analysis.claims.base import COMPANION, Claim, Estimate, bootstrap, exact, judge
from eoc.analysis.claims.drawing import CYCLE, band, legend, panels, ticks
from eoc.analysis.claims.reading import first, reduced


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: ‖K − K^∞‖/‖K^∞‖ and the mean diagonal entry of K at initialization."""
    return reduced(
        runs,
        lambda columns: {"deviation": first(columns, "kernel/deviation"), "mean": first(columns, "kernel/mean")},
    )


def claims(cells: pd.DataFrame) -> list[Claim]:
    """How deviation and spread grow with depth, and which activation concentrates better."""
    found = []
    for activation in ("relu", "abs"):
        for growth, low, high, says in (
            (2.0, 0.0, 1.5, "does not grow by more than a half for widths m·k²"),
            (0.0, 1.5, np.inf, "grows by more than a half at constant width"),
        ):
            part = cells[(cells["model.activation"] == activation) & (cells["model.growth"] == growth)]
            measured = _growth(part, "deviation")
            found.append(
                Claim(
                    f"deviation_growth_{growth:g}_{activation}",
                    f"From depth {part['model.depth'].min()} to {part['model.depth'].max()} the distance of the "
                    f"tangent kernel from its infinite-width limit {says} ({activation}).",
                    COMPANION,
                    f"ratio of median ‖K − K^∞‖/‖K^∞‖ {'≤' if low == 0 else '≥'} 1.5",
                    measured,
                    judge(measured, low, high, slack=0.3),
                )
            )
    growing = cells[cells["model.growth"] == 2.0]
    medians = (
        growing.groupby(["model.depth", "model.activation"])["deviation"]
        .median()
        .unstack()
        .reindex(columns=["relu", "abs"])
    )
    measured = exact(float((medians["abs"] / medians["relu"]).max()))
    found.append(
        Claim(
            "abs_concentrates_better",
            "|·| concentrates better than ReLU at every depth (widths m·k²).",
            COMPANION,
            "ratio of median deviations, |·| to ReLU, below 1 at every depth (the largest is given)",
            measured,
            judge(measured, 0.0, 1.0, slack=0.1),
        )
    )
    return found


def figure(cells: pd.DataFrame) -> Figure:
    """Deviation and spread against depth."""
    drawn, axes = panels(2, "Tangent kernel at initialization (NTP)")
    groups = list(cells.groupby(["model.growth", "model.activation"]))
    for colour, ((growth, activation), part) in zip(CYCLE, groups, strict=False):
        width = part["model.width"].iloc[0]
        name = f"{activation}, width {width}" + (f"·k^{growth:g}" if growth else "")
        band(axes[0], part, "model.depth", "deviation", {"label": name, "color": colour})
        spread = part.groupby("model.depth")["mean"].agg(lambda values: values.std(ddof=1) / values.mean())
        axes[1].plot(spread.index, spread, marker="o", markersize=3, color=colour, label=name)
    axes[0].set(title="‖K − K^∞‖/‖K^∞‖ (band: all seeds)", yscale="log")
    axes[1].set(title="standard deviation/mean of K's diagonal", yscale="log")
    for axis in axes:
        axis.set(xscale="log", xlabel="depth l")
        ticks(axis, sorted(cells["model.depth"].unique()))
    legend(axes[1])
    return drawn


def _growth(part: pd.DataFrame, quantity: str) -> Estimate:
    by_seed = part.pivot_table(index="seed", columns="model.depth", values=quantity).sort_index(axis=1)
    if by_seed.shape[1] < 2:
        return exact(np.nan)
    return bootstrap(by_seed.to_numpy(), lambda rows: np.median(rows[:, -1]) / np.median(rows[:, 0]))
