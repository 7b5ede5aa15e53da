"""What the experiments' figures have in common."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from PIL import Image

from eoc.analysis.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED

RULES = {
    "sp": "SP",
    "ntp": "NTP",
    "mup": "μP",
    "mup_inverse_depth": "μP/depth",
    "nup": "νP, γ = 2",
    "nup_growth_0": "νP, γ = 0",
    "nup_growth_1": "νP, γ = 1",
    "nup_growth_1_5": "νP, γ = 1.5",
    "nup_growth_3": "νP, γ = 3",
}
COLOURS = {
    "sp": GREY,
    "ntp": ORANGE,
    "mup": RED,
    "mup_inverse_depth": PURPLE,
    "nup": BLUE,
    "nup_growth_0": "#882255",
    "nup_growth_1": GREEN,
    "nup_growth_1_5": "#56B4E9",
    "nup_growth_3": "black",
}
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, "#56B4E9", GREY, "black")


def label(model: str) -> dict[str, Any]:
    """Name and colour of a rule's curve."""
    return {"label": RULES[model], "color": COLOURS[model]}


def panels(count: int, title: str, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of ``rows`` times ``count`` panels."""
    figure = Figure(figsize=(3.4 * count + 0.4, 3.1 * rows + 0.3), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, list(np.asarray(figure.subplots(rows, count)).flat)


def band(axis: Axes, cells: pd.DataFrame, x: str, y: str, style: dict[str, Any] | str) -> None:
    """Geometric mean over seeds against ``x``, with a band from the smallest to the largest."""
    if cells.empty:
        return
    keywords = {"label": style} if isinstance(style, str) else style
    grouped = cells.groupby(x)[y]
    centre = np.exp(grouped.apply(lambda values: np.log(values).mean()))
    (line,) = axis.plot(centre.index, centre, marker="o", markersize=3, **keywords)
    axis.fill_between(centre.index, grouped.min(), grouped.max(), color=line.get_color(), alpha=0.15, linewidth=0)


def ticks(axis: Axes, values: Sequence[float]) -> None:
    """Exactly these ticks on a logarithmic x axis."""
    axis.set_xticks(list(values), [f"{value:g}" for value in values])
    axis.xaxis.set_minor_locator(NullLocator())


def legend(axis: Axes, **keywords: Any) -> None:
    """A legend, where there is a curve to name."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(**keywords)


def legend_above(axis: Axes) -> None:
    """A legend at the upper left of logarithmic axes, with room above the curves where it would hide one."""
    legend(axis, loc="upper left")
    drawn, figure = axis.get_legend(), axis.get_figure(root=True)
    if drawn is None or figure is None or _empty(axis):
        return
    figure.draw_without_rendering()  # which places it
    box = drawn.get_window_extent().transformed(axis.transAxes.inverted())
    across = np.linspace(box.x0, box.x1, 50)
    heights = [box.y0]
    for line in axis.lines:
        x, y = (line.get_transform() - axis.transAxes).transform(line.get_xydata()).T
        heights.extend(np.interp(across[(across >= x[0]) & (across <= x[-1])], x, y))
    low, high = axis.get_ylim()
    axis.set_ylim(low, low * (high / low) ** (max(heights) / box.y0))


def _empty(axis: Axes) -> bool:
    return not bool(np.isfinite(axis.dataLim.get_points()).all())


def legible(figure: Figure) -> None:
    """Label logarithmic y axes on which few powers of ten lie at 1, 2 and 5 of each, or else at round numbers.

    A panel without a value says so: it has no logarithmic scale, unless it shares that of a panel with values.
    """
    for axis in figure.axes:
        if _empty(axis):
            for name, shared in (("x", axis.get_shared_x_axes()), ("y", axis.get_shared_y_axes())):
                if all(_empty(other) for other in shared.get_siblings(axis)):
                    axis.set(**{f"{name}scale": "linear", f"{name}ticks": []})
            axis.text(0.5, 0.5, "no runs", transform=axis.transAxes, ha="center", va="center", color=GREY)
            continue
        low, high = axis.get_ylim()
        if axis.get_yscale() != "log" or isinstance(axis.yaxis.get_major_locator(), FixedLocator):
            continue
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high) + 1)
        choices = (powers, np.outer(powers, (1, 2, 5)).ravel(), np.asarray(MaxNLocator(4).tick_values(low, high)))
        inside = [values[(values >= low) & (values <= high)] for values in choices]
        if len(inside[0]) < 3:
            held = inside[1] if len(inside[1]) >= 3 else inside[2]
            axis.set_yticks(held, [f"{value:g}" for value in held])
            axis.yaxis.set_minor_locator(NullLocator())


def save_png(figure: Figure, path: Path, dots_per_inch: int = 160) -> None:
    """Save a figure in a palette of 256 colours: it looks the same, and takes a third of the space."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_per_inch)
    with Image.open(drawn) as image:
        palette = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    palette.save(path, optimize=True, dpi=(dots_per_inch, dots_per_inch))
