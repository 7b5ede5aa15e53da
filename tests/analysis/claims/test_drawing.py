"""What the figures of the experiments have in common."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from PIL import Image

from eoc.analysis.claims.drawing import legend_above, legible, panels, save_png
from eoc.analysis.style import BLUE


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((0.3, 3.9), ["0.5", "1", "2"]),
        ((0.03, 0.6), ["0.05", "0.1", "0.2", "0.5"]),
        ((0.24, 0.41), ["0.25", "0.3", "0.35", "0.4"]),
    ],
)
def test_a_short_logarithmic_axis_has_three_labels_at_least(limits: tuple[float, float], labels: list[str]):
    figure, (axis,) = panels(1, "title")
    axis.plot([1.0, 2.0], limits)
    axis.set(yscale="log", ylim=limits)
    legible(figure)
    assert [label.get_text() for label in axis.get_yticklabels()] == labels
    assert not len(axis.get_yticks(minor=True))
    assert axis.get_ylim() == pytest.approx(limits)


def test_long_axes_linear_ones_and_chosen_ticks_are_left_alone():
    figure, (long, linear, chosen) = panels(3, "title")
    for axis in (long, linear, chosen):
        axis.plot([1.0, 2.0], [0.3, 3.9])
    long.set(yscale="log", ylim=(1e-3, 1e3))
    linear.set_ylim(0.3, 3.9)
    chosen.set(yscale="log", ylim=(0.3, 3.9))
    chosen.set_yticks([1.0])
    before = list(linear.get_yticks())
    legible(figure)
    assert isinstance(long.yaxis.get_major_locator(), LogLocator)
    assert list(linear.get_yticks()) == before
    assert list(chosen.get_yticks()) == [1.0]


@pytest.mark.parametrize("heights", [(100.0, 130.0, 300.0, 900.0), (1.0, 1.0, 1.0, 900.0)])
def test_a_legend_above_hides_no_curve_and_takes_no_room_where_there_is_some(heights: tuple[float, ...]):
    figure, (axis,) = panels(1, "title")
    for shift in (1.0, 0.9, 0.8, 0.7):
        axis.plot([3, 5, 9, 17], [shift * height for height in heights], label=f"{shift} of it")
    axis.set(xscale="log", yscale="log", ylim=(0.2, 1000.0))
    legend_above(axis)
    figure.draw_without_rendering()
    (x, _), (right, bottom) = (axis.get_legend().get_window_extent().corners()[i] for i in (0, 2))
    for line in axis.lines:
        drawn = line.get_transform().transform(line.get_xydata())
        below = [np.interp(place, *drawn.T) for place in np.linspace(max(x, drawn[0, 0]), right, 200)]
        assert max(below) <= bottom + 1e-6
    low, high = axis.get_ylim()
    assert low == 0.2
    assert high > 1001 if heights[0] > 1 else high == pytest.approx(1000)


def test_a_panel_without_a_value_says_so_and_can_be_drawn():
    figure, (empty, marked, full) = panels(3, "title")
    empty.plot([], [])
    marked.axvline(2.0)
    full.plot([1.0, 2.0], [0.3, 3.9])
    for axis in (empty, marked, full):
        axis.set(xscale="log", yscale="log")
    legible(figure)
    figure.savefig(BytesIO())
    said = [[text.get_text() for text in axis.texts] for axis in (empty, marked, full)]
    assert said == [["no runs"], ["no runs"], []]
    assert full.get_yscale() == "log"


def test_a_panel_without_a_value_leaves_the_axes_that_it_shares_alone():
    figure = Figure()
    (full, empty), (low, also_empty) = figure.subplots(2, 2, sharex=True, sharey="row")
    for axis in (full, low):
        axis.plot([1.0, 10.0], [0.3, 3.9])
    empty.set(xscale="log", yscale="log")
    legible(figure)
    figure.savefig(BytesIO())
    assert {axis.get_xscale() for axis in figure.axes} == {"log"}
    assert (full.get_yscale(), low.get_yscale()) == ("log", "linear")
    assert all(axis.get_xticks().size for axis in (full, low))
    assert [[text.get_text() for text in axis.texts] for axis in (empty, also_empty)] == [["no runs"], ["no runs"]]


def test_a_panel_that_shares_its_y_axis_alone_with_a_full_one_leaves_that():
    figure = Figure()
    full, empty = figure.subplots(1, 2, sharey=True)
    full.plot([1.0, 10.0], [0.3, 3.9])
    full.set_yscale("log")
    legible(figure)
    assert full.get_yscale() == "log"
    assert full.get_yticks().size
    assert empty.get_xticks().size == 0


def test_a_saved_figure_looks_like_the_drawn_one(tmp_path: Path):
    figure, axes = panels(2, "a title")
    axes[0].fill_between([0, 1], [0, 0], [1, 2], color=BLUE, alpha=0.2)
    image = axes[1].imshow(np.linspace(0, 1, 400).reshape(20, 20), cmap="viridis")
    figure.colorbar(image)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # or each drawing moves it a little
    save_png(figure, tmp_path / "palette.png", 80)
    figure.savefig(tmp_path / "full.png", dpi=80)
    saved, full = (Image.open(tmp_path / f"{name}.png") for name in ("palette", "full"))
    assert saved.mode == "P"
    assert saved.size == full.size
    assert saved.info["dpi"] == pytest.approx((80, 80), abs=0.1)
    off = np.abs(np.asarray(saved.convert("RGB"), float) - np.asarray(full.convert("RGB"), float))
    assert off.mean() < 0.5
    assert off.max() < 16
    assert (tmp_path / "palette.png").stat().st_size < (tmp_path / "full.png").stat().st_size / 2
