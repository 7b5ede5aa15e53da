"""A search goes on with what it was made for, and says no best where there is none."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from eoc.tracking.run_folder import FAILED, SETTINGS, write_json
from eoc.training.door import Doorkeeper
from eoc.training.sweep.search import RESULTS, conclude
from eoc.training.sweep.study import begin
from support import CONF

SEARCH = ("hydra/sweeper=best_rate", "hydra.mode=MULTIRUN", "schedule=constant")


def composed(*overrides: str) -> DictConfig:
    """Compose the config of a whole search, as Hydra does."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return loader.load_configuration("config", [*SEARCH, *overrides], RunMode.MULTIRUN)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int | str]:
    """Begin a search and ask for one trial, in one folder; returns the sampler's seed, or the refusal."""
    optuna = pytest.importorskip("optuna")
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)

    def call(*overrides: str) -> int | str:
        config = composed(f"hydra.sweep.dir={tmp_path}", *overrides)
        HydraConfig.instance().set_config(config)
        try:
            begin(config)
        except ValueError as error:
            return str(error)
        optuna.load_study(study_name="best_rate", storage=config.hydra.sweeper.storage).ask()
        return config.hydra.sweeper.sampler.seed

    return call


def test_a_search_goes_on_with_other_jobs_of_the_same_settings(begun):
    assert begun("model.depth=4") == 0
    assert begun("model.depth=4", "hydra.sweeper.n_trials=3", "logger=csv", "paths.data=/elsewhere") == 1
    assert begun("model.depth=4", "hydra.sweeper.params={schedule.rate: 'tag(log, interval(1.0, 2))'}") == 2
    assert begun("+hydra.sweeper.params={schedule.rate: 'tag(log, interval(1.0, 2))', model.depth: 4}") == 3
    assert begun("model.depth=5", "hydra.sweeper.study_name=another") == 0


@pytest.mark.parametrize(
    ("overrides", "now", "before"),
    [
        (["objective=train/loss"], "objective=train/loss", "objective=test/loss"),
        (["hydra.sweeper.direction=maximize"], "hydra.sweeper.direction=maximize", "hydra.sweeper.direction=minimize"),
        (["model=mup"], "model.parameterization=mup", "model.parameterization=nup"),
        (["seed=3"], "seed=3", "seed=0"),
        (
            ["+hydra.sweeper.params={schedule.rate: 'tag(log, interval(1.0, 2))', model.depth: 7}"],
            "model.depth=7",
            "model.depth=4",
        ),
        (
            ["model.growth=choice(1,2)"],
            "hydra.sweeper.params=[model.growth: choice(1,2), schedule.rate: log interval of numbers]",
            "hydra.sweeper.params=[schedule.rate: log interval of numbers]",
        ),
        (
            ["hydra.sweeper.params={schedule.rate: 'interval(1, 2)'}"],
            "hydra.sweeper.params=[schedule.rate: interval of numbers]",
            "hydra.sweeper.params=[schedule.rate: log interval of numbers]",
        ),
        (
            ["hydra.sweeper.params={schedule.rate: 'range(0.5, 2, 0.5)'}"],
            "hydra.sweeper.params=[schedule.rate: range of numbers]",
            "hydra.sweeper.params=[schedule.rate: log interval of numbers]",
        ),
    ],
)
def test_a_study_is_not_mixed_with_another(begun, tmp_path, overrides, now, before):
    assert begun() == 0
    assert begun(*overrides) == (
        f"{now} is not possible: the study in sqlite:///{tmp_path}/study.db was made with {before}; "
        "keep to that, or choose another hydra.sweep.dir."
    )
    assert begun() == 1


def test_jobs_whose_settings_are_refused_are_jobs_that_failed(tmp_path, capsys):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / FAILED).write_text("seed=-1 is not possible.\n")
    with pytest.raises(RuntimeError, match="1 of 1 jobs have no result"):
        conclude(tmp_path, "test/loss")
    assert "job: seed=-1 is not possible." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "said"), [(0.25, "best      schedule.rate=1.5: test/loss 0.25\n"), (float("inf"), "")]
)
def test_a_best_that_diverged_or_failed_is_none(tmp_path, capsys, value, said):
    (tmp_path / "job").mkdir()
    write_json(tmp_path / "job" / SETTINGS, {"identity": "job"})
    OmegaConf.save({"best_params": {"schedule.rate": 1.5}, "best_value": value}, tmp_path / RESULTS)
    with pytest.raises(RuntimeError, match=r"^1 of 1 jobs have no result yet\.$"):  # none left a FAILED.txt
        conclude(tmp_path, "test/loss")
    _, _, out = capsys.readouterr().out.rpartition("─\n")
    assert out == said


@pytest.mark.parametrize(("direction", "value"), [("maximize", -math.inf), ("minimize", math.inf), (None, math.inf)])
@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED])
def test_a_run_that_diverges_or_fails_is_the_worst_there_is(tmp_path, status, direction, value):
    hydra = {"mode": RunMode.MULTIRUN, "sweeper": {"direction": direction}, "runtime": {"output_dir": str(tmp_path)}}
    returned = JobReturn(status=status)
    returned.return_value = RuntimeError("a failure") if status == JobStatus.FAILED else math.inf
    Doorkeeper().on_job_end(OmegaConf.create({"hydra": hydra}), job_return=returned)
    assert (returned.status, returned.return_value) == (JobStatus.COMPLETED, value)


def test_a_study_that_cannot_be_opened_is_said_in_one_sentence(begun, tmp_path):
    database = tmp_path / "study.db"
    database.write_text("no database\n" * 100)
    assert re.fullmatch(
        rf"hydra\.sweeper\.storage=sqlite:///{database} is not possible: it cannot be opened \(.*not a database.*\)\.",
        begun(),
    )
    assert re.fullmatch(
        r"hydra\.sweeper\.storage=foo is not possible: it cannot be opened \(.*URL.*'foo'.*\)\.",
        begun("hydra.sweeper.storage=foo"),
    )
