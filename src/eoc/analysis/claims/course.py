"""How cosines, distance and features run through training, by phase: what the `cosines` claims average over."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eoc.analysis.claims.drawing import COLOURS, RULES
from eoc.analysis.claims.reading import History
from eoc.analysis.style import layer_colours

WHOLE, LAYER = "cosine/cumulative/all", "cosine/cumulative/layer_"
PREVIOUS, ALONG, FEATURES = "cosine/previous/all", "share_along", "features/kernel_change"
SHOWN = {
    WHOLE: "cosine, new and\ncumulative update",
    LAYER: "the same by layer,\nνP (γ = 2), depth 6",
    PREVIOUS: "cosine, new and\nprevious update",
    ALONG: "2Σ⟨Δ,U⟩ / ‖U‖²",
    FEATURES: "1 − CKA of the\nlast hidden layer",
}
BINS = 40  # of steps, equal in their logarithm where they hold several


def course(histories: Iterator[tuple[str, str, int, History]]) -> pd.DataFrame:
    """Mean over runs, with their 10% and 90% quantiles, of every quantity in every bin of steps.

    Args:
        histories: phase, model, depth and columns of every run.

    Returns:
        Columns phase, model, quantity, step (the bin's middle), mean, low, high. Layers are those of νP networks with
        six.
    """
    rows = []
    for phase, model, depth, columns in histories:
        names = [WHOLE, PREVIOUS, FEATURES]
        if model == "nup" and depth == 6:
            names += [f"{LAYER}{k}" for k in range(1, depth + 1)]
        series = {name: columns[name] for name in names if name in columns} | {ALONG: share_along(columns)}
        steps = columns["step"]
        edges = np.unique(np.geomspace(1, steps.max() + 1, BINS).astype(int))
        bins = np.digitize(steps, edges)
        for name, values in series.items():
            for index in range(1, len(edges)):
                inside = values[(bins == index) & np.isfinite(values)]
                if len(inside):
                    middle = (edges[index - 1] + edges[index] - 1) / 2
                    rows.append((phase, model, name, middle, inside.mean()))
    frame = pd.DataFrame(rows, columns=["phase", "model", "quantity", "step", "value"])
    groups = frame.groupby(["phase", "model", "quantity", "step"], sort=True)["value"]
    quantiles = {"low": groups.quantile(0.1), "high": groups.quantile(0.9)}
    return pd.DataFrame({"mean": groups.mean(), **quantiles}).reset_index()


def share_along(columns: History) -> np.ndarray:
    """The part of ‖U_t‖² = Σ‖Δ‖² + 2Σ⟨Δ,U⟩ that is due to updates that go on where the sum went; below 0: back."""
    own = np.concatenate([[0.0], np.cumsum(columns["update_norm/all"][:-1] ** 2)])
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - own / columns["distance/all"] ** 2


def course_figure(found: pd.DataFrame, phases: tuple[str, ...]) -> Figure:
    """One column a phase, one row a quantity, one curve a rule; bands hold eight in ten runs."""
    drawn = Figure(figsize=(2.5 * len(phases) + 0.6, 1.7 * len(SHOWN) + 0.6), layout="constrained")
    drawn.suptitle("Updates and features through the phases", fontsize=10)
    grid = drawn.subplots(len(SHOWN), len(phases), sharex=True, sharey="row", squeeze=False)
    for axes, (quantity, words) in zip(grid, SHOWN.items(), strict=True):
        axes[0].set_ylabel(words)
        for axis, phase in zip(axes, phases, strict=True):
            there = found[found["phase"] == phase]
            if quantity == LAYER:
                names = sorted(name for name in there["quantity"].unique() if name.startswith(LAYER))
                for name, colour in zip(names, layer_colours(len(names)), strict=True):
                    _curve(axis, there[there["quantity"] == name], f"layer {name[len(LAYER) :]}", colour, band=False)
            else:
                there = there[there["quantity"] == quantity]
                for model in (name for name in RULES if name in set(there["model"])):
                    _curve(axis, there[there["model"] == model], RULES[model], COLOURS[model], band=True)
            if quantity == ALONG:
                axis.set_ylim(-1.05, 1.05)
            if quantity != FEATURES:
                axis.axhline(0, color="black", linewidth=0.6)
    for axis, phase in zip(grid[0], phases, strict=True):
        axis.set_title(phase, fontsize=9)
    for axis in grid[-1]:
        axis.set(xlabel="step", xscale="log")
    for row in (0, 1):
        shown = [pair for axis in grid[row] for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
        labels = {text: line for line, text in shown}
        grid[row][-1].legend(labels.values(), labels.keys(), loc="upper left", bbox_to_anchor=(1, 1))
    return drawn


def _curve(axis: Axes, part: pd.DataFrame, label: str, colour: mpl.typing.ColorType, *, band: bool) -> None:
    axis.plot(part["step"], part["mean"], label=label, color=colour)
    if band:
        axis.fill_between(part["step"], part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
