"""TensorBoard gets what metrics.csv gets, read back by its own reader."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytorch_lightning import Trainer

from eoc.errors import RunFailure
from eoc.tracking.run_folder import CHECKPOINT, METRICS
from eoc.tracking.tensorboard_log import FOLDER, TensorBoardLog
from support import EVERY_STEP, NO_FIGURE, SMALL, Crash, Run, crash_at, killed, trained

WORDS = (*(word for word in SMALL if "wandb" not in word), "logger=tensorboard", "callbacks.checkpoint.every=2")


def reader(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / FOLDER), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def same_as_csv(run: Run) -> bool:
    """Every value of metrics.csv at its step, in single precision; nothing else."""
    found, columns = reader(run.folder), run.columns
    steps = columns.pop("step")
    for name, values in columns.items():
        there = [(step, np.float32(value)) for step, value in zip(steps, values, strict=True) if not math.isnan(value)]
        assert [(event.step, np.float32(event.value)) for event in found.Scalars(name)] == there, name
    return set(found.Tags()["scalars"]) == set(columns)


def test_one_override_takes_tensorboard_and_csv_instead_of_wandb(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", *WORDS, *EVERY_STEP, small=False)
    assert same_as_csv(run)
    found = reader(run.folder)
    (image,) = found.Images("summary")
    assert image.step == 8
    assert image.encoded_image_string == (run.folder / "summary.png").read_bytes()
    (config,) = found.Tensors("config/text_summary")
    assert b"kappa: 2.5" in config.tensor_proto.string_val[0]
    assert not list(tmp_path.rglob("*wandb*"))
    assert (run.folder / METRICS).exists()


def test_a_run_that_goes_on_in_its_folder_shows_no_step_twice(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        trained(tmp_path / "run", *WORDS, NO_FIGURE, small=False, then=crash_at(4))
    assert same_as_csv(
        trained(tmp_path / "run", *WORDS, NO_FIGURE, small=False, ckpt_path=tmp_path / "run" / CHECKPOINT)
    )


def test_a_run_that_was_killed_lacks_nothing_when_it_goes_on(tmp_path: Path) -> None:
    words = [*WORDS, NO_FIGURE, "trainer.max_steps=20"]
    killed(tmp_path / "run", "early", *words)
    time.sleep(1.0)  # its reader tells files of one second apart by process number
    assert same_as_csv(trained(tmp_path / "run", *words, small=False, ckpt_path=tmp_path / "run" / CHECKPOINT))


def test_rows_are_in_the_file_before_a_checkpoint_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.tensorboard import SummaryWriter

    done: list[str] = []
    flush, save = SummaryWriter.flush, Trainer.save_checkpoint
    monkeypatch.setattr(SummaryWriter, "flush", lambda self: [done.append("flushed"), flush(self)])
    monkeypatch.setattr(Trainer, "save_checkpoint", lambda *given: [done.append("saved"), save(*given)])
    trained(tmp_path / "run", *WORDS, NO_FIGURE, small=False)
    assert done[:8] == ["flushed", "saved"] * 4


def test_a_run_that_begins_anew_in_a_folder_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    rare = "callbacks.checkpoint.every=1000"
    with pytest.raises(Crash):
        trained(tmp_path / "run", *WORDS, rare, NO_FIGURE, small=False, then=crash_at(6))
    assert same_as_csv(trained(tmp_path / "run", *WORDS, rare, NO_FIGURE, "trainer.max_steps=3", small=False))


def test_where_it_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(RunFailure, match="TensorBoard is not installed: pip install tensorboard"):
        TensorBoardLog("run")
