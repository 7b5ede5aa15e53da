"""What results/ says is what its cells say, and what the program measures when it is asked again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest

from eoc.analysis.claims.__main__ import main
from eoc.analysis.claims.base import COMPANION, READ, UNKNOWN
from eoc.analysis.claims.documents import fill
from eoc.analysis.claims.drawing import legible
from eoc.analysis.claims.results import CLAIMS, EXPERIMENTS, TABLE, describe, judge_all, read_cells, report
from eoc.errors import InvalidInput
from support import trained

RESULTS = Path(__file__).resolve().parents[3] / "results"
RECORDED = sorted(path.parent for path in RESULTS.glob(f"*/{CLAIMS}"))


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_the_recorded_verdicts_are_those_of_the_recorded_cells(folder: Path, tmp_path: Path) -> None:
    recorded = json.loads((folder / CLAIMS).read_text())
    for experiment in EXPERIMENTS:
        if (folder / f"{experiment}.csv").exists():
            (tmp_path / f"{experiment}.csv").write_text((folder / f"{experiment}.csv").read_text())
    judge_all(tmp_path, {key: value for key, value in recorded.items() if key != "claims"})
    assert json.loads((tmp_path / CLAIMS).read_text()) == recorded
    assert (tmp_path / TABLE).read_text() == (folder / TABLE).read_text()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_of_a_narrower_grid_what_is_left_says_the_same(experiment: str, tmp_path: Path) -> None:
    """One rule alone has the drift it has among all; one rule, depth or seed is judged and drawn without complaint."""
    module, cells = EXPERIMENTS[experiment], read_cells(experiment, RESULTS / "digits")
    recorded = {claim.name: claim for claim in module.claims(cells)}
    model = cells["model"].iloc[-1]
    deepest = cells["model.depth"].max()
    narrow = [cells[cells["model"] == model], cells[cells["model.depth"] == deepest], cells[cells["seed"] == 0]]
    for part in (each.reset_index(drop=True) for each in narrow):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = module.figure(part)
            legible(figure)
            figure.savefig(tmp_path / "figure.png", dpi=20)
            found = {claim.name: claim for claim in module.claims(part)}
        assert set(found) <= set(recorded)
        if part["model"].nunique() == 1 and f"{model}_drift" in recorded:
            assert found[f"{model}_drift"] == recorded[f"{model}_drift"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_recorded_figure_has_a_panel_without_runs(experiment: str) -> None:
    figure = EXPERIMENTS[experiment].figure(read_cells(experiment, RESULTS / "digits"))
    legible(figure)
    assert not [text for axis in figure.axes for text in axis.texts if text.get_text() == "no runs"]


def test_digits_are_recorded_with_every_experiment() -> None:
    assert RESULTS / "digits" in RECORDED
    assert {path.stem for path in (RESULTS / "digits").glob("*.svg")} == {*EXPERIMENTS, "cosines_course"}


def test_the_results_stay_small_and_hold_no_checkpoint() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    assert {path.suffix for path in files} <= {".csv", ".json", ".md", ".png", ".svg"}


@pytest.mark.slow
def test_measured_again_the_cells_and_the_verdicts_are_the_recorded_ones(tmp_path: Path) -> None:
    """A quick reproduction: λ_0 of νP, μP and NTP over depth, with four of the recorded seeds."""
    recorded = read_cells("depth_curvature", RESULTS / "digits")
    wanted = recorded[
        recorded["model"].isin(["nup", "mup", "ntp"])
        & (recorded["model.depth"] <= 9)
        & (recorded["seed"] < 4)
        & (recorded["model.activation"] == "relu")
        & (recorded["model.width"] == recorded["model"].map({"nup": 8, "mup": 64, "ntp": 64}))
    ].reset_index(drop=True)
    assert len(wanted) == 3 * 3 * 4
    found = []
    for _, cell in wanted.iterrows():
        words = [f"{key}={cell[key]}" for key in ("model", "model.depth", "model.width", "seed")]
        folder = tmp_path / "-".join(words)
        run = trained(folder, "experiment=depth_curvature", *words, small=False)
        found.append(run.columns["sharpness"][0])
    assert found == pytest.approx(wanted["sharpness"].tolist(), rel=2e-2)  # twice the tolerance of a probe
    again = wanted.assign(sharpness=found)
    verdicts = {claim.name: claim.verdict for claim in EXPERIMENTS["depth_curvature"].claims(again)}
    before = {claim.name: claim.verdict for claim in EXPERIMENTS["depth_curvature"].claims(wanted)}
    assert verdicts == before
    assert {"ntp_grows", "mup_grows", "nup_flat_relu"} <= {name for name, said in verdicts.items() if said != UNKNOWN}


def test_the_command_writes_claims_figures_and_cells(tmp_path: Path) -> None:
    sweep = tmp_path / "runs" / "concentration"
    for depth in (3, 5):
        for growth, width in ((0, 16), (2, 4)):
            for activation in ("relu", "abs"):
                for seed in (0, 1):
                    words = [f"model.depth={depth}", f"model.growth={growth}", f"model.width={width}"]
                    words += [f"model.activation={activation}", f"seed={seed}", "model=ntp"]
                    trained(sweep / "-".join(words), "experiment=concentration", *words, small=False)
    command = [sys.executable, "-m", "eoc.analysis.claims", str(tmp_path / "runs"), "--to", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "concentration/abs_concentrates_better" in done.stdout
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == {CLAIMS, TABLE, "concentration.csv", "concentration.png", "concentration.svg"}
    cells = pd.read_csv(tmp_path / "results" / "concentration.csv")
    assert len(cells) == 16
    text = (tmp_path / "results" / TABLE).read_text()
    assert "python train.py experiment=concentration" in text
    assert "`concentration`: 16 runs (16 completed), 2 seeds a setting, 32 examples" in text


def test_damaged_metrics_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "runs" / "concentration" / "one", "experiment=concentration", small=False)
    metrics = run.folder / "metrics.csv"
    metrics.write_text("loss\n1\n")
    assert main([str(tmp_path / "runs"), "--to", str(tmp_path / "results")]) == 2
    assert capsys.readouterr().err == f"error: {metrics} is damaged: it has no column step.\n"


def test_experiments_that_are_run_again_replace_their_own_and_leave_the_others(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for path in (RESULTS / "mnist_1000").glob("*.[cj]s*"):
        (results / path.name).write_text(path.read_text())
    before = json.loads((results / CLAIMS).read_text())
    run = trained(tmp_path / "runs" / "concentration" / "one", "experiment=concentration", small=False)
    assert run.summary["status"] == "completed"
    assert main([str(tmp_path / "runs"), "--to", str(results), "--options", "dataset.n_train=32"]) == 0
    now = json.loads((results / CLAIMS).read_text())
    assert now["dataset"] == before["dataset"]
    assert now["runs"].pop("concentration").startswith("1 runs (1 completed), 1 seeds a setting, 32 examples")
    assert now["commands"].pop("concentration") == "python train.py experiment=concentration dataset.n_train=32"
    assert (now["runs"], now["commands"]) == (before["runs"], before["commands"])
    kept = [claim for claim in now["claims"] if claim["experiment"] != "concentration"]
    assert kept == before["claims"]


def test_a_folder_without_sweeps_is_refused_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eoc.analysis.claims", str(tmp_path), "--to", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} has no folder called depth_curvature")


@pytest.mark.parametrize(
    ("name", "mark"),
    [("README.md", "<!-- compare: digits, mnist, cifar10 -->"), ("docs/findings.md", "<!-- claims: digits/")],
)
def test_the_tables_in_the_documents_are_those_of_the_results(name: str, mark: str, tmp_path: Path) -> None:
    text = (RESULTS.parent / name).read_text()
    assert mark in text
    copy = tmp_path / "copy.md"
    copy.write_text(text)
    assert not fill(copy, RESULTS)
    claims = json.loads((RESULTS / "digits" / CLAIMS).read_text())["claims"]
    shown = [claim for claim in claims if name != "README.md" or claim["source"] in (READ, COMPANION)]
    assert all(claim["claim"].replace("|", "\\|") in text for claim in shown)


@pytest.mark.parametrize("name", ["curvature.md", "curvature_gpu.md"])
def test_what_the_curvature_pages_say_is_what_the_bench_measured(name: str, tmp_path: Path) -> None:
    root = tmp_path / "here"
    shutil.copytree(RESULTS.parent / "benchmarks", root / "benchmarks")
    page = root / name
    text = (RESULTS.parent / "docs" / name).read_text()
    page.write_text(text)
    assert not fill(page, root / "results")
    page.write_text(re.sub(r"(<!--= shown\(cost.*?-->)[^<]*", r"\g<1>0", text))
    assert fill(page, root / "results")
    assert page.read_text() == text


@pytest.mark.parametrize("mark", ["<!-- claims: nosuch -->", "<!-- compare: digits, nosuch -->"])
def test_a_document_that_names_results_that_are_not_there(mark: str, tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"{mark}\n<!-- end -->\n")
    with pytest.raises(InvalidInput, match=r"^--fill=nosuch is not possible: a document names it"):
        fill(document, RESULTS)
    with pytest.raises(InvalidInput, match=r"--fill=.*none\.md is not possible: there is no such file"):
        fill(tmp_path / "none.md", RESULTS)


def test_data_sets_are_set_side_by_side(tmp_path: Path) -> None:
    estimate = {"value": 0.5, "low": None, "high": None}
    claim = {"experiment": "cosines", "criterion": "a|b", "measured": estimate, "verdict": "holds", "remark": ""}
    paper = {**claim, "name": "one", "claim": "said", "source": READ}
    ours = {**claim, "name": "two", "claim": "seen", "source": "derived here"}
    for dataset, claims in (("first", [paper]), ("second", [{**paper, "verdict": "fails"}, ours])):
        (tmp_path / dataset).mkdir()
        (tmp_path / dataset / CLAIMS).write_text(json.dumps({"dataset": dataset.title(), "claims": claims}))
    document = tmp_path / "page.md"
    document.write_text(
        "<!-- compare: first, second -->\nold\n<!-- end -->\n<!-- compare: second, first: all -->\n<!-- end -->\n"
        "<!-- compare: first, second: shared -->\n<!-- end -->\n"
        "<!-- compare: first, second: differing -->\n<!-- end -->\n"
        "<!-- compare: first, first: differing -->\n<!-- end -->\n"
    )
    assert fill(document, tmp_path)
    assert document.read_text().splitlines() == [
        "<!-- compare: first, second -->",
        "| claim | criterion | First | Second |",
        "|---|---|---|---|",
        "| said | a\\|b | 0.5 **holds** | 0.5 **fails** |",
        "<!-- end -->",
        "<!-- compare: second, first: all -->",
        "| claim | criterion | Second | First |",
        "|---|---|---|---|",
        "| said | a\\|b | 0.5 **fails** | 0.5 **holds** |",
        "| seen | a\\|b | 0.5 **holds** | – |",
        "<!-- end -->",
        "<!-- compare: first, second: shared -->",
        "| claim | criterion | First | Second |",
        "|---|---|---|---|",
        "| said | a\\|b | 0.5 **holds** | 0.5 **fails** |",
        "<!-- end -->",
        "<!-- compare: first, second: differing -->",
        "| claim | criterion | First | Second |",
        "|---|---|---|---|",
        "| said | a\\|b | 0.5 **holds** | 0.5 **fails** |",
        "<!-- end -->",
        "<!-- compare: first, first: differing -->",
        "| claim | criterion | First | First |",
        "|---|---|---|---|",
        "<!-- end -->",
    ]


def test_activations_that_an_experiment_does_not_tell_apart_are_not_pooled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for activation in ("relu", "abs"):
        words = [
            "model=mup",
            "model.depth=3",
            f"model.activation={activation}",
            "trainer.max_steps=2",
            "callbacks=none",
        ]
        trained(tmp_path / activation, *words, "schedule=constant", "schedule.unit=absolute")
    capsys.readouterr()
    report("lr_transfer", tmp_path)
    said = "not judged: model.activation=abs, relu is not possible: lr_transfer is judged for one of them at a time"
    assert capsys.readouterr().out.startswith(said)
    assert not (tmp_path / "lr_transfer.csv").exists()


def test_the_seeds_are_counted_by_setting() -> None:
    runs = pd.DataFrame({"model": ["a"] * 2 + ["b"] * 5, "seed": [0, 1, *range(5)]})
    runs = runs.assign(**{"model.depth": 3, "status": "completed", "dataset.n_train": 200})
    line = describe("digits", {}, {"lr_transfer": runs})["runs"]["lr_transfer"]
    assert line.startswith("7 runs (7 completed), 2 to 5 seeds a setting, 200 examples")
