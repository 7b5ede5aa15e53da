"""A run's identity changes with what changes its numbers, and with nothing else."""

from __future__ import annotations

import pytest

from eoc.training.identity import LENGTH, identity
from support import composed


@pytest.fixture
def of(tmp_path):
    return lambda *overrides, folder="run": identity(composed(tmp_path / folder, *overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["logger=csv"],
        ["logger.wandb.mode=disabled"],
        ["name=other"],
        ["objective=train/loss"],
        ["callbacks.progress.every=3"],
        ["~callbacks.progress"],
        ["~callbacks.summary_figure"],
        ["callbacks.checkpoint.every=7"],
        ["paths.data=/elsewhere"],
        ["sweep.resume=false"],
        ["model.growth=2"],  # 2.0
        ["model=nup"],
        ["hydra.job.num=3"],
    ],
)
def test_it_stays(of, overrides):
    assert of(*overrides) == of()


@pytest.mark.parametrize(
    "override",
    [
        *("seed=1", "model=mup", "model.depth=5", "model.growth=1.5", "model.activation=[1,0.5]"),
        *("schedule=constant", "schedule.kappa=2.6", "trainer.max_steps=299", "trainer.precision=64-true"),
        *("dataset.n_train=900", "dataset.subset_seed=1", "dataset.batch_size=10", "loss=cross_entropy"),
        *("optimizer=momentum", "curvature.tolerance=1e-4", "callbacks.features.every=5", "~callbacks.curvature"),
        *("callbacks.divergence.bound=10", "dataset=mnist"),
    ],
)
def test_it_changes(of, override):
    assert of(override) != of()


def test_it_does_not_know_where_it_is(of):
    assert of("dataset=mnist", folder="a") == of("dataset=mnist", folder="b")
    assert of("dataset=images") == of("dataset=images", "paths.data=/elsewhere")
    assert of("dataset=images", "dataset.root=/a") != of("dataset=images", "dataset.root=/b")
    mine, other = ("dataset.root=${paths.data}/mine", "dataset.root=${paths.data}/other")
    assert len({of("dataset=images", root) for root in (mine, other)} | {of("dataset=images")}) == 3
    assert of("dataset=images", mine) == of("dataset=images", mine, "paths.data=/elsewhere")


def test_a_run_that_starts_from_a_checkpoint_is_another(tmp_path):
    fresh = composed(tmp_path / "run")
    continued = composed(tmp_path / "run", ckpt_path=tmp_path / "last.ckpt")
    assert identity(fresh) != identity(continued)
    assert len(identity(fresh)) == LENGTH
