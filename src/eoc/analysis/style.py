"""One look for all figures: readable at column width, safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.rcsetup import cycler

# Okabe & Ito's palette, distinguishable with any colour vision.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
BLACK = "#222222"
FEW = (BLUE, RED, GREEN, PURPLE, ORANGE, "#56B4E9", BLACK, "#999933")  # for names that have no order

STYLE: Any = {
    "font.size": 9,
    "axes.prop_cycle": cycler(color=FEW),
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",
    "svg.hashsalt": "eoc",  # the same figure is the same file
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw inside with the project's style, whatever the user's own settings are."""
    with mpl.rc_context():
        mpl.rcParams.update({key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"})
        mpl.rcParams.update(STYLE)
        yield


def layer_colours(count: int) -> list[tuple[float, float, float, float]]:
    """One colour a layer, from the first (dark) to the last (light)."""
    colours = mpl.colormaps["viridis"]
    return [colours(0.9 * index / max(count - 1, 1)) for index in range(count)]
