"""The page says what metrics.csv and summary.json say, of one run and of a sweep, and cannot be broken by its data."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eoc.analysis.__main__ import main as command_line
from eoc.analysis.comparison import comparison
from eoc.analysis.group_figure import _points
from eoc.analysis.panels import POINTS, colours_of, thinned
from eoc.analysis.report import main, render, server, write_report
from eoc.analysis.run_data import RunData, differing, read_all
from eoc.analysis.table import read_runs, run_folders
from eoc.errors import InvalidInput
from eoc.tracking.run_folder import FAILED, METRICS, SETTINGS, SUMMARY
from support import EVERY_STEP, NO_FIGURE, Run, trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("report") / "run", *EVERY_STEP, NO_FIGURE, "optimizer=momentum")


def data_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def written(folder: Path, *, seed: int = 0, depth: int = 3, rule: str = "nup", diverged: int | None = None) -> Path:
    """A small run folder by hand: loss and λ are 1/(1 + t) + seed, and 1 + depth."""
    folder.mkdir(parents=True)
    growth = {"nup": 2, "mup": 0}[rule]
    model = {"_target_": "eoc.model.MLP", "parameterization": rule, "depth": depth, "growth": growth}
    config = {"model": model, "seed": seed, "optimizer": {"momentum": 0.0}, "paths": {"run": str(folder)}}
    choices = {"model": rule, "schedule": "geometric", "paths": "default"}
    (folder / SETTINGS).write_text(json.dumps({"identity": "x", "choices": choices, "config": config}))
    rows = [f"{step},{1 / (1 + step) + seed},{1 + depth},{'inf' if step == 2 else 0.5}" for step in range(4)]
    (folder / METRICS).write_text("\n".join(["step,test/loss,sharpness,lr", *rows]) + "\n")
    outcome = {"status": "diverged", "diverged": {"step": diverged, "reason": "it"}} if diverged is not None else {}
    summary = {"status": "completed", "diverged": None, "stability_limit": 2.0, **outcome}
    final = {"test/loss": 1 / 4 + seed, "sharpness": 1 + depth, "lr": 0.5}
    summary |= {"steps": 3, "final": final, "best": {}, "wall_seconds": 1.0, "parameters": 10}
    (folder / SUMMARY).write_text(json.dumps(summary))
    return folder


def altered(folder: Path, **summary: Any) -> Path:
    """Write other entries into a run's summary.json."""
    there = json.loads((folder / SUMMARY).read_text())
    (folder / SUMMARY).write_text(json.dumps(there | summary))
    return folder


def curves(data: dict[str, Any], panel: str) -> dict[str, dict[str, Any]]:
    """The traces of a panel by name."""
    figures = [figure for section in data["sections"] for figure in section["figures"]]
    (found,) = [figure for figure in figures if figure["layout"]["meta"].startswith(panel)]
    return {trace["name"]: trace for trace in found["data"] if "name" in trace}


def test_the_curves_of_a_run_are_those_of_metrics_csv(run: Run) -> None:
    data, columns = data_of(render(run.folder)), run.columns
    assert [section["title"] for section in data["sections"]] == [
        "Training",
        "Edge of stability",
        "Cosines",
        "Features",
        "Curvature cost",
    ]
    drawn = curves(data, "Loss")
    for name in ("train", "test"):
        assert drawn[name]["x"] == columns["step"]
        assert drawn[name]["y"] == pytest.approx(columns[f"{name}/loss"], rel=1e-5)
    edge = curves(data, "Sharpness")
    limit = 2 * (1 + 0.9)
    rates = np.array(columns["lr"])[:-1]  # the last row has no update
    assert edge["3.8/η"]["y"] == pytest.approx(limit / rates, rel=1e-5)
    assert edge["7.6/η"]["y"] == pytest.approx(2 * limit / rates, rel=1e-5)
    assert edge["λ"]["y"] == pytest.approx(columns["sharpness"], rel=1e-5)
    layers = curves(data, "Cosine with the cumulative update, by layer")
    assert list(layers) == ["layer 1", "layer 2", "layer 3"]
    assert len(curves(data, "Top Hessian")) == 5
    (shown,) = data["runs"]
    assert shown["status"] == "completed"
    assert shown["finals"]["test accuracy"] == pytest.approx(run.summary["final"]["test/accuracy"])
    assert shown["settings"]["optimizer.momentum"] == 0.9
    assert shown["outcome"]["summary.parameters"] == run.summary["parameters"]


