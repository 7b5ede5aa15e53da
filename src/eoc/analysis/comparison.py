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
Groups = dict[tuple[str, int], list[RunData]]


def comparison(runs: list[RunData]) -> tuple[list[dict[str, Any]], str]:
    """Return the figures that compare runs by model and depth, and what their means are over beside seeds.

    Of one run alone there are none. Lines are means over the completed runs of a group (where no group has any, over
    stopped or unfinished ones), bands reach from the lowest to the highest. Final values of the other runs are shown
    too, those of diverged ones as crosses.
    """
    groups: Groups = {}
    for run in runs:
        if MODEL in run.settings and DEPTH in run.settings:
            groups.setdefault((run.settings[MODEL], run.settings[DEPTH]), []).append(run)
    groups = dict(sorted(groups.items()))
    if len(groups) < 2 and len(runs) == len(groups):
        return [], ""
    there = {run.status for group in groups.values() for run in group}
    status = next((each for each in ("completed", "stopped", "unfinished") if each in there), "completed")
    averaged = {key: [run for run in group if run.status == status] for key, group in groups.items()}
    figures = [_over_steps(averaged, *curve) for curve in CURVES]
    if len({depth for _, depth in groups}) > 1:
        figures += [_over_depth(groups, averaged, *final) for final in FINAL]
    others = dict.fromkeys(key for group in averaged.values() for key in differing(group) if key != "seed")
    remark = f"Means over runs that differ in {', '.join(others)} too." if others else ""
    return [figure for figure in figures if figure["data"]], remark


def _over_steps(groups: Groups, metric: str, title: str, log: bool) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    for (key, group), colour in zip(groups.items(), layer_colours(len(groups)), strict=True):
        runs = [run for run in group if len(run.known(metric)[0])]
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
        common = {"legendgroup": name, "mode": _mode(len(steps))}
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


def _over_depth(groups: Groups, averaged: Groups, metric: str, title: str, log: bool) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    models = sorted({model for model, _ in groups})
    for colour, model in zip(colours_of(models), models, strict=True):
        name = NAMES.get(model, model)
        means, points = [], []
        for (other, depth), runs in groups.items():
            if other != model:
                continue
            finals = [(run, run.final(metric)) for run in runs]
            points += [(depth, value, run) for run, value in finals if value is not None]
            lasting = [value for value in (run.final(metric) for run in averaged[other, depth]) if value is not None]
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
                    "mode": _mode(len(means)),
                    "line": {"color": colour, "width": 1.8},
                    "hovertemplate": f"depth %{{x}}: mean %{{y:.5g}}<extra>{name}</extra>",
                    "legendgroup": name,
                }
            )
    figure: dict[str, Any] = {"data": data, "layout": layout(title, "depth (linear layers)", log)}
    figure["layout"]["xaxis"]["tickvals"] = sorted({depth for _, depth in groups})
    return figure


def _mode(points: int) -> str:
    return "lines" if points > 1 else "lines+markers"  # one point is no line


def _symbol(run: RunData) -> str:
    if run.status == "completed":
        return "circle"
    return "circle-open" if run.diverged_at is None else "x"


def _group(key: tuple[str, int]) -> str:
    return f"{NAMES.get(key[0], key[0])}, depth {key[1]}"
