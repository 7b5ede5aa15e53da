"""``summary.png``: a run in one look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from eoc.analysis.style import BLUE, GREY, ORANGE, PURPLE, RED, figure_style, layer_colours
from eoc.tracking.run_folder import FIGURE, Damaged, read_metrics, read_settings

NAMES = {"nup": "νP", "mup": "μP", "mup_inverse_depth": "μP/depth", "ntp": "NTP", "sp": "SP"}
LOSSES = {"mse": "Loss, ½ squared error", "cross_entropy": "Loss, cross-entropy in nats"}
# Room for the ticks' labels. To measure them, as a constrained layout does, costs a job of a sweep as much as to draw.
MARGINS = {"left": 0.08, "right": 0.985, "bottom": 0.075, "top": 0.895, "wspace": 0.17, "hspace": 0.17}
WIDE = 120  # letters of a title that fit the figure's width
NARROW = 1.5  # ratio of largest to smallest loss up to which its axis is linear
FLAT = 1e-3  # share of the loss that its axis spans at least
MOST = 6  # layers with a name in the legend
HUGE = 100.0  # relative change of features above which its axis is logarithmic
ROUNDING = 1e-9  # change of features that its axis spans at least
Columns = Mapping[str, NDArray[np.float64]]


def draw_summary(
    folder: Path | str,
    *,
    rows: Path | str | None = None,
    limit: float = 2.0,
    diverged: int | None = None,
    dots_per_inch: int = 150,
) -> Path:
    """Draw loss, sharpness, cosines and feature change of a run folder against the step.

    Args:
        folder: a run folder with ``metrics.csv``; made if it is not there.
        rows: the folder of ``metrics.csv`` where that is another.
        limit: η·λ at the edge of stability, 2(1+β); lines are drawn at limit/η and 2·limit/η.
        diverged: the step at which the run diverged, marked in every panel and in the title; None if it did not.
        dots_per_inch: resolution.

    Returns:
        The path of ``summary.png`` in that folder.
    """
    folder = Path(folder)
    columns = {name: np.asarray(values) for name, values in read_metrics(folder if rows is None else rows).items()}
    with figure_style(), np.errstate(over="ignore"):  # of an axis beyond the largest number
        figure = Figure(figsize=(10.0, 6.6))
        axes = figure.subplots(2, 2, sharex=True, gridspec_kw=MARGINS)
        config = _config(folder)
        _loss(axes[0, 0], columns, LOSSES.get(config.get("loss", {}).get("name"), "Loss"))
        _sharpness(axes[0, 1], columns, limit)
        _cosines(axes[1, 0], columns)
        _features(axes[1, 1], columns)
        for axis in axes[1]:
            axis.set_xlabel("step t")
            axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True))
        marked = "" if diverged is None else f"DIVERGED at step {diverged}; "
        title = figure.suptitle(_in_lines(marked + (_title(config) if config else folder.name)), fontsize=9.5, y=0.99)
        if diverged is not None:
            title.set_color(RED)
            for axis in axes.flat:
                axis.axvline(diverged, color=RED, linestyle=":")
        path = folder / FIGURE
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dots_per_inch, pil_kwargs={"compress_level": 1})
    return path


def _loss(axis: Axes, columns: Columns, name: str) -> None:
    axis.set(title=f"{name} (mean over examples)", yscale="log")
    for name, colour in (("train", BLUE), ("test", ORANGE)):
        final = columns.get(f"{name}/accuracy", np.empty(0))[-1:]
        label = f"{name} (final accuracy {final[0]:.3f})" if np.isfinite(final).any() else name
        _plot(axis, columns, f"{name}/loss", color=colour, label=label)
    _legend(axis)
    values = _values(axis)
    if len(values) and 0.0 < values.max() <= NARROW * values.min():  # where a logarithmic axis has long labels
        axis.set_yscale("linear")
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:.5g}"))
        low, high = axis.get_ylim()
        if high - low < FLAT * high:
            axis.set_ylim(values.mean() * (1 - FLAT / 2), values.mean() * (1 + FLAT / 2))


def _sharpness(axis: Axes, columns: Columns, limit: float) -> None:
    axis.set(title="Sharpness λ in the learning-rate metric", yscale="log")
    hidden = (_known(columns, "sharpness")[1] <= 0.0).any()
    _plot(axis, columns, "sharpness", color=BLUE, label="λ (not shown where it is not positive)" if hidden else "λ")
    steps, rates = _known(columns, "lr")
    for factor, colour, meaning in ((1, RED, " (edge of stability)"), (2, PURPLE, "")):
        label = f"{factor * limit:g}/η{meaning}"
        with np.errstate(divide="ignore"):  # a rate that has decayed to 0
            axis.plot(steps, factor * limit / rates, color=colour, linewidth=0.8, label=label)
    _legend(axis)


def _cosines(axis: Axes, columns: Columns) -> None:
    axis.set(title="Cosine of the new update with …", ylim=(-1.05, 1.05))
    for name, colour in _by_layer(columns, "cosine/cumulative"):
        _plot(axis, columns, name, color=colour, linewidth=0.6, alpha=0.6)
    _plot(axis, columns, "cosine/cumulative/all", color="black", label="the cumulative update (thin: by layer)")
    _plot(axis, columns, "cosine/previous/all", color=RED, linewidth=0.8, label="the previous update")
    axis.axhline(0.0, color=GREY, linewidth=0.8)
    _legend(axis)


def _features(axis: Axes, columns: Columns) -> None:
    axis.set(title="Feature change ‖h(t) − h(0)‖/‖h(0)‖ on a probe batch")
    layers = _by_layer(columns, "features/preactivation_change")
    named = np.linspace(0, len(layers) - 1, min(len(layers), MOST)).round()  # the colours tell where the others are
    for index, (name, colour) in enumerate(layers):
        what = "outputs" if _layer(name) == _depth(columns) else "preactivations"
        _plot(axis, columns, name, color=colour, label=f"{what} h_{_layer(name)}" if index in named else None)
    _plot(axis, columns, "features/kernel_change", color="black", linestyle="--", label="1 − CKA, last hidden layer")
    values, legend = _values(axis), 0.03 + 0.068 * (1 + min(len(layers), MOST) // 2)  # its share of the axis
    room = legend / (1.0 - legend)
    if len(values) and values.max() > HUGE:
        axis.set_yscale("log")
        low = min(values[values > ROUNDING].min(), values.max() / HUGE)
        axis.set_ylim(low, min(values.max() * (values.max() / low) ** room, np.finfo(float).max))
    else:
        low, high = axis.get_ylim()
        axis.set_ylim(low, max(high + room * (high - low), ROUNDING))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
    _legend(axis, loc="upper left", ncols=2)


def _plot(axis: Axes, columns: Columns, name: str, **style: object) -> None:
    steps, values = _known(columns, name)
    if len(values):
        style = {"marker": "."} | style if len(values) == 1 else style  # of which there is no line
        axis.plot(steps, values, **style)  # type: ignore[arg-type]


def _values(axis: Axes) -> NDArray[np.float64]:
    """All that is drawn."""
    return np.concatenate([np.empty(0), *(np.asarray(line.get_ydata(), dtype=float) for line in axis.lines)])


def _known(columns: Columns, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if name not in columns:
        return np.empty(0), np.empty(0)
    there = np.isfinite(columns[name])
    return columns["step"][there], columns[name][there]


def _by_layer(columns: Columns, prefix: str) -> list[tuple[str, tuple[float, ...]]]:
    """The columns of the layers that have one, in the order of depth, each with its layer's colour."""
    colours = layer_colours(_depth(columns))
    names = [name for name in columns if name.startswith(f"{prefix}/layer_")]
    return [(name, colours[_layer(name) - 1]) for name in sorted(names, key=_layer)]