def test_a_sweep_is_laid_over_each_other_and_told_apart(tmp_path: Path) -> None:
    for job, (rule, depth, seed) in enumerate(
        (rule, depth, seed) for seed in range(3) for rule in ("nup", "mup") for depth in (5, 11)
    ):
        diverged = 2 if (rule, depth, seed) == ("nup", 11, 2) else None
        written(tmp_path / f"{7919 * job % 13:x}", rule=rule, depth=depth, seed=seed, diverged=diverged)
    runs = read_all(tmp_path)
    assert differing(runs) == ["model", "model.depth", "seed"]  # the growth follows from the rule
    sorted_by_settings = [
        f"{rule}, depth {depth}, seed {seed}" for rule in ("μP", "νP") for depth in (5, 11) for seed in range(3)
    ]
    assert [run.label for run in runs] == sorted_by_settings
    assert runs[11].status == "diverged at step 2"
    assert len(set(colours_of(runs))) == 12
    data = data_of(render(tmp_path))
    loss = curves(data, "Loss")
    assert list(loss) == [run.label for run in runs]
    assert loss["νP, depth 5, seed 2"]["y"] == pytest.approx([3, 2.5, 2 + 1 / 3, 2.25], rel=1e-5)
    assert data["runs"][11]["bad"] is True
    assert f"{tmp_path}: 1 diverged<" in render(tmp_path)
    assert data["sections"][-1]["title"] == "Comparison by depth"


def test_runs_that_differ_in_much_are_in_the_order_of_their_folders(tmp_path: Path) -> None:
    for job in range(12):
        folder = written(tmp_path / str(job), seed=job % 3)
        said = json.loads((folder / SETTINGS).read_text())
        said["config"] |= {f"knob_{place}": job >> place & 1 for place in range(4)}
        (folder / SETTINGS).write_text(json.dumps(said))
    assert [run.label for run in read_all(tmp_path)] == [str(job) for job in range(12)]  # 10 behind 9


def test_means_and_bands_are_over_the_runs_of_a_depth(tmp_path: Path) -> None:
    for depth in (3, 5):
        for seed in range(3):
            written(
                tmp_path / f"{depth}-{seed}", depth=depth, seed=seed, diverged=1 if (depth, seed) == (5, 2) else None
            )
    compared, remark = comparison(read_all(tmp_path))
    assert remark == ""
    figures = {figure["layout"]["meta"]: figure["data"] for figure in compared}
    low, high, mean = figures["Test loss: mean and range by depth (runs)"][:3]
    base = [1, 0.5, 1 / 3, 0.25]
    assert low["y"] == pytest.approx(base, rel=1e-5)
    assert high["y"] == pytest.approx([value + 2 for value in base], rel=1e-5)
    assert mean["y"] == pytest.approx([value + 1 for value in base], rel=1e-5)
    assert (high["fill"], mean["name"]) == ("tonexty", "νP, depth 3 (3)")
    points, line = figures["Final test loss"]
    assert points["x"] == [3, 3, 3, 5, 5, 5]
    assert points["marker"]["symbol"] == ["circle"] * 5 + ["x"]
    assert (line["x"], line["y"]) == ([3, 5], pytest.approx([1.25, 0.75]))  # without the one that diverged
    assert figures["Final sharpness λ"][1]["y"] == [4.0, 6.0]


