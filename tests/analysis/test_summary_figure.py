"""summary.png, by what its axes hold and not by its pixels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import eoc.analysis.summary_figure as figure_room
from eoc.analysis import draw_summary
from eoc.tracking.run_folder import FIGURE, METRICS, SETTINGS, read_metrics
from support import EVERY_STEP, NO_FIGURE, Run, trained

LOSS, SHARPNESS, COSINES, FEATURES = range(4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("run"), *EVERY_STEP, NO_FIGURE, "callbacks.evaluation.every=3")


def labelled(axis: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axis.lines if not str(line.get_label()).startswith("_")}


def assert_shows(line: Line2D, run: Run, name: str) -> None:
    """The line goes through the known values of a column, each at its step."""
    columns = run.columns
    known = [(t, value) for t, value in zip(columns["step"], columns[name], strict=True) if math.isfinite(value)]
    np.testing.assert_array_equal(line.get_xydata(), known)


def write(folder: Path, text: str) -> Path:
    (folder / METRICS).write_text(text)
    return folder


def test_the_rows_may_lie_elsewhere(tmp_path: Path, drawn: list[Figure]) -> None:
    """The figure of a run stays in its folder, with its title, when `logger.csv.folder` moves the rows."""
    rows, there = tmp_path / "rows", tmp_path / "run"
    moved = trained(there, f"logger.csv.folder={rows}", "callbacks.summary_figure.dots_per_inch=20")
    assert (there / FIGURE).exists()
    assert not (rows / FIGURE).exists()
    (figure,) = drawn
    (line,) = (line for line in figure.axes[0].lines if str(line.get_label()).startswith("train"))
    np.testing.assert_array_equal(np.asarray(line.get_xydata())[:, 1], read_metrics(rows)["train/loss"])
    assert "νP" in figure.get_suptitle()
    assert moved.folder == there
    assert draw_summary(tmp_path / "new" / "place", rows=rows, dots_per_inch=20).exists()


def test_every_panel_shows_its_columns(run: Run, drawn: list[Figure]) -> None:
    path = draw_summary(run.folder, dots_per_inch=20)
    assert path == run.folder / FIGURE
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    panels = [labelled(axis) for axis in figure.axes]
    final = run.summary["final"]
    assert list(panels[LOSS]) == [
        f"{part} (final accuracy {final[f'{part}/accuracy']:.3f})" for part in ("train", "test")
    ]
    for line, part in zip(panels[LOSS].values(), ("train", "test"), strict=True):
        assert_shows(line, run, f"{part}/loss")
    assert len(list(panels[LOSS].values())[1].get_xdata()) == 4  # 0, 3, 6 and the end

    assert_shows(panels[SHARPNESS]["λ"], run, "sharpness")
    assert_shows(panels[COSINES]["the cumulative update (thin: by layer)"], run, "cosine/cumulative/all")
    assert_shows(panels[COSINES]["the previous update"], run, "cosine/previous/all")
    for k in (1, 2, 3):
        assert_shows(figure.axes[COSINES].lines[k - 1], run, f"cosine/cumulative/layer_{k}")
        what = "outputs" if k == 3 else "preactivations"
        assert_shows(panels[FEATURES][f"{what} h_{k}"], run, f"features/preactivation_change/layer_{k}")
    assert_shows(panels[FEATURES]["1 − CKA, last hidden layer"], run, "features/kernel_change")
    assert all(axis.get_legend() is not None for axis in figure.axes)
    assert [axis.get_xlabel() for axis in figure.axes] == ["", "", "step t", "step t"]
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "log", "linear", "linear"]


def test_the_edge_of_stability_and_the_title_say_what_was_run(run: Run, drawn: list[Figure]) -> None:
    limit = 3.8
    draw_summary(run.folder, limit=limit, dots_per_inch=20)
    lines = labelled(drawn[0].axes[SHARPNESS])
    rates = np.array(run.columns["lr"][:-1])
    for factor, label in ((1, "3.8/η (edge of stability)"), (2, "7.6/η")):
        np.testing.assert_array_equal(lines[label].get_xdata(), run.columns["step"][:-1])
        np.testing.assert_allclose(lines[label].get_ydata(), factor * limit / rates, rtol=1e-15)
    said = drawn[0].get_suptitle()
    for words in (
        "νP",
        "3 layers",
        "width 6·k$^{2}$",
        "relu",
        "Geometric schedule",
        "κ = 2.5",
        "digits",
        "60 ex",
        "seed 0",
    ):
        assert words in said


def test_the_title_of_a_run_on_all_data_says_so(run: Run, tmp_path: Path, drawn: list[Figure]) -> None:
    settings = (run.folder / SETTINGS).read_text()
    (tmp_path / SETTINGS).write_text(settings.replace('"n_train": 60', '"n_train": null'))
    draw_summary(write(tmp_path, "step,train/loss\n0,1.0\n"), dots_per_inch=20)
    assert "digits, all examples" in drawn[0].get_suptitle()


def test_the_figure_names_the_loss_and_what_is_not_usual(tmp_path: Path, drawn: list[Figure]) -> None:
    trained(tmp_path / "plain", "callbacks.summary_figure.dots_per_inch=20", "schedule=constant")
    assert "η = 1/λ₀" in drawn[0].get_suptitle()
    assert drawn[0].axes[LOSS].get_title(loc="left") == "Loss, ½ squared error (mean over examples)"
    odd = {
        "ρ = 0.5": "model.richness=0.5",
        "readout 0": "model.readout_init=zero",
        "batches of 20": "dataset.batch_size=20",
    }
    odd |= {"every 2 steps": "schedule.interval=2", "by critical sharpness": "schedule.source=critical"}
    for words, setting in odd.items():
        assert words not in drawn[0].get_suptitle()
        trained(tmp_path / words.replace(" ", ""), "callbacks.summary_figure.dots_per_inch=20", setting)
        assert words in drawn[-1].get_suptitle()
    loss = [
        "loss=cross_entropy",
        "schedule=cosine",
        "schedule.total_steps=2",
    ]  # whose rate ends at 0, without a warning
    trained(tmp_path / "entropy", "callbacks.summary_figure.dots_per_inch=20", *loss)
    assert drawn[-1].axes[LOSS].get_title(loc="left") == "Loss, cross-entropy in nats (mean over examples)"


def test_many_layers_are_in_the_order_of_depth(tmp_path: Path, drawn: list[Figure]) -> None:
    names = [f"features/preactivation_change/layer_{k}" for k in range(12, 0, -1)]
    draw_summary(write(tmp_path, f"step,{','.join(names)}\n0{',0.5' * 12}\n"), dots_per_inch=20)
    hidden = [f"preactivations h_{k}" for k in (1, 3, 5, 8, 10)]
    assert list(labelled(drawn[0].axes[FEATURES])) == [*hidden, "outputs h_12"]
    assert drawn[0].get_suptitle() == tmp_path.name  # there is no config


def test_without_outputs_at_the_start_the_last_hidden_layer_is_none_of_them(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    trained(tmp_path, "model.readout_init=zero", "schedule=constant", "schedule.unit=absolute", "schedule.rate=0.1")
    depth = 3
    hidden = [f"preactivations h_{k}" for k in range(1, depth)]
    features = labelled(drawn[0].axes[FEATURES])
    assert list(features) == [*hidden, "1 − CKA, last hidden layer"]
    by_layer = [line for line in drawn[0].axes[COSINES].lines if line.get_linewidth() == 0.6]
    assert len(by_layer) == depth
    assert [line.get_color() for line in by_layer[:-1]] == [features[name].get_color() for name in hidden]


def test_a_key_that_was_left_out_costs_no_figure(tmp_path: Path, drawn: list[Figure]) -> None:
    trained(tmp_path, "~model.activation", "dataset.n_train=null", "callbacks.summary_figure.dots_per_inch=20")
    trained(tmp_path / "two", "~dataset.n_train", "callbacks.summary_figure.dots_per_inch=20")
    first, second = (figure.get_suptitle().replace("\n", " ") for figure in drawn)
    assert "relu" not in first
    assert "relu; " in second
    assert "digits, all examples; seed" in first
    assert "digits; seed" in second


def test_a_long_title_is_on_the_figure(tmp_path: Path, drawn: list[Figure]) -> None:
    words = ["model=mup_inverse_depth", "model.width=24", "model.activation=[0.35,0.85]", "schedule=cosine"]
    trained(tmp_path, *words, "schedule.rate=1.2345e30", "optimizer=momentum", "seed=123456789", *EVERY_STEP)
    (figure,) = drawn
    FigureCanvasAgg(figure).draw()
    place = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
    assert place.x0 > 0
    assert place.x1 < figure.bbox.width
    assert place.y1 < figure.bbox.height
    assert place.y0 > max(axis.title.get_window_extent().y1 for axis in figure.axes)
    assert figure.get_suptitle().startswith("DIVERGED at step ")
    assert "momentum 0.9; digits" in figure.get_suptitle().replace("\n", " ")


def test_what_was_not_measured_is_said(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_summary(write(tmp_path, "step,train/loss,lr\n0,1.0,0.5\n1,0.5,\n"), dots_per_inch=20)
    axes = drawn[0].axes
    assert list(labelled(axes[LOSS])) == ["train"]
    assert "λ" not in labelled(axes[SHARPNESS])
    for panel in (COSINES, FEATURES):
        assert [text.get_text() for text in axes[panel].texts] == ["not measured"]
        assert axes[panel].get_legend() is None


def test_a_bare_run_can_be_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    run = trained(tmp_path, "callbacks=none", "schedule=constant")
    draw_summary(run.folder, dots_per_inch=20)
    panels = [labelled(axis) for axis in drawn[0].axes]
    assert_shows(next(iter(panels[LOSS].values())), run, "train/loss")
    assert_shows(panels[SHARPNESS]["λ"], run, "sharpness")


def test_a_single_point_is_seen(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_summary(write(tmp_path, "step,train/loss,test/loss,lr\n0,1.0,2.0,0.5\n1,0.5,,\n"), dots_per_inch=20)
    markers = {line.get_label(): line.get_marker() for line in drawn[0].axes[LOSS].lines}
    assert markers == {"train": "None", "test": "."}


@pytest.mark.parametrize("change", [0.3, 1e-2, 1e-4, 1e-9, 0.0])
def test_a_loss_that_hardly_moves_has_labels_that_fit(tmp_path: Path, drawn: list[Figure], change: float) -> None:
    rows = f"step,train/loss,lr\n0,0.50532,1e-300\n1,{0.50532 * (1 - change)!r},1e-300\n"
    draw_summary(write(tmp_path, rows), dots_per_inch=20)
    (figure,) = drawn
    axis = figure.axes[LOSS]
    low, high = axis.get_ylim()
    FigureCanvasAgg(figure).draw()
    assert axis.get_yscale() == "linear"
    assert high - low == pytest.approx((max(1.1 * change, 1e-3) if change else 0.11) * 0.50532, rel=0.01)
    within = [label for label in axis.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert len(within) > 2
    assert len({label.get_text() for label in within}) == len(within)
    assert min(label.get_window_extent().x0 for label in within) > 0


def test_a_deep_network_names_some_of_its_layers(tmp_path: Path, drawn: list[Figure]) -> None:
    names = [f"features/preactivation_change/layer_{k}" for k in range(1, 31)] + ["features/kernel_change"]
    rows = [",".join(["step,sharpness", *names]), ",".join(["0,1.0", *["0"] * 31]), ",".join(["1,0.0", *["1"] * 31])]
    draw_summary(write(tmp_path, "\n".join(rows) + "\n"), dots_per_inch=20)
    (figure,) = drawn
    axis = figure.axes[FEATURES]
    assert len(axis.lines) == 31
    hidden = [f"preactivations h_{k}" for k in (1, 7, 13, 18, 24)]
    assert list(labelled(axis)) == [*hidden, "outputs h_30", "1 − CKA, last hidden layer"]
    FigureCanvasAgg(figure).draw()
    legend = axis.get_legend()
    assert legend is not None
    assert axis.transData.transform((0.0, 1.0))[1] < legend.get_window_extent().y0  # no curve lies below it
    assert next(iter(labelled(figure.axes[SHARPNESS]))) == "λ (not shown where it is not positive)"


@pytest.mark.parametrize(
    ("largest", "scale"), [(1e300, "log"), (1e25, "log"), (99.0, "linear"), (1e-16, "linear"), (0.0, "linear")]
)
def test_features_of_any_size_can_be_read(tmp_path: Path, drawn: list[Figure], largest: float, scale: str) -> None:
    name = "features/preactivation_change/layer_1"
    draw_summary(write(tmp_path, f"step,train/loss,{name}\n0,1.0,0\n1,0.5,{largest}\n"), dots_per_inch=20)
    (figure,) = drawn
    axis = figure.axes[FEATURES]
    FigureCanvasAgg(figure).draw()
    assert axis.get_yscale() == scale
    assert axis.get_ylim()[1] >= max(largest, 1e-9)
    assert axis.yaxis.get_offset_text().get_text() == ""  # which would stand in the title
    assert min(label.get_window_extent().x0 for label in axis.get_yticklabels()) > figure.axes[LOSS].bbox.x1


def test_a_loss_that_falls_by_half_is_on_a_logarithmic_axis(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_summary(write(tmp_path, "step,train/loss,lr\n0,1.0,0.5\n1,0.5,\n"), dots_per_inch=20)
    assert drawn[0].axes[LOSS].get_yscale() == "log"


def test_a_diverged_run_is_marked_as_one(tmp_path: Path, drawn: list[Figure]) -> None:
    run = trained(tmp_path, "model.activation=abs", "schedule=constant", "schedule.rate=1e30", *EVERY_STEP)
    (figure,) = drawn  # by the callback
    step = run.summary["diverged"]["step"]
    assert f"DIVERGED at step {step}" in figure.get_suptitle()
    for axis in figure.axes:
        assert [step, step] in [list(line.get_xdata()) for line in axis.lines]
    assert not all(map(math.isfinite, run.columns["train/loss"]))
    assert_shows(figure.axes[LOSS].lines[0], run, "train/loss")  # what is not finite is left out
    assert (tmp_path / FIGURE).exists()


def test_the_callback_knows_the_limit_of_momentum(tmp_path: Path, drawn: list[Figure]) -> None:
    trained(tmp_path, "optimizer=momentum", "callbacks.summary_figure.dots_per_inch=20")
    assert "3.8/η (edge of stability)" in labelled(drawn[0].axes[SHARPNESS])
    assert "DIVERGED" not in drawn[0].get_suptitle()


def test_a_figure_that_cannot_be_drawn_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:  # noqa: ARG001
        raise RuntimeError("no ink")

    monkeypatch.setattr(figure_room, "_loss", fail)
    with pytest.warns(UserWarning, match=r"summary\.png could not be drawn: no ink"):
        run = trained(tmp_path)
    assert run.summary["status"] == "completed"
    assert not (tmp_path / FIGURE).exists()


@pytest.mark.parametrize(
    ("words", "drawn_in_a_sweep"),
    [
        (["~logger.wandb"], False),
        ([], False),  # W&B is disabled
        (["~logger.wandb", "callbacks.summary_figure.always=true"], True),
        (["logger.wandb.mode=offline"], True),
    ],
)
def test_in_a_sweep_it_is_drawn_where_a_logger_shows_it(tmp_path, monkeypatch, words, drawn_in_a_sweep) -> None:
    assert (trained(tmp_path / "one", *words).folder / FIGURE).exists()
    monkeypatch.setattr("eoc.training.callbacks.summary_figure.in_sweep", lambda: True)
    assert (trained(tmp_path / "job", *words).folder / FIGURE).exists() == drawn_in_a_sweep
