"""A run that blows up ends as a result: marked everywhere, with all that was measured."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from eoc.analysis.status import status
from eoc.analysis.table import read_runs
from eoc.tracking.run_folder import CHECKPOINT, FIGURE, METRICS, SUMMARY, read_metrics
from eoc.training.module import EdgeOfChaosModule
from support import NO_FIGURE, SMALL, trained

ROOT = Path(__file__).resolve().parents[2]
NEVER_DEAD = "model.activation=abs"  # a ReLU network that is thrown far enough stands still


def strict(folder: Path) -> dict[str, Any]:
    """summary.json by the letter of JSON, which knows no NaN and no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads((folder / SUMMARY).read_text(), parse_constant=refuse)


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / CHECKPOINT, weights_only=True)


def assert_whole(folder: Path, last: int) -> None:
    """Every row up to ``last`` is there, each as long as the header."""
    assert read_metrics(folder)["step"] == list(range(last + 1))
    lines = (folder / METRICS).read_text().splitlines()
    assert {line.count(",") for line in lines} == {lines[0].count(",")}


def test_a_rate_far_too_high_diverges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(
        tmp_path, "schedule=constant", "schedule.rate=60", "trainer.max_steps=50", "callbacks.checkpoint.every=1"
    )
    assert run.value == math.inf
    summary = strict(tmp_path)
    step = summary["diverged"]["step"]
    assert summary["status"] == "diverged"
    assert 0 < step < 50
    assert summary["steps"] == step + 1
    reason = summary["diverged"]["reason"]
    assert reason.startswith("the training loss")
    assert f"diverged at step {step}: {reason}" in capsys.readouterr().out

    assert_whole(tmp_path, step + 1)
    losses = run.columns["train/loss"]
    assert all(loss <= 1e4 * losses[0] for loss in losses[:step])
    assert not losses[step] <= 1e4 * losses[0]
    state = checkpoint(tmp_path)
    assert state["global_step"] <= step
    assert all(torch.isfinite(weight).all() for weight in state["state_dict"].values())
    assert (tmp_path / FIGURE).stat().st_size > 10_000


def test_what_is_undefined_at_the_end_is_no_number(tmp_path: Path) -> None:
    """Outputs that are NaN have no largest entry; features that are, no distance from their start."""
    words = ["schedule=constant", "schedule.rate=1e10", NEVER_DEAD, "callbacks.evaluation.every=1", NO_FIGURE]
    run = trained(tmp_path, *words, "callbacks.features.every=1", "callbacks.divergence=null", "trainer.max_steps=50")
    summary, columns = strict(tmp_path), run.columns
    assert math.isnan(columns["test/loss"][-1])
    rows = (tmp_path / METRICS).read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert (last["train/loss"], last["test/loss"]) == ("nan", "nan")
    assert (last["train/accuracy"], last["test/accuracy"]) == ("", "")
    for part in ("train", "test"):
        accuracies = [value for value in columns[f"{part}/accuracy"] if not math.isnan(value)]
        assert len(accuracies) > 1
        assert summary["best"][f"{part}/accuracy"]["value"] == max(accuracies)
        assert summary["final"][f"{part}/accuracy"] is None
    assert columns["features/kernel_change"][0] < 1e-6
    assert summary["final"]["features/kernel_change"] is None
    assert summary["final"]["lr"] is not None  # the last step's


def test_the_bound_is_in_units_of_the_first_loss(tmp_path: Path) -> None:
    overrides = ["schedule=constant", "schedule.rate=12", NO_FIGURE]
    free = trained(tmp_path / "free", *overrides)
    losses = free.columns["train/loss"]
    peak = max(losses)
    step = losses.index(peak)
    assert free.summary["status"] == "completed"
    assert step == 1
    assert peak > 4 * losses[0]

    above = trained(tmp_path / "above", *overrides, f"callbacks.divergence.bound={1.001 * peak / losses[0]}")
    assert above.summary["status"] == "completed"
    below = trained(tmp_path / "below", *overrides, f"callbacks.divergence.bound={0.999 * peak / losses[0]}")
    assert below.summary["diverged"]["step"] == step
    assert "exceeds" in below.summary["diverged"]["reason"]
    assert below.value == math.inf


