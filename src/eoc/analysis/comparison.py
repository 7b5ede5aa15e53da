"""Runs against each other, grouped by depth: curves with bands, and final values."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from eoc.analysis.panels import colours_of, layout, plain, thinned
from eoc.analysis.run_data import RunData, differing
from eoc.analysis.style import layer_colours
from eoc.analysis.summary_figure import NAMES

CURVES = (
    ("test/loss", "Test loss", True),
    ("sharpness", "Sharpness λ", True),
    ("cosine/cumulative/all", "Cosine with the cumulative update", False),
    ("features/kernel_change", "Kernel change, 1 − CKA", False),
)
FINAL = (
    ("test/accuracy", "Final test accuracy", False),
    ("test/loss", "Final test loss", True),
    ("sharpness", "Final sharpness λ", True),
    ("cosine/cumulative/all", "Last cosine with the cumulative update", False),
    ("features/kernel_change", "Final kernel change, 1 − CKA", False),
)
MODEL, DEPTH = "model", "model.depth"


def comparison(runs: list[RunData]) -> tuple[list[dict[str, Any]], str]:
    """Return the figures that compare runs by model and depth, and what their means are over beside seeds.

    Where there is one group alone there are none. Lines are means over the completed runs of a group (where there is
    none, over stopped or unfinished ones), bands reach from the lowest to the highest. Final values of the other runs
    are shown too, those of diverged ones as crosses.
    """
    groups: dict[tuple[str, int], list[RunData]] = {}
    for run in runs:
        if MODEL in run.settings and DEPTH in run.settings:
            groups.setdefault((run.settings[MODEL], run.settings[DEPTH]), []).append(run)
    groups = dict(sorted(groups.items()))
    if len(groups) < 2 and len(runs) == len(groups):
        return [], ""
    figures = [_over_steps(groups, *curve) for curve in CURVES]
    figures += [_over_depth(groups, *final) for final in FINAL] if len({depth for _, depth in groups}) > 1 else []
    others = dict.fromkeys(key for group in groups.values() for key in differing(_averaged(group)) if key != "seed")
    remark = f"Means over runs that differ in {', '.join(others)} too." if others else ""
    return [figure for figure in figures if figure["data"]], remark


def _averaged(runs: list[RunData]) -> list[RunData]:
    """The runs that means are over: the completed ones; where there is none those that were stopped, or that go on."""
    for status in ("completed", "stopped", "unfinished"):
        if found := [run for run in runs if run.status == status]:
            return found
    return []


def _over_steps(groups: dict[tuple[str, int], list[RunData]], metric: str, title: str, log: bool) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    for (key, group), colour in zip(groups.items(), layer_colours(len(groups)), strict=True):
        runs = [run for run in _averaged(group) if len(run.known(metric)[0])]
        values: dict[float, list[float]] = {}
        for run in runs:
            for step, value in zip(*run.known(metric), strict=True):
                values.setdefault(float(step), []).append(float(value))
        values = {step: found for step, found in values.items() if len(found) == len(runs)}
        if not values:
            continue
        steps = np.array(sorted(values))
        low, mean, high = (np.array([reduce(values[step]) for step in steps]) for reduce in (np.min, np.mean, np.max))
        name = f"{_group(key)} ({len(runs)})"
        common = {"legendgroup": name, "mode": "lines"}
        fill = f"rgba({', '.join(str(round(255 * part)) for part in to_rgb(colour))}, 0.18)"
        if len(runs) > 1:
            hidden = {**common, "hoverinfo": "skip", "showlegend": False, "line": {"width": 0}}
            data.append({**hidden, "x": plain(steps), "y": plain(low)})
            data.append({**hidden, "x": plain(steps), "y": plain(high), "fill": "tonexty", "fillcolor": fill})
        x, y = thinned(steps, mean)
        hover = f"step %{{x}}: mean %{{y:.5g}}<extra>{name}</extra>"
        line = {"color": to_hex(colour), "width": 1.8}
        data.append({**common, "name": name, "x": plain(x), "y": plain(y), "hovertemplate": hover, "line": line})
    return {"data": data, "layout": layout(f"{title}: mean and range by depth (runs)", "step t", log)}


def _over_depth(groups: dict[tuple[str, int], list[RunData]], metric: str, title: str, log: bool) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    models = sorted({model for model, _ in groups})
    for colour, model in zip(colours_of(models), models, strict=True):
        name = NAMES.get(model, model)
        means, points = [], []
        for (other, depth), runs in groups.items():
            if other != model:
                continue
            finals = [(run, run.last(metric)) for run in runs]
            points += [(depth, value, run) for run, value in finals if value is not None]
            lasting = [value for value in (run.last(metric) for run in _averaged(runs)) if value is not None]
            means += [(depth, float(np.mean(lasting)))] if lasting else []
        if points:
            data.append(
                {
                    "x": [depth for depth, _, _ in points],
                    "y": plain(np.array([value for _, value, _ in points])),
                    "text": [f"{run.label}, {run.status}" for _, _, run in points],
                    "mode": "markers",
                    "marker": {
                        "color": colour,
                        "size": 7,
                        "opacity": 0.6,
                        "symbol": [_symbol(run) for _, _, run in points],
                    },
                    "hovertemplate": "%{text}: %{y:.5g}<extra></extra>",
                    "legendgroup": name,
                    "showlegend": False,
                }
            )
        if means:
            data.append(
                {
                    "x": [depth for depth, _ in means],
                    "y": plain(np.array([value for _, value in means])),
                    "name": name,
                    "mode": "lines",
                    "line": {"color": colour, "width": 1.8},
                    "hovertemplate": f"depth %{{x}}: mean %{{y:.5g}}<extra>{name}</extra>",
                    "legendgroup": name,
                }
            )
    figure: dict[str, Any] = {"data": data, "layout": layout(title, "depth (linear layers)", log)}
    figure["layout"]["xaxis"]["tickvals"] = sorted({depth for _, depth in groups})
    return figure


def _symbol(run: RunData) -> str:
    if run.status == "completed":
        return "circle"
    return "circle-open" if run.diverged_at is None else "x"


def _group(key: tuple[str, int]) -> str:
    return f"{NAMES.get(key[0], key[0])}, depth {key[1]}"
