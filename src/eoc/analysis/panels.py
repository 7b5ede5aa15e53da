"""The panels of the page: which curves of which metrics, as plotly's plain traces and layouts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from eoc.analysis.run_data import RunData
from eoc.analysis.style import BLACK, BLUE, FEW, ORANGE, PURPLE, RED, layer_colours

POINTS = 1000  # of one curve; above that, the lowest and the highest of each bucket are kept
DASHES = ("solid", "dot", "dash", "longdash")

Curve = tuple[str, str, NDArray[np.float64], NDArray[np.float64]]  # legend, colour, steps, values


@dataclass(frozen=True)
class Panel:
    """Curves over the step.

    Args:
        title: what is shown, with its unit.
        curves: of a run.
        log: whether the y axis begins as a logarithmic one.
        bounds: of the y axis.
        edges: whether lines mark the limit of η·λ and its double.
    """

    title: str
    curves: Callable[[RunData], list[Curve]]
    log: bool = False
    bounds: tuple[float, float] | None = None
    edges: bool = False


def _of(*metrics: tuple[str, str, str]) -> Callable[[RunData], list[Curve]]:
    return lambda run: [(legend, colour, *run.known(name)) for name, legend, colour in metrics]


def _by_layer(prefix: str) -> Callable[[RunData], list[Curve]]:
    def curves(run: RunData) -> list[Curve]:
        names = run.layers(prefix)
        colours = [to_hex(colour) for colour in layer_colours(len(names))]
        return [
            (f"layer {name.rpartition('_')[2]}", colour, *run.known(name))
            for name, colour in zip(names, colours, strict=True)
        ]

    return curves


def _edge(run: RunData) -> list[Curve]:
    steps, rates = run.known("lr")
    edges = [(f"{factor * run.limit:g}/η", colour, steps, factor * run.limit / rates) for factor, colour in EDGES]
    return [("λ", BLUE, *run.known("sharpness")), *edges]


def _eigenvalues(run: RunData) -> list[Curve]:
    names = sorted(
        (name for name in run.columns if name.startswith("hessian/eig_")), key=lambda name: int(name.rpartition("_")[2])
    )
    return [
        (f"λ_{name.rpartition('_')[2]}", to_hex(colour), *run.known(name))
        for name, colour in zip(names, layer_colours(len(names)), strict=True)
    ]


_PRODUCT = _of(("lr_x_sharpness", "η·λ", BLUE))
EDGES = ((1, RED), (2, PURPLE))
COSINES = (-1.05, 1.05)
SECTIONS: dict[str, list[Panel]] = {
    "Training": [
        Panel("Loss (mean over examples)", _of(("train/loss", "train", BLUE), ("test/loss", "test", ORANGE)), log=True),
        Panel("Accuracy", _of(("train/accuracy", "train", BLUE), ("test/accuracy", "test", ORANGE)), bounds=(0, 1.02)),
        Panel("Learning rate η", _of(("lr", "η", BLUE)), log=True),
    ],
    "Edge of stability": [
        Panel("Sharpness λ against 2/η and 4/η", _edge, log=True),
        Panel("η·λ: monotone below 2, catapult from 2 to 4 (heavy ball: times 1 + β)", _PRODUCT, edges=True),
        Panel("Top Hessian eigenvalues", _eigenvalues, log=True),
    ],
    "Cosines": [
        Panel(
            "Cosine of the new update with the cumulative and the previous one",
            _of(("cosine/cumulative/all", "cumulative", BLACK), ("cosine/previous/all", "previous", RED)),
            bounds=COSINES,
        ),
        Panel("Cosine with the cumulative update, by layer", _by_layer("cosine/cumulative"), bounds=COSINES),
        Panel("Cosine with the previous update, by layer", _by_layer("cosine/previous"), bounds=COSINES),
        Panel(
            "Distance from the start and norm of the update",
            _of(("distance/all", "‖θ_t − θ_0‖", BLUE), ("update_norm/all", "‖Δ_t‖", RED)),
            log=True,
        ),
    ],
    "Features": [
        Panel("Kernel change, 1 − CKA of the last hidden layer", _of(("features/kernel_change", "1 − CKA", BLACK))),
        Panel("Preactivation change ‖h(t) − h(0)‖/‖h(0)‖, by layer", _by_layer("features/preactivation_change")),
    ],
    "Curvature cost": [
        Panel(
            "Hessian–vector products a probe",
            _of(("hessian/products", "λ", BLUE), ("hessian/top_products", "top eigenvalues", ORANGE)),
        ),
        Panel(
            "Time of a probe, ms",
            _of(("hessian/milliseconds", "λ", BLUE), ("hessian/top_milliseconds", "top eigenvalues", ORANGE)),
        ),
        Panel(
            "Relative error bound of a probe",
            _of(("hessian/residual", "λ", BLUE), ("hessian/top_residual", "top eigenvalues", ORANGE)),
            log=True,
        ),
    ],
}


def colours_of(things: Sized) -> list[str]:
    """One colour a run, or whatever it is: easy to tell apart for a few, in order from dark to light for many."""
    if len(things) <= len(FEW):
        return list(FEW[: len(things)])
    return [to_hex(colour) for colour in layer_colours(len(things))]


def figures(runs: list[RunData]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the sections: a title and the figures (``data`` and ``layout`` of plotly) of its panels that have data."""
    for title, panels in SECTIONS.items():
        drawn = [figure for figure in (_figure(panel, runs) for panel in panels) if figure["data"]]
        if drawn:
            yield title, drawn


