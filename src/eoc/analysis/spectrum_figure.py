"""``spectrum.png``: the Hessian spectrum at the measured steps of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eoc.analysis.style import BLUE, figure_style, layer_colours
from eoc.tracking.run_folder import SPECTRUM_FIGURE, read_spectrum

POINTS = 800  # of the grid on which a density is drawn
WIDTH = 0.008  # of the Gaussian drawn for a node, in units of the range of eigenvalues


def draw_spectrum(folder: Path | str, *, dots_per_inch: int = 150) -> Path:
    """Draw density of eigenvalues, sharpness by layer, and trace of a run folder's ``spectrum.npz``.

    Args:
        folder: a run folder with ``spectrum.npz``.
        dots_per_inch: resolution.

    Returns:
        The path of ``spectrum.png`` in that folder.
    """
    folder = Path(folder)
    spectrum = read_spectrum(folder)
    with figure_style():
        figure = Figure(figsize=(11.5, 3.9), layout="constrained")
        axes = figure.subplots(1, 3, width_ratios=[1.7, 1, 1])
        _density(figure, axes[0], spectrum)
        _layers(axes[1], spectrum)
        _trace(axes[2], spectrum)
        figure.suptitle("Hessian of the training loss in the learning-rate metric, D^½·H·D^½", fontsize=10)
        path = folder / SPECTRUM_FIGURE
        figure.savefig(path, dpi=dots_per_inch)
    return path


def smoothed(
    grid: NDArray[np.float64], nodes: NDArray[np.float64], weights: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Return the density on a grid, each node a Gaussian of standard deviation ``width``.

    Args:
        grid: (points,) eigenvalues.
        nodes: (nodes,) eigenvalues.
        weights: (nodes,), of sum 1.
        width: in units of eigenvalues, above 0.

    Returns:
        (points,), per unit of eigenvalue.
    """
    bells = np.exp(-0.5 * ((grid[:, None] - nodes) / width) ** 2)
    return bells @ weights / (width * np.sqrt(2 * np.pi))


def _density(figure: Figure, axis: Axes, spectrum: dict[str, NDArray[Any]]) -> None:
    held = spectrum["weights"] > 0
    low, high = spectrum["nodes"][held].min(), spectrum["nodes"][held].max()
    width = WIDTH * (high - low) or 1.0
    grid = np.linspace(low - 4 * width, high + 4 * width, POINTS)
    scale = Normalize(spectrum["step"].min(), max(spectrum["step"].max(), 1))
    colours = ScalarMappable(scale, colormaps["viridis"].with_extremes())
    top = 0.0
    for step, nodes, weights in zip(spectrum["step"], spectrum["nodes"], spectrum["weights"], strict=True):
        density = smoothed(grid, nodes, weights, width)
        axis.plot(grid, density, color=colours.to_rgba(step), linewidth=1.0, label=f"t = {step}")
        top = max(top, density.max())
    axis.set(title="Density of eigenvalues (Lanczos quadrature)", xlabel="eigenvalue", yscale="log")
    axis.set_ylim(1e-7 * top, 3 * top)
    if len(spectrum["step"]) <= 6:
        axis.legend()
    else:
        figure.colorbar(colours, ax=axis, label="step t", pad=0.01)


def _layers(axis: Axes, spectrum: dict[str, NDArray[Any]]) -> None:
    axis.set(title="Sharpness λ, and of each layer alone", xlabel="step t", yscale="log")
    nodes = np.where(spectrum["weights"] > 0, spectrum["nodes"], -np.inf)
    axis.plot(spectrum["step"], nodes.max(axis=1), "o-", color="black", markersize=3, label="all layers")
    names = [str(name).replace("_", " ") for name in spectrum["layer_names"]]
    for name, values, colour in zip(names, spectrum["layers"].T, layer_colours(len(names)), strict=True):
        axis.plot(spectrum["step"], values, "o-", color=colour, markersize=3, label=name)
    axis.legend()


def _trace(axis: Axes, spectrum: dict[str, NDArray[Any]]) -> None:
    axis.set(title="Trace ± standard error (Hutch++)", xlabel="step t")
    axis.errorbar(spectrum["step"], spectrum["trace"], spectrum["trace_error"], fmt="o-", color=BLUE, markersize=3)
    axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
