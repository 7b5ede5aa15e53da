"""Runs read back as tables are what the runs were."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

from eoc.analysis import read_histories, read_runs
from eoc.analysis.__main__ import main
from eoc.analysis.run_data import read_all
from eoc.tracking.run_folder import FAILED, METRICS, SETTINGS, SUMMARY, read_metrics
from support import NO_FIGURE, trained


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two completed runs, a diverged one, and a run folder of its own deeper down."""
    folder = tmp_path_factory.mktemp("runs")
    trained(folder / "sweep" / "a", "seed=3", NO_FIGURE)
    trained(folder / "sweep" / "b", "model=mup", "model.activation=[1,0.5]", "dataset.target=centered", NO_FIGURE)
    trained(folder / "sweep" / "c", "schedule=constant", "schedule.rate=1e9", NO_FIGURE, "~callbacks.curvature")
    trained(folder / "deep" / "er" / "d", "dataset.batch_size=20", NO_FIGURE)
    return folder


@pytest.fixture
def runs(sweep: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(sweep, tmp_path / "runs"))


def test_a_row_is_the_run(runs):
    frame = read_runs(runs).set_index("path")
    assert list(frame.index) == [str(runs / name) for name in ("deep/er/d", "sweep/a", "sweep/b", "sweep/c")]
    row = frame.loc[str(runs / "sweep/a")]
    summary = json.loads((runs / "sweep/a" / SUMMARY).read_text())
    assert (row["status"], row["model"], row["dataset"], row["schedule"]) == ("completed", "nup", "digits", "geometric")
    assert (row["seed"], row["model.depth"], row["schedule.kappa"], row["dataset.n_train"]) == (3, 3, 2.5, 60)
    assert (row["steps"], row["seconds"]) == (8, summary["wall_seconds"])
    for name, value in summary["final"].items():
        assert row[name] == value, name
    assert row["best/test/accuracy"] == summary["best"]["test/accuracy"]["value"]
    assert row["schedule.total_steps"] == 8  # interpolations are resolved
    other = frame.loc[str(runs / "sweep/b")]
    assert (other["model"], other["model.activation"], other["dataset.target"]) == ("mup", (1, 0.5), "centered")
    assert pd.isna(row["dataset.batch_size"])
    assert frame.loc[str(runs / "deep/er/d"), "dataset.batch_size"] == 20
    assert not [name for name in frame.columns if "_target_" in name]


def test_one_run_is_a_table_too(runs):
    assert len(read_runs(runs / "sweep" / "a")) == 1
    with pytest.raises(FileNotFoundError, match="there is no run"):
        read_runs(runs / "sweep" / "a" / "checkpoints")
    with pytest.raises(FileNotFoundError):
        read_runs(runs / "nowhere")


def test_each_status_is_told(runs):
    (runs / "sweep/a" / SUMMARY).unlink()
    (runs / "sweep/b" / SUMMARY).unlink()
    (runs / "sweep/b" / FAILED).write_text("KeyError: 'a bug'\n\nTraceback …\n")
    frame = read_runs(runs).set_index("path")
    status = {Path(path).name: value for path, value in frame["status"].items()}
    assert status == {"a": "unfinished", "b": "failed", "c": "diverged", "d": "completed"}
    assert frame.loc[str(runs / "sweep/b"), "why"] == "KeyError: 'a bug'"
    assert "loss" in frame.loc[str(runs / "sweep/c"), "why"]
    assert frame.loc[str(runs / "sweep/a"), "steps"] == 8
    assert pd.isna(frame.loc[str(runs / "sweep/a"), "train/loss"])


def test_histories_are_the_metrics(runs):
    frame = read_runs(runs / "sweep")
    histories = read_histories(frame, ["train/loss", "sharpness"])
    assert list(histories.columns) == ["path", "step", "train/loss", "sharpness"]
    for name in ("a", "b"):
        mine = histories[histories["path"] == str(runs / "sweep" / name)]
        expected = read_metrics(runs / "sweep" / name)
        assert mine["step"].tolist() == expected["step"] == list(range(9))
        for column in ("train/loss", "sharpness"):
            assert mine[column].tolist() == pytest.approx(expected[column], rel=1e-15)
    only_first = histories[histories["path"] == str(runs / "sweep/c")]["sharpness"]  # for the rate's unit
    assert only_first.notna().tolist() == [True, *[False] * (len(only_first) - 1)]
    everything = read_histories(frame)
    assert {"cosine/cumulative/all", "hessian/eig_5", "lr"} <= set(everything.columns)
    assert read_histories(frame, ["nosuch"])["nosuch"].isna().all()