def _figure(panel: Panel, runs: list[RunData]) -> dict[str, Any]:
    single = len(runs) == 1
    data: list[dict[str, Any]] = []
    for index, (run, run_colour) in enumerate(zip(runs, colours_of(runs), strict=True)):
        # A quantity has its dash whether or not a run has those before it.
        curves = [(place, *curve) for place, curve in enumerate(panel.curves(run)) if len(curve[2])]
        for place, legend, colour, steps, values in curves:
            x, y = thinned(steps, values)
            said = legend if single else f"{run.label}: {legend}"
            data.append(
                {
                    "x": plain(x),
                    "y": plain(y),
                    "name": legend if single else run.label,
                    "hovertemplate": f"step %{{x}}: %{{y:.5g}}<extra>{said}</extra>",
                    "line": {
                        "color": colour if single else run_colour,
                        "width": 1.6 if place == 0 else 1.1,
                        "dash": "solid" if single else DASHES[min(place, len(DASHES) - 1)],
                    },
                    "legendgroup": legend if single else str(index),
                    "showlegend": single or place == curves[0][0],
                    "meta": index,
                }
            )
    limits = sorted({run.limit for run in runs}) if panel.edges else []
    marks = [mark for limit in limits for mark in _edge_lines(limit)]
    marks += [
        _mark("x", run.diverged_at, RED if single else colour, "dot") | {"name": str(index)}
        for index, (run, colour) in enumerate(zip(runs, colours_of(runs), strict=True))
        if run.diverged_at is not None
    ]
    figure: dict[str, Any] = {"data": data, "layout": layout(panel.title, "step t", panel.log, panel.bounds, marks)}
    if panel.edges:
        figure["layout"]["yaxis"]["autorangeoptions"] = {"include": [0.0, 2.2 * limits[-1]]}
    return figure


def layout(
    title: str,
    x: str,
    log: bool,
    bounds: tuple[float, float] | None = None,
    marks: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return a panel's layout: titles, the kind and the bounds of the y axis, lines across the panel."""
    return {
        "meta": title,
        "xaxis": {"title": {"text": x}},
        "yaxis": {"type": "log" if log else "linear", **({"range": list(bounds)} if bounds else {})},
        "shapes": list(marks),
    }


def _edge_lines(limit: float) -> list[dict[str, Any]]:
    return [_mark("y", factor * limit, colour, "solid") for factor, colour in EDGES]


def _mark(axis: str, value: float, colour: str, dash: str) -> dict[str, Any]:
    """A line across the panel at a value of one axis."""
    other = "y" if axis == "x" else "x"
    ends = {f"{axis}0": value, f"{axis}1": value, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    return {"type": "line", **ends, "line": {"color": colour, "dash": dash, "width": 1.2}}


def thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], points: int = POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep the lowest and the highest value of each of points/2 buckets, and both ends: spikes stay."""
    if len(x) <= points:
        return x, y
    edges = np.linspace(0, len(x), points // 2 + 1).astype(int)
    kept = {0, len(x) - 1}
    for start, end in itertools.pairwise(edges):
        kept |= {start + int(np.argmin(y[start:end])), start + int(np.argmax(y[start:end]))}
    order = sorted(kept)
    return x[order], y[order]


def plain(values: NDArray[np.float64]) -> list[float]:
    """Numbers for JSON, to six digits."""
    return [float(f"{value:.6g}") for value in values]
