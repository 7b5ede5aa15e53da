"""Two processes that split every batch train as one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eoc.tracking.run_folder import CHECKPOINT, read_metrics, read_summary
from support import NO_FIGURE, trained

ROOT = Path(__file__).resolve().parents[2]
# The monotone regime: further up, rounding grows from step to step.
OVERRIDES = [
    NO_FIGURE,
    "dataset.n_train=51",  # 25 and 26; one process multiplies in the span of the 51
    "dataset.n_test=40",
    "model.depth=3",
    "model.width=6",
    "schedule=constant",
    "schedule.rate=0.5",
    "curvature.tolerance=1e-5",
    "trainer.max_steps=10",
    "logger.wandb.mode=disabled",
]


def in_parallel(folder: Path, *overrides: str) -> str:
    """Train with two processes; return what they said."""
    parallel = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", f"hydra.run.dir={folder}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *OVERRIDES, *parallel, *overrides],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_equal_one_also_when_they_go_on(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *OVERRIDES)
    said = in_parallel(tmp_path / "half", "trainer.max_steps=5")
    assert said.count("completed") == 1  # one process speaks
    said = in_parallel(tmp_path / "two", f"ckpt_path={tmp_path / 'half' / CHECKPOINT}")
    assert said.count("Going on from step 5") == said.count("completed") == 1

    columns, expected = read_metrics(tmp_path / "two"), one.columns
    assert columns["step"] == list(range(11))
    for name in ("train/loss", "lr", "sharpness", "lr_x_sharpness", "cosine/cumulative/all", "cosine/previous/all"):
        assert columns[name] == pytest.approx(expected[name], rel=1e-6, abs=0.0, nan_ok=True), name
    assert columns.keys() == expected.keys()
    for name, values in expected.items():
        # What a probe costs depends on rounding, and the half run ends with one. update_norm is η times the gradient's.
        if not name.startswith("hessian/") or name.startswith("hessian/eig_"):
            assert columns[name] == pytest.approx(values, rel=1e-6, abs=1e-7, nan_ok=True), name
    summary = read_summary(tmp_path / "two")
    assert summary["status"] == "completed"
    assert summary["parameters"] == one.summary["parameters"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half", "one", "two"]  # nothing strays
