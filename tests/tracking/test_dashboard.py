"""The workspace as code: what it names was logged, it needs no account, and an account gets it as it is printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eoc.errors import RunFailure
from eoc.tracking import dashboard, figures
from support import EVERY_STEP, Run, trained
from tracking.inspecting import history, of_type, offline_runs, records
from tracking.stand_in import KEY, serving

pytestmark = pytest.mark.usefixtures("fresh_wandb")
TITLES = [
    "Training",
    "Edge of stability",
    "Cosines",
    "Features",
    "Curvature cost",
    "Sweep, grouped by depth",
    "Figures",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("dashboard")
    return trained(root / "run", *EVERY_STEP, "logger.wandb.mode=offline", f"paths.wandb={root}")


@pytest.fixture(scope="module")
def logged(run: Run) -> tuple[set[str], dict[str, Any]]:
    """The keys of all rows, and the config, of a real run."""
    (folder,) = offline_runs(run.folder.parent)
    found = records(folder)
    keys = {key.partition(".")[0] for row in history(found) for key in row}
    return keys, of_type(found, "run")[0]["config"]["update"]


def panels(specification: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for section in specification["spec"]["section"]["panelBankConfig"]["sections"]:
        yield from (panel["config"] for panel in section["panels"])


def test_the_sections_are_those_of_the_laboratory() -> None:
    sections = dashboard.specification()["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == TITLES
    assert all(section["panels"] and section["isOpen"] for section in sections)


def test_every_metric_that_it_names_was_logged(logged: tuple[set[str], dict[str, Any]]) -> None:
    keys, config = logged
    named, patterns, configs = set(), set(), set()
    for panel in panels(dashboard.specification()):
        axes = [panel.get(axis, "") for axis in ("xAxis", "yAxis")]
        named |= {*panel.get("metrics", []), *(set(panel.get("mediaKeys", [])) - {"sweep", "spectrum"})}
        named |= {axis.removeprefix("summary:") for axis in axes if axis and not axis.startswith("config:")}
        named |= {name for text in panel.get("expressions", []) for name in re.findall(r"\$\{(.+?)\}", text)}
        patterns |= {panel["metricRegex"]} if "metricRegex" in panel else set()
        configs |= {axis.removeprefix("config:") for axis in axes if axis.startswith("config:")}
        configs |= {panel["groupBy"]} if "groupBy" in panel else set()
    assert configs == {"model.value.depth"}  # W&B keeps values one level below a key
    assert config["model"]["depth"] == 3
    assert named - keys == set()
    assert {"sharpness", "lr", "cosine/cumulative/all", "features/kernel_change", "hessian/products", "step"} <= named
    for pattern in patterns:
        assert len([key for key in keys if re.search(pattern, key)]) >= 2, pattern
    assert len(patterns) == 4


def test_the_edge_is_drawn_as_two_and_four_over_the_rate() -> None:
    (edge,) = [panel for panel in panels(dashboard.specification()) if panel.get("expressions")]
    assert edge["expressions"] == ["${sharpness}", "2 / ${lr}", "4 / ${lr}"]
    assert edge["yLogScale"] is True
    assert all(panel["xAxis"] == "step" for panel in panels(dashboard.specification()) if "metrics" in panel)


def test_without_an_account_it_is_printed_or_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dashboard.main(["--project", "mine"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["project"] == "mine"
    assert dashboard.main(["--project", "mine", "--save", str(tmp_path / "view.json")]) == 0
    assert nameless(json.loads((tmp_path / "view.json").read_text())) == nameless(printed)
    assert dashboard.main(["--save", str(tmp_path / "nowhere" / "view.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def nameless(node: Any) -> Any:
    """A specification without the panels' random names."""
    if isinstance(node, dict):
        return {key: nameless(value) for key, value in node.items() if key not in ("id", "__id__")}
    return [nameless(item) for item in node] if isinstance(node, list) else node


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "eoc.tracking.dashboard"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as printing:
        assert printing.stdout is not None
        printing.stdout.close()
        assert printing.stderr is not None
        assert printing.stderr.read() == b""
        assert printing.wait(60) == 0


def test_an_account_gets_what_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert dashboard.main(["--publish", "--name", "a view"]) == 0
    (view,) = server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "eoc", "a view")
    assert nameless(json.loads(view["spec"])) == nameless(dashboard.specification()["spec"])
    assert f"{server.url}/me/eoc?nw={view['name'].split('-')[1]}" in capsys.readouterr().out


def test_without_a_key_publishing_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert dashboard.main(["--publish"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: The workspace cannot be published: No API key configured")
    assert said.count("\n") == 1


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(RunFailure, match="wandb-workspaces is not installed: pip install"):
        dashboard.workspace()


def test_the_figures_of_a_sweep_are_images_in_its_group(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweeps" / "day" / "hour"
    sweep.mkdir(parents=True)
    assert figures.main([str(sweep), "--runs", str(tmp_path)]) == 2
    assert "it has no figures" in capsys.readouterr().err
    for name in ("a.png", "b.png"):
        (sweep / name).write_bytes((run.folder / "summary.png").read_bytes() + name.encode())
    assert figures.main([str(sweep), "--runs", str(tmp_path), "--mode", "offline"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(sweep / "a.png"), str(sweep / "b.png")]
    (folder,) = offline_runs(tmp_path)
    found = records(folder)
    (opened,) = of_type(found, "run")
    assert (opened["run_group"], opened["job_type"]) == ("sweeps/day/hour", "figures")
    (row,) = history(found)
    assert row["sweep.count"] == 2
    images = list((folder / "files" / "media" / "images").rglob("*.png"))
    assert len(images) == 2