def with_config(folder: Path, **changed: dict[str, float]) -> Path:
    said = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(said | {"config": said["config"] | changed}))
    return folder


def test_means_are_over_completed_runs_and_say_what_they_pool(tmp_path: Path) -> None:
    for depth, seed in ((3, 0), (3, 1), (3, 2), (3, 3), (5, 0)):
        folder = written(tmp_path / f"{depth}-{seed}", depth=depth, seed=seed, diverged=1 if seed == 3 else None)
        with_config(folder, schedule={"rate": 0.5 + (seed > 0)})
        if seed == 2:  # it was cut off after a step
            (folder / SUMMARY).unlink()
            (folder / METRICS).write_text("step,test/loss,sharpness,lr\n0,1000,4,0.5\n")
        if (depth, seed) == (3, 0):  # with a row more than the others
            (folder / METRICS).write_text((folder / METRICS).read_text() + "4,0.2,4,0.5\n")
            altered(folder, final={"test/loss": 0.2}, steps=4)
    compared, remark = comparison(read_all(tmp_path))
    assert remark == "Means over runs that differ in schedule.rate too."
    assert data_of(render(tmp_path))["sections"][-1]["remark"] == remark
    figures = {figure["layout"]["meta"]: figure["data"] for figure in compared}
    mean = next(trace for trace in figures["Test loss: mean and range by depth (runs)"] if "name" in trace)
    assert mean["name"] == "νP, depth 3 (2)"
    assert (mean["x"], mean["y"]) == ([0, 1, 2, 3], pytest.approx([1.5, 1, 5 / 6, 0.75], rel=1e-5))
    points, line = figures["Final test loss"]
    assert sorted(points["marker"]["symbol"]) == ["circle", "circle", "circle", "circle-open", "x"]
    assert line["y"] == pytest.approx([(0.2 + 1.25) / 2, 0.25])


def test_where_no_run_is_completed_those_that_were_stopped_are_averaged(tmp_path: Path) -> None:
    for depth in (3, 5):
        for seed in range(3):
            folder = written(tmp_path / f"{depth}-{seed}", depth=depth, seed=seed)
            summary = json.loads((folder / SUMMARY).read_text())
            (folder / SUMMARY).write_text(json.dumps(summary | {"status": "stopped"}))
            if seed == 2:
                (folder / SUMMARY).unlink()
    figures = {figure["layout"]["meta"]: figure["data"] for figure in comparison(read_all(tmp_path))[0]}
    assert figures["Final test loss"][1]["y"] == pytest.approx([0.75, 0.75])


def test_every_model_is_compared_where_there_are_more_than_colours(tmp_path: Path) -> None:
    runs = [
        RunData(
            tmp_path,
            {"step": np.zeros(1), "test/loss": np.ones(1)},
            {"model": f"rule_{index}", "model.depth": depth},
            {"status": "completed", "diverged": None, "final": {"test/loss": 1.0}},
        )
        for index in range(9)
        for depth in (3, 5)
    ]
    figures = {figure["layout"]["meta"]: figure["data"] for figure in comparison(runs)[0]}
    lines = [trace for trace in figures["Final test loss"] if trace["mode"] == "lines"]
    assert [trace["name"] for trace in lines] == [f"rule_{index}" for index in range(9)]
    assert len({trace["line"]["color"] for trace in lines}) == 9


def test_the_limits_of_all_optimizers_are_drawn(tmp_path: Path) -> None:
    for name, momentum in (("a", 0.9), ("b", 0.0)):
        folder = with_config(written(tmp_path / name), optimizer={"momentum": momentum})
        (folder / METRICS).write_text("step,lr_x_sharpness\n0,1\n1,2\n")
        summary = json.loads((folder / SUMMARY).read_text())
        (folder / SUMMARY).write_text(json.dumps(summary | {"stability_limit": 2 * (1 + momentum)}))
    figures = [figure for section in data_of(render(tmp_path))["sections"] for figure in section["figures"]]
    (product,) = [figure for figure in figures if figure["layout"]["meta"].startswith("η·λ")]
    assert [line["y0"] for line in product["layout"]["shapes"]] == pytest.approx([2, 4, 3.8, 7.6])
    assert product["layout"]["yaxis"]["autorangeoptions"]["include"] == pytest.approx([0, 2.2 * 3.8])