def test_unfinished_histories(runs):
    metrics = runs / "sweep/a" / METRICS
    lines = metrics.read_text().splitlines()
    again = lines[4].split(",")
    again[lines[0].split(",").index("train/loss")] = "7.5"
    metrics.write_text("\n".join([*lines[:6], ",".join(again), lines[6][:9]]))  # step 3 replayed, a torn row
    (runs / "sweep/b" / METRICS).write_text("step,trai")
    (runs / "sweep/c" / METRICS).unlink()
    histories = read_histories(read_runs(runs / "sweep"), ["train/loss"])
    assert histories["step"].tolist() == [0, 1, 2, 3, 4]
    assert histories["train/loss"].tolist()[3] == 7.5
    assert len(read_histories(read_runs(runs / "sweep").query("path.str.endswith('b')"), ["train/loss"])) == 0


BROKEN = [b"", b'{"status": "comp', b"[]", b"{}", b"\xff"]


@pytest.mark.parametrize("content", BROKEN)
def test_a_damaged_file_is_named_and_the_other_runs_are_read(runs, capsys, content):
    (runs / "sweep/a" / SUMMARY).write_bytes(content)
    (runs / "sweep/b" / SETTINGS).write_bytes(content)
    frame = read_runs(runs).set_index("path")
    status = {Path(path).name: value for path, value in frame["status"].items()}
    assert status == {"a": "unfinished", "c": "diverged", "d": "completed"}
    assert frame.loc[str(runs / "sweep/a"), "steps"] == 8
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"warning: {runs / 'sweep/a' / SUMMARY} is damaged: ")
    assert second.startswith(f"warning: {runs / 'sweep/b' / SETTINGS} is damaged: ")
    for words in (["status"], ["table"], ["plot", "--to", str(runs / "plot.svg")]):
        assert main([words[0], str(runs), *words[1:]]) == 0
        assert f"{runs / 'sweep/a' / SUMMARY} is damaged" in capsys.readouterr().err
    found = {run.folder.name: run.status.split()[0] for run in read_all(runs)}
    assert found == {"a": "unfinished", "c": "diverged", "d": "completed"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"loss\n1\n", "it has no column step."),
        (b"step,train/loss\n0,word\n", "something else than a number stands in its column train/loss."),
        (b"step,train/loss\nword,0.5\n", "something else than a number stands in its column step."),
        (b"step,train/loss\n,0.5\n", "something else than a number stands in its column step."),
        (b"step,train/loss\n0,\xff\n", "it is no table ('utf-8' codec can't decode byte 0xff in position 0"),
        (b"\n\n", "it is no table (No columns to parse from file)."),
    ],
)
def test_damaged_metrics_are_named_and_the_other_histories_are_read(runs, capsys, content, why):
    (runs / "sweep/a" / METRICS).write_bytes(content)
    histories = read_histories(read_runs(runs), ["train/loss"])
    assert {Path(path).name for path in histories["path"]} == {"b", "c", "d"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {runs / 'sweep/a' / METRICS} is damaged: {why}")
    assert [len(run.columns["step"]) for run in read_all(runs) if run.folder.name == "a"] == [0]


@pytest.mark.slow
def test_a_thousand_runs_cost_less_than_four_times_what_pandas_takes_for_three_columns(sweep, tmp_path):
    one = tmp_path / "one"
    shutil.copytree(sweep / "sweep" / "a", one)
    head, *rows = (one / METRICS).read_text().splitlines()
    long = [",".join([str(step), *rows[step % len(rows)].split(",")[1:]]) for step in range(1000)]
    assert head.startswith("step,")
    (one / METRICS).write_text("\n".join([head, *long]) + "\n")
    for number in range(1000):
        folder = tmp_path / "sweep" / f"{number:04}"
        folder.mkdir(parents=True)
        for name in (METRICS, SETTINGS, SUMMARY):
            (folder / name).hardlink_to(one / name)
    start = time.process_time()
    frame = read_runs(tmp_path / "sweep")
    histories = read_histories(frame, ["train/loss", "sharpness", "lr"])
    seconds = time.process_time() - start
    assert (len(frame), len(histories)) == (1000, 1_000_000)
    start = time.process_time()
    for number in range(100):  # three columns of numbers, and no settings
        columns = ["step", "train/loss", "sharpness", "lr"]
        pd.read_csv(tmp_path / "sweep" / f"{number:04}" / METRICS, usecols=columns)
    alone = 10 * (time.process_time() - start)
    print(f"{seconds:.2f} s, pandas alone {alone:.2f} s: {seconds / alone:.2f}")
    assert seconds < 4 * alone


@pytest.mark.parametrize(
    ("words", "part"),
    [([], "mean ± 95% interval"), (["table"], "mean ± 95% interval"), (["plot"], "--hue"), (["report"], "--serve")],
)
def test_help_is_printed(words, part, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: " + " ".join(["python -m eoc.analysis", *words]))
    assert part in said
