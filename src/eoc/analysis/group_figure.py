"""One metric against a setting, another metric or the step, a curve for each value of a third."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from eoc.analysis.claims.base import mean
from eoc.analysis.grouping import grouped
from eoc.analysis.style import figure_style, layer_colours
from eoc.analysis.table import read_histories

Colour = tuple[float, float, float, float]
WIDE = 20.0  # ratio of largest to smallest from which an axis of positive values is logarithmic


def draw_groups(runs: pd.DataFrame, x: str, y: str, hue: str | None, path: Path, dots_per_inch: int = 150) -> Path:
    """Draw means over runs with Student's 95% intervals; diverged runs are crosses at the upper edge.

    Args:
        runs: rows of `read_runs`.
        x: a column of ``runs``, or ``step`` for the runs' histories.
        y: a metric.
        hue: the column whose values are a curve each; None: all runs are one.
        path: of the figure; its ending chooses the format (png, svg, pdf).
        dots_per_inch: resolution.
    """
    with figure_style():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axis = figure.subplots()
        parts = [("", runs)] if hue is None else [(value, part) for value, part in runs.groupby(hue, sort=True)]
        for row, ((value, part), colour) in enumerate(zip(parts, layer_colours(len(parts)), strict=True)):
            label = f"{value:g}" if isinstance(value, float) else str(value)
            curve = _over_steps(part, y) if x == "step" else _over(part, x, y)
            _band(axis, curve, label, colour, marker=None if x == "step" else "o")
            _crosses(axis, part, x, colour, edge=1.0 - 0.03 * row)
        any_diverged = bool((runs["status"] == "diverged").any())
        axis.set(xlabel=x, ylabel=y, title="mean over runs, 95% interval" + ", ×: diverged" * any_diverged)
        _scale(axis, "x")
        _scale(axis, "y")
        if hue is not None:
            axis.legend(title=hue)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dots_per_inch)
    return path


def _over(runs: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    table = grouped(runs[runs[x].notna()], [x], [y])
    return pd.DataFrame({"x": table[x], "y": table[y], "half": table[f"± {y}"]}).dropna(subset=["y"])


def _over_steps(runs: pd.DataFrame, y: str) -> pd.DataFrame:
    histories = read_histories(runs[runs["status"] != "diverged"], [y]).dropna()
    found = [(step, mean(values)) for step, values in histories.groupby("step")[y]]
    rows = [(step, estimate.value, estimate.high - estimate.value) for step, estimate in found]
    return pd.DataFrame(rows, columns=["x", "y", "half"])


def _band(axis: Axes, curve: pd.DataFrame, label: str, colour: Colour, marker: str | None) -> None:
    x = curve["x"].to_numpy() if is_numeric_dtype(curve["x"]) else curve["x"].astype(str).to_numpy()
    y, half = curve["y"].to_numpy(dtype=float), np.nan_to_num(curve["half"].to_numpy(dtype=float))
    axis.plot(x, y, color=colour, label=label, marker=marker, markersize=3)
    axis.fill_between(x, y - half, y + half, color=colour, alpha=0.2, linewidth=0)


def _crosses(axis: Axes, runs: pd.DataFrame, x: str, colour: Colour, edge: float) -> None:
    diverged = runs[runs["status"] == "diverged"]
    if x == "step" or diverged.empty or not is_numeric_dtype(runs[x]):
        return
    height = np.full(len(diverged), edge)
    axis.plot(diverged[x], height, "x", color=colour, transform=axis.get_xaxis_transform(), clip_on=False)


def _scale(axis: Axes, which: str) -> None:
    """Make an axis logarithmic whose values are positive and span more than `WIDE`."""
    lines = [line for line in axis.lines if line.get_linestyle() != "None"]
    values = [np.asarray(getattr(line, f"get_{which}data")()) for line in lines]
    known = np.concatenate([each.astype(float) for each in values if each.dtype.kind in "fiu"] or [np.empty(0)])
    known = known[np.isfinite(known)]
    if len(known) and known.min() > 0 and known.max() / known.min() >= WIDE:
        axis.set(**{f"{which}scale": "log"})