def test_a_run_ends_with_what_its_summary_says(tmp_path: Path) -> None:
    """One whose loss left the finite has no final loss, and not the one it began with; damaged rows take nothing."""
    altered(written(tmp_path / "a", diverged=3), final={"test/loss": None, "sharpness": 7.0}, steps=9)
    (written(tmp_path / "b", seed=1) / METRICS).write_bytes(b"step,test/loss\n0,1.0\n\0\0\0")
    finals = [(run.final("test/loss"), run.final("sharpness"), run.steps) for run in read_all(tmp_path)]
    assert finals == [(None, 7.0, 9), (1.25, 4.0, 3)]
    (written(tmp_path / "c", seed=2) / SUMMARY).unlink()  # it goes on
    assert [run.final("test/loss") for run in read_all(tmp_path)] == [None, 1.25, 2.25]


def test_while_a_sweep_runs_means_are_over_completed_runs_alone(tmp_path: Path) -> None:
    written(tmp_path / "a", depth=3)
    for seed in range(2):
        (written(tmp_path / f"b{seed}", depth=5, seed=seed) / SUMMARY).unlink()
    figures = {figure["layout"]["meta"]: figure["data"] for figure in comparison(read_all(tmp_path))[0]}
    points, means = figures["Final test loss"]
    assert points["x"] == [3, 5, 5]
    assert (means["x"], means["y"], means["mode"]) == ([3], [0.25], "lines+markers")  # one point is no line
    assert {trace["name"] for trace in figures["Test loss: mean and range by depth (runs)"]} == {"νP, depth 3 (1)"}


def test_a_quantity_has_its_dash_whatever_else_a_run_lacks(tmp_path: Path) -> None:
    whole, lacking = written(tmp_path / "a"), written(tmp_path / "b", seed=1)
    rows = [line.split(",") for line in (lacking / METRICS).read_text().splitlines()]
    (lacking / METRICS).write_text("\n".join(",".join([row[0], row[1], row[3]]) for row in rows) + "\n")
    figures = data_of(render(tmp_path))["sections"]
    (traces,) = [
        figure["data"]
        for section in figures
        for figure in section["figures"]
        if figure["layout"]["meta"].startswith("Sharpness λ against")
    ]
    dashes = [[trace["line"]["dash"] for trace in traces if trace["meta"] == run] for run in (0, 1)]
    assert dashes[0] == ["solid", *dashes[1]]
    assert [sum(trace["showlegend"] for trace in traces if trace["meta"] == run) for run in (0, 1)] == [1, 1]
    assert whole != lacking


def test_what_cannot_be_read_below_the_folder_costs_no_other_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "a")
    loop = written(tmp_path / "b", seed=1) / METRICS
    loop.unlink()
    loop.symlink_to(loop.name)
    assert [run.folder.name for run in read_all(tmp_path)] == ["a", "b"]
    assert capsys.readouterr().err == f"warning: {loop} cannot be read (Too many levels of symbolic links)\n"


def test_one_run_alone_is_not_compared(tmp_path: Path) -> None:
    assert comparison(read_all(written(tmp_path / "a"))) == ([], "")


def test_a_run_is_listed_once_whatever_links_to_it_and_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "sweep" / "²")
    (tmp_path / "latest").symlink_to(tmp_path / "sweep")
    (tmp_path / "sweep" / "above").symlink_to(tmp_path)
    assert [run.folder for run in read_all(tmp_path)] == [folder]
    assert len(read_all(tmp_path / "latest")) == 1  # the folder that is asked for may be a link
    monkeypatch.chdir(folder)
    assert [run.label for run in read_all(Path())] == ["²"]


