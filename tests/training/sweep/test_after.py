"""An experiment's sweep ends with its verdicts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_coordinate_check_of_ones_own_rule(tmp_path: Path) -> None:
    grid = ["model=mup", "model.width=8,16", "model.depth=3,6", "seed=0,1", "trainer.max_steps=2"]
    command = [sys.executable, str(ROOT / "train.py"), "experiment=coordinate_check", *grid]
    done = subprocess.run(
        [*command, f"hydra.sweep.dir={tmp_path}"], capture_output=True, text=True, check=True, timeout=120
    )
    header, row = done.stdout.splitlines()[-5:-3]
    assert header.split()[0] == "model"
    assert header.split()[-1] == "passes"
    assert row.split()[0] == "mup"
    assert row.split()[-1] == "False"  # μP's rates are blind to depth
    assert float(row.split()[1]) > 0.5
    assert "mup_preactivations" in done.stdout
    assert "nup" not in done.stdout  # claims about rules that were not run are left out
    assert (tmp_path / "coordinate_check.png").exists()
