"""Groups of runs: what varies, means with intervals by the book, and the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eoc.analysis.__main__ import main
from eoc.analysis.group_figure import draw_groups
from eoc.analysis.grouping import grouped, numbers, pooled, varying
from eoc.analysis.status import status
from eoc.analysis.table import read_runs
from eoc.errors import InvalidInput
from eoc.tracking.claim import claimed
from eoc.tracking.run_folder import FAILED, SUMMARY
from support import trained

LOSS = "train/loss"
SHORT = "trainer.max_steps=5"


def runs() -> pd.DataFrame:
    """Two depths of four and three runs, of which one diverged."""
    return pd.DataFrame(
        {
            "path": [str(number) for number in range(7)],
            "status": ["completed"] * 6 + ["diverged"],
            "seed": [0, 1, 2, 3, 0, 1, 2],
            "model.depth": [3, 3, 3, 3, 5, 5, 5],
            "model.width": [8] * 7,
            "logger.csv.folder": [str(number) for number in range(7)],
            LOSS: [1.0, 2.0, 4.0, 3.0, 0.5, np.nan, 99.0],
        }
    )


def test_what_varies_is_what_sets_runs_apart():
    assert varying(runs()) == ["seed", "model.depth"]


def named(**columns: list[object]) -> pd.DataFrame:
    """Completed runs by their settings, ``__`` for a dot."""
    frame = pd.DataFrame({name.replace("__", "."): values for name, values in columns.items()})
    return frame.assign(status="completed", path=[str(number) for number in frame.index])


def test_the_trainers_settings_and_those_of_callbacks_set_runs_apart():
    assert varying(named(seed=[0, 1, 0], trainer__max_steps=[3, 3, 6])) == ["seed", "trainer.max_steps"]
    bounds = {"callbacks__divergence__bound": [10.0, 20.0], "callbacks__progress__every": [1, 2]}
    assert varying(named(seed=[0, 0], callbacks=["default", "default"], **bounds)) == ["callbacks.divergence.bound"]
    start = named(seed=[0, 0], ckpt_path=[None, "/a/last.ckpt"], name=["a", "b"], experiment=[None, "a"])
    assert varying(start) == ["ckpt_path"]


def test_a_choice_of_callbacks_counts_by_what_it_sets_and_a_removed_one_once():
    removed = {"callbacks__curvature__every": [1, np.nan], "callbacks__curvature__k": [5, np.nan]}
    assert varying(named(seed=[0, 0], callbacks=["default", "none"], **removed)) == ["callbacks"]
    assert varying(named(seed=[0, 0], callbacks=["default", "default"], **removed)) == ["callbacks.curvature.every"]
    silent = {"callbacks__progress__every": [1, np.nan]}
    assert varying(named(seed=[0, 0], callbacks=["default", "[curvature]"], **silent)) == []


def test_paths_count_by_where_they_are_in_the_paths_group():
    paths = {"paths__run": ["/r/1", "/r/2"], "paths__data": ["/d", "/e"]}
    roots = [["/d/images", "/e/images"], ["/d/images", "/e/other"], ["/a", "/b"], ["/d/images", "/d/images"]]
    found = [varying(named(seed=[0, 0], dataset__root=root, **paths)) for root in roots]
    assert found == [[], ["dataset.root"], ["dataset.root"], ["dataset.root"]]
    assert varying(named(seed=[0, 0], callbacks__spectrum__folder=["/r/1", "/r/2"], **paths)) == []


def test_what_a_mean_is_taken_over_beside_seeds_is_said():
    runs = named(seed=[0, 1, 0, 1], callbacks=["default", "none"] * 2, callbacks__divergence__bound=[1, np.nan] * 2)
    assert pooled(runs[:2], []) == "over runs that differ in callbacks too"
    assert pooled(runs, ["callbacks"]) == "2 of 4 runs repeat the settings and the seed of another"
    assert pooled(runs[:2], ["callbacks"]) == ""
    deep = runs.assign(**{"model.depth": [3, 3, 5, 5], "trainer.max_steps": [6, 6, 7, 7]})
    assert pooled(deep, ["model.depth"]) == "over runs that differ in callbacks too"


def test_means_have_students_interval():
    table = grouped(runs(), ["model.depth"], [LOSS]).set_index("model.depth")
    values = [1.0, 2.0, 4.0, 3.0]
    low, _ = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert table.loc[3, LOSS] == 2.5
    assert table.loc[3, f"± {LOSS}"] == pytest.approx(2.5 - low, rel=1e-3)
    assert (table.loc[5, LOSS], table.loc[5, "runs"], table.loc[5, "diverged"]) == (0.5, 2, 1)
    assert np.isnan(table.loc[5, f"± {LOSS}"])
    assert len(grouped(runs(), [], [LOSS])) == 1


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for seed in (0, 1):
        for depth in (2, 3):
            trained(folder / f"{depth}-{seed}", f"seed={seed}", f"model.depth={depth}", "callbacks=divergence", SHORT)
    constant = ("schedule=constant", "schedule.rate=1e9")
    trained(folder / "blown", *constant, "model.depth=3", "callbacks=divergence", SHORT)
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    capsys.readouterr()
    assert main(list(words)) == 0
    return capsys.readouterr().out.splitlines()


def test_what_a_run_does_not_have_is_not_said_of_it(sweep):
    runs = read_runs(sweep)
    blown = runs["status"] == "diverged"
    runs["model.depth"] = runs["model.depth"].where(~blown)
    (line,) = status(runs).splitlines()[1:]
    assert "=nan" not in line
    assert " schedule=constant " in line


def test_the_status_names_what_is_not_done(sweep, capsys):
    failed, cut, busy = (sweep / name for name in ("2-0", "2-1", "3-0"))
    kept = {folder: (folder / SUMMARY).read_bytes() for folder in (failed, cut, busy)}
    try:
        for folder in kept:
            (folder / SUMMARY).unlink()
        (failed / FAILED).write_text("KeyError: 'a bug'\n")
        with claimed(busy):
            lines = said(capsys, "status", str(sweep))
    finally:
        for folder, content in kept.items():
            (folder / SUMMARY).write_bytes(content)
        (failed / FAILED).unlink()
    assert lines[0] == "5 runs: 1 completed, 1 diverged, 1 running, 1 unfinished, 1 failed"
    assert lines[1].startswith("diverged   blown ")
    assert "training loss" in lines[1]
    assert lines[2].endswith(": step 5 of 5")
    assert lines[2].startswith("running    3-0 ")
    assert lines[3] == "unfinished 2-1 schedule=geometric seed=1 model.depth=2: step 5 of 5"
    assert lines[4].endswith("KeyError: 'a bug'")
    assert said(capsys, "status", str(sweep)) == [
        lines[0].replace("1 completed", "4 completed").split(", 1 running")[0],
        lines[1],
    ]


def test_the_table_is_by_group(sweep, capsys):
    lines = said(capsys, "table", str(sweep), "--group-by", "model.depth,schedule", "--metric", LOSS)
    assert lines[0].split() == ["model.depth", "schedule", "runs", "diverged", LOSS]
    assert lines[1].split()[:4] == ["2", "geometric", "2", "0"]
    assert "±" in lines[1]
    assert lines[2].split() == ["3", "constant", "0", "1", "-"]
    assert not [line for line in lines if line.startswith("over runs")]
    rows = said(capsys, "table", str(sweep), "--group-by", "model.depth", "--metric", LOSS, "--csv")
    assert rows[0] == f"model.depth,runs,diverged,others,{LOSS},± {LOSS}"
    assert len(rows) == 3
    assert said(capsys, "table", str(sweep), "--group-by", "schedule")[-1] == "over runs that differ in model.depth too"


def test_runs_of_different_lengths_are_not_pooled(tmp_path, capsys):
    for steps in (3, 6):
        for seed in (0, 1):
            length = f"trainer.max_steps={steps}"
            trained(tmp_path / f"{steps}-{seed}", f"seed={seed}", length, "callbacks=none", "schedule=constant")
    lines = said(capsys, "table", str(tmp_path), "--metric", LOSS)
    assert lines[0].split() == ["trainer.max_steps", "runs", LOSS]
    assert [line.split()[:2] for line in lines[1:]] == [["3", "2"], ["6", "2"]]
    assert main(["table", str(tmp_path), "--group-by", "model", "--csv"]) == 0
    assert capsys.readouterr().err == "over runs that differ in trainer.max_steps too\n"
    assert main(["plot", str(tmp_path), "--x", "seed", "--to", str(tmp_path / "plot.svg")]) == 0
    assert capsys.readouterr().err == "over runs that differ in trainer.max_steps too\n"


def test_the_plot_shows_means_and_crosses(sweep, tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: drawn.append((figure, path)))
    file = tmp_path / "there" / "plot.svg"
    assert said(capsys, "plot", str(sweep), "--x", "model.depth", "--y", LOSS, "--to", str(file)) == [str(file)]
    (line, cross) = drawn[0][0].axes[0].lines
    assert line.get_xdata().tolist() == [2, 3]
    assert cross.get_xdata().tolist() == [3]
    assert {tick % 1 for tick in drawn[0][0].axes[0].get_xticks()} == {0.0}  # there is no network of 2.25 layers
    said(capsys, "plot", str(sweep), "--hue", "model.depth", "--y", LOSS)
    figure, path = drawn[1]
    assert path == sweep / "plot.png"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["2", "3"]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4, 5]


def test_a_setting_that_is_null_is_a_curve_and_what_is_left_out_is_said(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: drawn.append(figure))  # noqa: ARG005
    many = runs().assign(batch=[np.nan, np.nan, 20, 20, 50, 50, np.nan])
    draw_groups(many, "seed", LOSS, "batch", tmp_path / "a.png")
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == ["20", "50", "null"]
    diverged = int((many["status"] == "diverged").sum())
    assert diverged == 1
    crosses = [line for line in drawn[0].axes[0].lines if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in crosses] == [1]
    for x in ("status", "batch"):  # names, and a number that the diverged run lacks
        draw_groups(many.assign(batch=many["batch"].where(many["status"] != "diverged")), x, LOSS, None, tmp_path)
        title = drawn[-1].axes[0].get_title(loc="left")
        assert title.endswith("interval, 1 diverged left out")
        assert not [line for line in drawn[-1].axes[0].lines if line.get_marker() == "x"]


def test_intervals_on_a_logarithmic_axis_are_of_logarithms_and_a_single_run_has_none(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: drawn.append(figure))  # noqa: ARG005
    many = runs()
    draw_groups(many, "model.depth", LOSS, None, tmp_path / "linear.png")
    draw_groups(many.assign(**{LOSS: [1.0, 2.0, 4.0, 8.0, 1000.0, np.nan, 99.0]}), "model.depth", LOSS, None, tmp_path)
    linear, logarithmic = (figure.axes[0] for figure in drawn)
    assert (linear.get_yscale(), logarithmic.get_yscale()) == ("linear", "log")
    assert linear.lines[0].get_ydata().tolist() == [2.5, 0.5]
    assert logarithmic.lines[0].get_ydata().tolist() == pytest.approx([np.sqrt(8), 1000])
    logs = np.log([1.0, 2.0, 4.0, 8.0])
    interval = stats.t.interval(0.95, 3, loc=logs.mean(), scale=stats.sem(logs))
    (band,) = logarithmic.collections[0].get_paths()  # of the four runs alone
    assert sorted(set(band.vertices[:, 1])) == pytest.approx(np.exp(interval), rel=1e-3)
    assert set(band.vertices[:, 0]) == {3.0}
    assert "geometric mean" in logarithmic.get_title(loc="left")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["table", "--group-by", "model.dept"], "(perhaps model.depth?)."),
        (["table", "--metric", "test/acuracy"], "(perhaps test/accuracy?)."),
        (["plot", "--x", "nosuch"], "the runs differ in "),
    ],
)
def test_a_column_that_is_not_there(sweep, capsys, words, sentence):
    assert main([words[0], str(sweep), *words[1:]]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {words[1]}={words[2]} is not possible: ")
    assert sentence in said


def test_before_the_first_run_is_done(tmp_path, capsys, monkeypatch):
    for seed in (0, 1):
        trained(tmp_path / f"{seed}", f"seed={seed}", "callbacks=none", SHORT)
        (tmp_path / f"{seed}" / SUMMARY).unlink()
    why = "no run has completed yet; python -m eoc.analysis status DIR shows what they do."
    for option, words in (("--metric", ["table"]), ("--y", ["plot", "--x", "seed"])):
        assert main([words[0], str(tmp_path), *words[1:]]) == 2
        assert capsys.readouterr().err == f"error: {option}={LOSS} is not possible: {why}\n"
    assert main(["table", str(tmp_path), "--group-by", "sed"]) == 2
    assert "the runs differ in seed and have measured nothing yet (perhaps seed?)." in capsys.readouterr().err
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
    said(capsys, "plot", str(tmp_path), "--y", LOSS)
    (line,) = drawn[0].axes[0].lines
    assert line.get_xdata().tolist() == [0, 1, 2, 3, 4, 5]
    assert main(["plot", str(tmp_path), "--y", "nosuch"]) == 2
    assert capsys.readouterr().err == f"error: --y=nosuch is not possible: {why}\n"


def test_what_is_no_number_has_no_mean(sweep, capsys):
    for words in (["table", "--metric", "model"], ["plot", "--y", "model"], ["plot", "--x", "seed", "--y", "model"]):
        assert main([words[0], str(sweep), *words[1:]]) == 2
        start = (
            f"error: {words[-2]}=model is not possible: its values are no numbers, such as nup; the runs have measured"
        )
        assert capsys.readouterr().err.startswith(f"{start} train/loss, ")
    for name in ("status", "trainer.enable_progress_bar"):
        with pytest.raises(InvalidInput, match=f"--y={name} is not possible: its values are no numbers"):
            numbers(read_runs(sweep), "--y", name)
    assert numbers(read_runs(sweep), "--y", "model.depth") == "model.depth"
    assert main(["plot", str(sweep), "--y", "model.depth"]) == 2
    rule = "with --x=step it must be a metric, and no run beside diverged ones has a value of it at any step"
    assert capsys.readouterr().err == f"error: --y=model.depth is not possible: {rule}.\n"


def test_files_that_cannot_be_read_or_written(sweep, tmp_path, capsys, monkeypatch):
    def refused(*words: str) -> str:
        assert main(list(words)) == 2
        return capsys.readouterr().err

    file, nowhere, figure = (tmp_path / name for name in ("file.txt", "nowhere", "plot.foo"))
    file.touch()
    assert refused("table", str(file)) == f"error: DIR={file} is not possible: it cannot be read (Not a directory).\n"
    said = f"error: DIR={nowhere} is not possible: it cannot be read (No such file or directory).\n"
    assert refused("status", str(nowhere)) == said
    said = f"error: --to={figure} is not possible: its ending must be one of .png, .svg, .pdf.\n"
    assert refused("plot", str(sweep), "--to", str(figure)) == said
    assert not figure.exists()
    below = file / "plot.png"
    said = "it cannot be written (File exists); name another file with --to.\n"
    assert refused("plot", str(sweep), "--to", str(below)) == f"error: --to={below} is not possible: {said}"

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", read_only)
    said = f"error: --to={sweep / 'plot.png'} is not possible: it cannot be written (Permission denied); name another"
    assert refused("plot", str(sweep)).startswith(said)


def test_a_folder_without_runs(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: there is no run (config.json) in {tmp_path}\n"
    assert main(["status", str(tmp_path / "nowhere")]) == 2