def test_a_path_that_is_not_utf_8_can_be_shown(tmp_path: Path) -> None:
    folder = tmp_path / "a\udcff"
    try:
        written(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert write_report(folder).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_run_that_goes_on_is_shown_as_unfinished(tmp_path: Path) -> None:
    folder = written(tmp_path / "a")
    (folder / SUMMARY).unlink()
    with (folder / METRICS).open("a") as file:
        file.write("4,0.1")  # torn
    (run,) = read_all(tmp_path)
    assert (run.status, run.limit, run.columns["step"][-1]) == ("unfinished", 2.0, 3)
    assert f"{tmp_path}: 1 unfinished<" in render(tmp_path)


def test_what_is_not_finite_is_left_out_and_json_is_strict(tmp_path: Path) -> None:
    page = render(written(tmp_path / "a"))
    assert curves(data_of(page), "Learning rate")["η"]["x"] == [0, 1, 3]
    (text,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert "NaN" not in text
    assert "Infinity" not in text


def test_words_of_a_run_cannot_break_the_page(tmp_path: Path) -> None:
    folder = written(tmp_path / "<script>alert(1)</script>")
    said = json.loads((folder / SETTINGS).read_text())
    said["config"]["note"] = "</script><script>alert(2)</script>"
    (folder / SETTINGS).write_text(json.dumps(said))
    page = render(tmp_path)
    assert "alert(1)</script>" not in page
    assert "alert(2)</script>" not in page
    assert data_of(page)["runs"][0]["settings"]["note"] == "</script><script>alert(2)</script>"


@pytest.mark.parametrize("count", [POINTS, POINTS + 1, 25_000])
def test_thinning_keeps_spikes_and_ends(count: int) -> None:
    steps = np.arange(count, dtype=float)
    values = np.sin(steps / 50)
    values[count // 3], values[count // 2] = 40.0, -30.0
    x, y = thinned(steps, values)
    assert len(x) <= POINTS + 2
    assert (y.max(), y.min()) == (40.0, -30.0)
    assert (x[0], x[-1]) == (0, count - 1)
    assert (np.diff(x) > 0).all()
    assert (values[x.astype(int)] == y).all()


def test_it_is_written_into_the_folder_or_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "a")
    assert write_report(folder) == folder / "report.html"
    assert command_line(["report", str(tmp_path), "--output", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"(?!data:)", page)  # everything is in it


@pytest.mark.parametrize("words", [["nowhere"], ["empty"], [".", "--output", "nowhere/page.html"]])
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    written(tmp_path / "a")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_no_run_is_said_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text("step,a\n")
    with pytest.raises(InvalidInput, match=r"folder=.* is not possible: no run lies there"):
        read_all(tmp_path)


def test_a_run_that_failed_before_its_first_step_is_listed(tmp_path: Path) -> None:
    written(tmp_path / "a")
    folder = written(tmp_path / "b", seed=1)
    for name in (METRICS, SUMMARY):
        (folder / name).unlink()
    (folder / FAILED).write_text("no room\nTraceback\n")
    page = render(tmp_path)
    assert f"{tmp_path}: 1 failed<" in page
    failed = data_of(page)["runs"][1]
    assert (failed["status"], failed["steps"], failed["bad"]) == ("failed: no room", 0, True)
    assert list(curves(data_of(page), "Loss")) == ["seed 0"]


def test_a_run_knows_what_it_has() -> None:
    columns = {"step": np.array([0.0, 1, 2]), "a/layer_10": np.array([1, math.nan, math.inf]), "a/layer_2": np.ones(3)}
    run = RunData(Path("x"), columns)
    assert [values.tolist() for values in run.known("a/layer_10")] == [[0], [1]]
    assert run.layers("a") == ["a/layer_2", "a/layer_10"]
    assert (run.final("a/layer_10"), run.final("b")) == (1.0, None)


# -- served --------------------------------------------------------------------------------------------------------


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with server(tmp_path, 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()
        thread.join()


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read().decode()


def test_the_served_page_is_drawn_anew(address: str, tmp_path: Path) -> None:
    assert "no run lies there" in fetched(address)
    written(tmp_path / "a")
    assert len(data_of(fetched(address))["runs"]) == 1
    written(tmp_path / "b", seed=1)
    assert len(data_of(fetched(address))["runs"]) == 2


def test_a_reader_that_has_left_is_not_an_error(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "a")
    port = int(address.rstrip("/").rpartition(":")[2])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close at once
    assert len(data_of(fetched(address))["runs"]) == 1
    assert capfd.readouterr().err == ""


def test_nothing_but_the_page_is_served(address: str, tmp_path: Path) -> None:
    written(tmp_path / "a")
    for path in ("a/metrics.csv", "../", "a"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(address + path)


def test_a_taken_port_is_said(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = address.rstrip("/").rpartition(":")[2]
    assert main([str(tmp_path), "--serve", "--port", port]) == 2
    said = capsys.readouterr().err
    assert (
        said
        == f"error: port={port} is not possible: address already in use; name another one, or 0 for any free one.\n"
    )
    assert main([str(tmp_path), "--serve", "--port", "99999"]) == 2
    assert "port=99999 is not possible" in capsys.readouterr().err


def test_a_run_that_goes_on_has_done_as_many_steps_as_its_last_row_says(tmp_path):
    (written(tmp_path / "a") / SUMMARY).unlink()
    assert read_all(tmp_path)[0].steps == 3  # of rows 0 to 3


def test_one_step_is_a_point(tmp_path):
    for depth in (3, 5):
        (written(tmp_path / str(depth), depth=depth) / METRICS).write_text("step,test/loss\n0,1.0\n")
    figures = {figure["layout"]["meta"]: figure["data"] for figure in comparison(read_all(tmp_path))[0]}
    assert {trace["mode"] for trace in figures["Test loss: mean and range by depth (runs)"]} == {"lines+markers"}


def test_what_is_not_averaged_is_not_said_to_differ(tmp_path):
    for depth in (3, 5):
        for seed in range(3):
            folder = written(tmp_path / f"{depth}-{seed}", depth=depth, seed=seed, diverged=1 if seed == 2 else None)
            with_config(folder, schedule={"rate": 0.5 + (seed == 2)})
    assert comparison(read_all(tmp_path))[1] == ""


def test_the_mark_of_a_divergence_knows_its_run(tmp_path):
    written(tmp_path / "a")
    written(tmp_path / "b", seed=1, diverged=3)
    data = data_of(render(tmp_path))
    shapes = [
        shape
        for section in data["sections"]
        for figure in section["figures"]
        for shape in figure["layout"].get("shapes", [])
        if shape.get("xref", "x") == "x" and shape.get("x0") == 3
    ]
    assert shapes
    assert {shape.get("name") for shape in shapes} == {"1"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "gone"), ""),
        (PermissionError(13, "Permission denied"), "warning: {} cannot be read (Permission denied)\n"),
    ],
)
def test_a_folder_that_cannot_be_read_costs_no_other(tmp_path, monkeypatch, capsys, error, said):
    for name in "ab":
        written(tmp_path / name)
    scandir = os.scandir

    def denied(path):
        if Path(path) == tmp_path / "a":
            raise error
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    assert list(run_folders(tmp_path)) == [tmp_path / "b"]
    assert capsys.readouterr().err == said.format(tmp_path / "a")


def test_curves_are_over_completed_runs_where_there_are_some(tmp_path):
    written(tmp_path / "a")
    (written(tmp_path / "b", seed=5) / SUMMARY).unlink()
    assert _points(read_runs(tmp_path), "step", "test/loss")["y"].max() == 1.0  # not 6, of the one that goes on