def _layer(name: str) -> int:
    return int(name.rpartition("_")[2])


def _depth(columns: Columns) -> int:
    return max((_layer(name) for name in columns if "/layer_" in name), default=0)


def _legend(axis: Axes, **places: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=True, framealpha=0.75, edgecolor="none", **places)  # legible over curves too
    else:
        axis.text(0.5, 0.56, "not measured", transform=axis.transAxes, ha="center", color=GREY)


def _width(model: Mapping[str, float]) -> str:
    return f"{model['width']}" + (f"·k$^{{{model['growth']:g}}}$" if model["growth"] else "")


def _in_lines(title: str) -> str:
    """Break a title that is too long for one line at the semicolon nearest to its middle."""
    breaks = [place for place, sign in enumerate(title) if sign == ";"]
    if len(title) <= WIDE or not breaks:
        return title
    middle = min(breaks, key=lambda place: abs(2 * place - len(title)))
    return f"{title[:middle]}\n{title[middle + 2 :]}"


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_settings(folder)["config"])
    except (FileNotFoundError, Damaged):
        return {}


def _title(config: Mapping[str, Any]) -> str:
    """Say what was run: always the main settings, the others where they are not the usual ones or left out."""
    model, schedule, dataset = config["model"], config["schedule"], config["dataset"]
    network = [NAMES.get(model["parameterization"], model["parameterization"])]
    network += [f"{model['depth']} layers", f"width {_width(model)}"]
    network += [str(model["activation"])] if "activation" in model else []
    network += [f"ρ = {model['richness']:g}"] if model.get("richness", 1.0) != 1.0 else []
    network += ["readout 0"] if model.get("readout_init") == "zero" else []
    rule = [str(schedule["_target_"]).rpartition(".")[2] + " schedule"]
    rule += [f"κ = {schedule['kappa']:g}"] if "kappa" in schedule else []
    if "rate" in schedule:
        rule += [f"η = {schedule['rate']:g}" + ("/λ₀" if schedule.get("unit") == "inverse_sharpness" else "")]
    rule += ["by critical sharpness"] if schedule.get("source") == "critical" else []
    rule += [f"every {schedule['interval']} steps"] if schedule.get("interval", 1) != 1 else []
    momentum = config.get("optimizer", {}).get("momentum", 0.0)
    rule += [f"momentum {momentum}"] if momentum else []
    data = [str(dataset["_target_"]).rpartition(".")[2]]
    if "n_train" in dataset:
        data += [f"{'all' if dataset['n_train'] is None else dataset['n_train']} examples"]
    data += [f"batches of {dataset['batch_size']}"] if dataset.get("batch_size") else []
    data += [f"targets {dataset['target']}"] if dataset.get("target", "one_hot") != "one_hot" else []
    return "; ".join([*map(", ".join, (network, rule, data)), f"seed {config['seed']}"])
