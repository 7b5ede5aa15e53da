"""One metric against a setting, another metric or the step, a curve for each value of a third."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas.api.types import is_numeric_dtype

from eoc.analysis.claims.base import Estimate, mean
from eoc.analysis.style import FEW, figure_style, layer_colours
from eoc.analysis.table import read_histories

WIDE = 20.0  # ratio of largest to smallest from which an axis of positive values is logarithmic


def draw_groups(runs: pd.DataFrame, x: str, y: str, hue: str | None, path: Path, dots_per_inch: int = 150) -> Path:
    """Draw means over runs with Student's 95% intervals; diverged runs are crosses at the upper edge.

    On a logarithmic axis, means and intervals are those of the logarithms.

    Args:
        runs: rows of `read_runs`.
        x: a column of ``runs``, or ``step`` for the runs' histories.
        y: a metric.
        hue: the column whose values are a curve each; None: all runs are one.
        path: of the figure; its ending chooses the format (png, svg, pdf).
        dots_per_inch: resolution.
    """
    parts = [("", runs)] if hue is None else list(runs.groupby(hue, sort=True, dropna=False))
    points = [_points(part, x, y) for _, part in parts]
    means = [value for part in points for value in part.groupby("x")["y"].mean()]
    logarithmic = _is_wide(means) and all((part["y"] > 0).all() for part in points)
    with figure_style():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axis, crosses = figure.subplots(), 0
        for row, ((value, part), found, colour) in enumerate(zip(parts, points, _colours(parts), strict=True)):
            _band(axis, _estimates(found, logarithmic), _label(value), colour, marker=None if x == "step" else "o")
            crosses += _crosses(axis, part, x, colour, edge=1.0 - 0.03 * row)
        title = "geometric mean over runs, 95% interval" if logarithmic else "mean over runs, 95% interval"
        hidden = int((runs["status"] == "diverged").sum()) - crosses
        said = ", ×: diverged" * (crosses > 0) + f", {hidden} diverged left out" * (hidden > 0)
        axis.set(xlabel=x, ylabel=y, title=title + said)
        places = [place for part in points for place in part["x"].unique()]
        numbers = is_numeric_dtype(pd.Series(places))
        if numbers and _is_wide(places):
            axis.set_xscale("log")
        elif numbers and all(float(place).is_integer() for place in places):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if logarithmic:
            axis.set_yscale("log")
        if hue is not None:
            axis.legend(title=hue)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dots_per_inch)
    return path


def _points(runs: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """What is averaged: ``x`` and ``y`` of completed runs; of histories, where none is, of those that go on."""
    done = runs["status"] == "completed"
    if x == "step":
        found = read_histories(runs[done if done.any() else runs["status"] != "diverged"], [y])
    else:
        found = runs[done]
    found = pd.DataFrame({"x": found[x], "y": pd.to_numeric(found[y], errors="coerce")}).dropna()
    return found if is_numeric_dtype(found["x"]) else found.assign(x=found["x"].astype(str))


def _estimates(points: pd.DataFrame, logarithmic: bool) -> list[tuple[Any, Estimate]]:
    if not logarithmic:
        return [(x, mean(values)) for x, values in points.groupby("x")["y"]]
    found = [(x, mean(np.log(values))) for x, values in points.groupby("x")["y"]]
    return [(x, Estimate(*np.exp([each.value, each.low, each.high]))) for x, each in found]


def _is_wide(values: list[float]) -> bool:
    return len(values) > 0 and min(values) > 0 and max(values) / min(values) >= WIDE


def _label(value: Any) -> str:
    """A setting's value; one that is null is read as missing."""
    if pd.isna(value):
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _colours(parts: list[tuple[Any, pd.DataFrame]]) -> list[Any]:
    """Numbers from dark to light, names each with a colour of its own."""
    named = all(isinstance(value, str) for value, _ in parts) and len(parts) <= len(FEW)
    return list(FEW[: len(parts)]) if named else layer_colours(len(parts))


def _band(axis: Axes, curve: list[tuple[Any, Estimate]], label: str, colour: Any, marker: str | None) -> None:
    x = [place for place, _ in curve]
    axis.plot(x, [each.value for _, each in curve], color=colour, label=label, marker=marker, markersize=3)
    low, high = [each.low for _, each in curve], [each.high for _, each in curve]
    bounded = np.isfinite(low) & np.isfinite(high)  # of one run the interval is unbounded: a gap
    axis.fill_between(x, low, high, where=bounded, color=colour, alpha=0.2, linewidth=0)


def _crosses(axis: Axes, runs: pd.DataFrame, x: str, colour: Any, edge: float) -> int:
    """Draw diverged runs at the upper edge, and return how many."""
    if x == "step" or not is_numeric_dtype(runs[x]):
        return 0
    diverged = runs.loc[runs["status"] == "diverged", x].dropna()
    if len(diverged):
        height = np.full(len(diverged), edge)
        axis.plot(diverged, height, "x", color=colour, transform=axis.get_xaxis_transform(), clip_on=False)
    return len(diverged)
