"""Runs that are looked at together can be told apart, and those of a sweep found together."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from eoc.tracking.wandb_log import WandbLog
from eoc.training.build import build_loggers
from eoc.training.naming import LONGEST, describe, label, sweep_name
from support import SMALL, composed


def described(config: DictConfig) -> WandbLog:
    loggers = build_loggers(config)
    describe(loggers, config)
    (log,) = (logger for logger in loggers if isinstance(logger, WandbLog))
    return log


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "a"),
        (["model=mup", "model.depth=9", "model.width=3", "model.growth=0", "seed=2", "schedule=constant"], "a"),
        (["schedule.kappa=2.25", "model.richness=0.5"], "a schedule.kappa=2.25 model.richness=0.5"),
        (["~callbacks.curvature", "logger.wandb.group=x", "hydra.run.dir=y", "paths.root=z", "ckpt_path=c"], "a"),
        (["+dataset.root=b", "loss=cross_entropy"], "a +dataset.root=b loss=cross_entropy"),
        (["dataset=mnist", "dataset.n_train=7", "debug=default"], "a dataset.n_train=7 debug=default"),
    ],
)
def test_a_label_tells_the_settings_that_the_name_does_not(overrides: list[str], expected: str) -> None:
    assert label("a", overrides) == expected


def test_a_label_is_no_longer_than_wandb_shows() -> None:
    assert label("a" * 100, [f"x={'b' * 200}"]) == "a" * 100 + " x=" + "b" * (LONGEST - 103)
    jobs = [label("a" * 100, [f"x={'b' * 200}", f"rate={job}"], f"#{job}") for job in (3, 12)]
    assert [job.rpartition("b")[2] for job in jobs] == ["… #3", "… #12"]
    assert {len(job) for job in jobs} == {LONGEST}
    assert label("a", ["rate=3"], "#3") == "a rate=3"


def test_a_single_run_has_no_group_and_a_chosen_name_stays(tmp_path: Path) -> None:
    log = described(composed(tmp_path, *SMALL, "schedule.kappa=3"))
    assert log.settings["group"] is None
    assert log.settings["name"].endswith(
        "-s0 dataset.n_train=60 dataset.n_test=40 trainer.max_steps=8 schedule.kappa=3"
    )
    assert described(composed(tmp_path, *SMALL, "logger.wandb.name=mine")).settings["name"] == "mine"


@pytest.mark.parametrize(
    ("folder", "expected"), [("runs/sweeps/day/hour", "sweeps/day/hour"), ("elsewhere/mine", "mine")]
)
def test_the_jobs_of_a_sweep_share_its_folder_as_group(folder: str, expected: str, tmp_path: Path) -> None:
    sweep = ["hydra.mode=MULTIRUN", f"hydra.sweep.dir={tmp_path / folder}"]
    for words, group in ((), expected), (("logger.wandb.group=chosen",), "chosen"):
        config = composed(tmp_path / "run", *SMALL, *sweep, *words)
        assert sweep_name(config) == expected
        assert described(config).settings["group"] == group
