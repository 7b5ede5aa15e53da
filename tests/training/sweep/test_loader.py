"""A remembered composition is Hydra's own, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import eoc.training.identity
from eoc.training.sweep.loader import RememberingLoader
from support import CONF

assert eoc.training.identity.RESOLVER  # whose name conf/ uses

ARGUMENTS = ["hydra.mode=MULTIRUN", "hydra.sweep.dir=here", "model=nup,mup", "seed=0,1", "schedule.rate=1,2"]


class Counting:
    """Hydra's loader, counting what it composes."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader, self.composed = loader, 0

    def load_sweep_config(self, *args: Any) -> DictConfig:
        self.composed += 1
        return self.loader.load_sweep_config(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().hydra.config_loader


GRID = [
    ["model=nup", "seed=0", "model.depth=3"],
    ["model=nup", "seed=1", "model.depth=3"],
    ["model=nup", "model.depth=9", "seed=1"],
    ["model=mup", "model.activation=[1.0,0.5]", "seed=1", "hydra.sweep.subdir=a"],
    ["model=mup", "model.activation=relu", "seed=1", "hydra.sweep.subdir=b"],
    ["experiment=edge_of_stability", "dataset.n_train=50", "~callbacks.curvature", "name='a b'"],
    ["experiment=edge_of_stability", "dataset.n_train=null", "~callbacks.curvature", "name=x"],
    ["schedule=constant", "+schedule.rate2=3", "schedule.rate=2"],
    ["seed=1", "++seed=2"],
    ["++seed=2", "seed=1"],
    ["callbacks.features={every: 3}", "callbacks.features.examples=5"],
    ["callbacks.curvature.every=3", "~callbacks.curvature"],
    ["hydra.job.num=3", "seed=4", "trainer.max_steps=20"],
    ["debug=default"],
    ["model.depth=5", "model=nup_growth_1", "model.width=8"],
    ["model.depth=7", "model=nup_growth_1", "model.width=6"],
    ["experiment=lr_transfer", "callbacks=none", "trainer.max_steps=7", "logger.csv.folder=x"],
    ["model=mup", "model.depth=${seed}"],
    ["model.depth=5", "model={depth: 7}"],
    ["model={depth: 7}", "model.depth=5"],
    ["seed=3", "seed=3", "seed=4"],
]


def test_every_composition_is_hydras(loader):
    master = loader.load_configuration("config", ARGUMENTS, RunMode.MULTIRUN)
    remembering = RememberingLoader(loader)
    for overrides in GRID:
        expected = loader.load_sweep_config(master, overrides)
        config = remembering.load_sweep_config(master, overrides)
        assert OmegaConf.to_yaml(config) == OmegaConf.to_yaml(expected), overrides
        assert OmegaConf.is_struct(config)


def test_files_are_read_once_for_a_choice_of_groups(loader):
    master = loader.load_configuration("config", ARGUMENTS, RunMode.MULTIRUN)
    counting = Counting(loader)
    remembering = RememberingLoader(counting)
    for model in ("nup", "mup"):
        for seed in range(10):
            depth = 3 + seed % 3
            config = remembering.load_sweep_config(master, [f"model={model}", f"seed={seed}", f"model.depth={depth}"])
            assert (config.model.parameterization, config.seed, config.model.depth) == (model, seed, depth)
    assert counting.composed == 2


@pytest.mark.parametrize("wrong", ["model.dept=3", "seed.x=3", "modle=nup", "model=foo"])
def test_what_goes_wrong_is_said_by_hydra(loader, wrong):
    master = loader.load_configuration("config", ARGUMENTS, RunMode.MULTIRUN)
    with pytest.raises(Exception) as expected:  # noqa: PT011
        loader.load_sweep_config(master, ["seed=1", wrong])
    with pytest.raises(type(expected.value)) as said:
        RememberingLoader(loader).load_sweep_config(master, ["seed=1", wrong])
    assert str(said.value) == str(expected.value)