def test_a_curvature_that_is_not_finite_ends_a_geometric_run(tmp_path: Path) -> None:
    # The bound keeps the rate far above κ/λ; nothing but the probe looks at what becomes of it.
    run = trained(tmp_path, NEVER_DEAD, "schedule.min_rate=1e3", "~callbacks.divergence", NO_FIGURE)
    summary = strict(tmp_path)
    assert summary["status"] == "diverged"
    step = summary["diverged"]["step"]
    assert "curvature" in summary["diverged"]["reason"]
    assert summary["steps"] == step < 8  # no update was taken from there
    assert_whole(tmp_path, step)
    assert math.isnan(run.columns["sharpness"][step])
    assert math.isnan(run.columns["lr"][step])
    assert math.isfinite(run.columns["sharpness"][step - 1])
    assert run.value == math.inf


@pytest.mark.parametrize(
    ("overrides", "first", "reason"),
    [
        (["schedule=constant", "schedule.unit=absolute", "schedule.rate=1e38"], 0, r"4e\+39 leaves float32"),
        (["schedule.kappa=1e300"], 0, r"[\d.]+e\+30\d leaves float32"),
        (["schedule.kappa=1e308", "trainer.precision=64-true"], 0, "inf leaves float64"),
        (["schedule=alignment", "schedule.gain=1000"], 2, "inf leaves float32"),
    ],
)
def test_a_rate_beyond_the_weights_dtype_diverges(
    overrides: list[str], first: int, reason: str, tmp_path: Path
) -> None:
    run = trained(tmp_path, *overrides, "model.parameterization=nup", "model.width=20", NO_FIGURE)
    summary = strict(tmp_path)
    assert summary["status"] == "diverged"
    assert summary["diverged"]["step"] == summary["steps"] == first  # no update was taken from there
    assert re.fullmatch(f"the learning rate {reason}", summary["diverged"]["reason"])
    assert_whole(tmp_path, first)
    assert math.isnan(run.columns.get("lr", [math.nan])[first])
    assert run.value == math.inf


def test_bare_training_says_that_it_diverged(tmp_path: Path) -> None:
    run = trained(tmp_path, NEVER_DEAD, "schedule=constant", "schedule.rate=1e3", "callbacks=none")
    summary = strict(tmp_path)
    assert summary["status"] == "diverged"
    assert summary["diverged"]["step"] == 8  # only the final weights were looked at
    assert summary["final"]["train/loss"] is None
    assert run.value == math.inf


@pytest.mark.parametrize(("rate", "reason"), [(1e30, "is "), (1e3, "exceeds")], ids=["not finite", "above the bound"])
def test_the_last_update_is_looked_at_too(rate: float, reason: str, tmp_path: Path) -> None:
    overrides = ["schedule=constant", f"schedule.rate={rate}", "trainer.max_steps=1", NO_FIGURE]
    run = trained(tmp_path, NEVER_DEAD, *overrides)
    summary = strict(tmp_path)
    assert summary["status"] == "diverged"
    assert summary["diverged"]["step"] == 1
    assert reason in summary["diverged"]["reason"]
    assert_whole(tmp_path, 1)
    assert run.value == math.inf


def test_weights_that_are_not_finite_do_not_replace_the_last_checkpoint(tmp_path: Path) -> None:
    # Nobody looks at the loss, and the weights overflow on the way.
    overrides = ["schedule=constant", "schedule.rate=1e3", "~callbacks.divergence", "callbacks.checkpoint.every=1"]
    run = trained(tmp_path, NEVER_DEAD, *overrides, NO_FIGURE)
    finite = [all(torch.isfinite(weight).all() for weight in weights) for weights in run.path]
    assert finite[0]
    assert not finite[-1]
    state = checkpoint(tmp_path)
    assert state["global_step"] == finite.index(False) - 1
    for weight, kept in zip(run.path[state["global_step"]], state["state_dict"].values(), strict=True):
        assert torch.equal(weight, kept)


def test_a_run_that_something_else_ends_early_is_not_completed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(module: EdgeOfChaosModule, step: int) -> None:
        module.trainer.should_stop = step == 2

    run = trained(tmp_path, "callbacks=none", then=stop)
    summary = strict(tmp_path)
    assert (summary["status"], summary["steps"], summary["diverged"]) == ("stopped", 3, None)
    assert run.value == math.inf
    assert "stopped at step 3" in capsys.readouterr().out
    assert status(read_runs(tmp_path)).endswith("step 3 of 8")


def test_the_exit_code_is_0(tmp_path: Path) -> None:
    words = ["schedule=constant", "schedule.rate=60", NO_FIGURE]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *SMALL, *words, f"hydra.run.dir={tmp_path / 'run'}"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "diverged at step" in done.stdout
    assert strict(tmp_path / "run")["status"] == "diverged"
