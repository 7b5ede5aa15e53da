"""The config tree: every choice composes and builds, every key is read, commented, and says the code's default."""

from __future__ import annotations

import inspect
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.utils import get_object
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.profilers import PassThroughProfiler, SimpleProfiler
from submitit.slurm.slurm import _get_default_parameters

from eoc.training.build import build_callbacks, build_loggers, build_module, build_trainer
from eoc.training.checks import check_settings
from support import CONF, NO_FIGURE, SMALL, composed, trained

ROOT = CONF.parent
FILES = sorted(CONF.rglob("*.yaml"))
HYDRA = CONF / "hydra"  # choices of Hydra's own groups
CHOICES = [(path.parent.name, path.stem) for path in FILES if path.parent != CONF and HYDRA not in path.parents]
PACKAGED = ("experiment", "debug")  # they set values of the other groups
ELSEWHERE = ("mnist", "cifar10", "images")  # their files are not here

# What a constructor gets from the program and not from its config node.
SUPPLIED = {
    "eoc.model.MLP": {"inputs", "outputs", "seed"},
    "eoc.training.probe.CurvatureProbe": {"k"},
    "eoc.analysis.claims.results.report": {"folder"},
    "eoc.analysis.draw_summary": {"folder", "rows", "limit", "diverged", "dots_per_inch"},
    "eoc.analysis.draw_spectrum": {"folder", "dots_per_inch"},
}
# In Python a data set is all of it; a run takes so much that a step of a full batch stays short.
CHOSEN = {("mnist.yaml", "n_train"), ("mnist.yaml", "n_test"), ("cifar10.yaml", "n_train"), ("cifar10.yaml", "n_test")}
QUEUES = tuple(f"hydra_plugins.eoc_sweeps.queue.{name}Launcher" for name in ("Slurm", "Local"))
PROCESSES = "hydra_plugins.eoc_sweeps.processes.ProcessLauncher"
FOREIGN = {"pytorch_lightning.Trainer", *QUEUES, PROCESSES}  # of whose parameters and defaults only some are ours


def identity(choice: tuple[str, str]) -> str:
    return "=".join(choice)


def raw(path: Path) -> dict[str, Any]:
    """A file as it is written, interpolations and all."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def targets(node: Any) -> list[dict[str, Any]]:
    """Every node below ``node`` that names what it makes."""
    if not isinstance(node, dict):
        return []
    below = [found for value in node.values() for found in targets(value)]
    return [node, *below] if "_target_" in node else below


def settings(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if not key.startswith("_")}


NODES = [(path, node) for path in FILES for node in targets(raw(path))]
IDS = [f"{path.relative_to(CONF)}:{node['_target_'].rpartition('.')[2]}" for path, node in NODES]


def test_the_groups_are_those_of_the_interface() -> None:
    groups = {"model", "dataset", "loss", "optimizer", "schedule", "curvature", "callbacks", "logger", "trainer"}
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {*groups, "paths", "hydra", *PACKAGED}
    listed = [next(iter(entry)) for entry in raw(CONF / "config.yaml")["defaults"] if isinstance(entry, dict)]
    assert {*groups, "paths", *PACKAGED} == {key for key in listed if "hydra/" not in key}
    assert listed.index("experiment") > max(listed.index(group) for group in groups)


@pytest.mark.parametrize("choice", CHOICES, ids=identity)
def test_a_choice_composes_and_builds(choice: tuple[str, str], tmp_path: Path) -> None:
    group, name = choice
    words = [*SMALL, f"{group}={name}"]
    if group == "trainer":
        words += ["trainer.accelerator=cpu", "trainer.devices=1"]
    if group == "logger" or is_sweep(group, name):
        words.remove("logger.wandb.mode=disabled")
    config = composed(tmp_path, *words)
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    check_settings(config)
    if name in ELSEWHERE:
        inspect.signature(get_object(f"eoc.data.{name}")).bind(**settings(raw(CONF / group / f"{name}.yaml")))
        return
    module = build_module(config)
    trainer = build_trainer(config, build_callbacks(config), build_loggers(config))
    assert module.network.depth == 3
    assert trainer.max_steps == config.trainer.max_steps


def test_a_profiler_of_lightnings_is_taken_when_asked_for(tmp_path: Path) -> None:
    """Else one that measures nothing, as Lightning's own does, in less time."""
    config = composed(tmp_path)
    profiler = build_trainer(config, [], []).profiler
    with profiler.profile("anything") as nothing:
        assert nothing is None
    assert isinstance(profiler, PassThroughProfiler)
    with open_dict(config):
        config.trainer.profiler = "simple"
    assert type(build_trainer(config, [], []).profiler) is SimpleProfiler


@pytest.mark.parametrize("path", sorted(HYDRA.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_choice_of_hydras_groups_composes_and_names_a_plugin(path: Path) -> None:
    group = path.parent.name
    with initialize_config_dir(str(CONF), version_base="1.3"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of submitit_local, which replaces another of that name
        config = compose("config", overrides=[f"hydra/{group}={path.stem}"], return_hydra_config=True)
    plugin = get_object(config.hydra[group]["_target_"])
    assert issubclass(plugin, {"launcher": Launcher, "sweeper": Sweeper}[group])


@pytest.mark.parametrize(("path", "node"), NODES, ids=IDS)
def test_every_key_is_a_parameter_and_every_parameter_a_key(path: Path, node: dict[str, Any]) -> None:
    target = node["_target_"]
    parameters = set(inspect.signature(get_object(target)).parameters)
    keys = set(settings(node))
    if target in QUEUES:
        assert keys <= {*OmegaConf.structured(BaseQueueConf), *_get_default_parameters(), "max_num_timeout"}
    elif target in FOREIGN:
        assert keys <= parameters
    elif path.parent.name == "trainer":
        assert "defaults" in node
    else:
        assert keys == parameters - SUPPLIED.get(target, set())


@pytest.mark.parametrize(("path", "node"), NODES, ids=IDS)
def test_a_value_is_the_codes_default_where_that_has_one(path: Path, node: dict[str, Any]) -> None:
    target = node["_target_"]
    if target in FOREIGN:
        return
    parameters = inspect.signature(get_object(target)).parameters
    for key, value in settings(node).items():
        default = parameters[key].default
        follows = "${" in str(value)  # another setting
        free = default is inspect.Parameter.empty or follows or (path.name, key) in CHOSEN
        assert free or value == default, key


def test_every_plain_key_is_read_by_the_program() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    conf = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    for key in set(raw(CONF / "config.yaml")) - {"defaults", "hydra", "name"}:
        assert re.search(rf"config\.{key}\b", source), key
    assert "${name}" in conf
    for group in ("loss", "optimizer"):
        for path in (CONF / group).glob("*.yaml"):
            for key in raw(path):
                assert f'config.{group}.get("{key}")' in source or f"config.{group}.{key}" in source, key
    for key in raw(CONF / "paths" / "default.yaml"):
        assert f"${{paths.{key}}}" in conf or f"config.paths.{key}" in source, key


@pytest.mark.parametrize("group", ["model", "loss", "optimizer", "paths", "curvature"])
def test_the_choices_of_a_group_have_the_same_keys(group: str) -> None:
    assert len({frozenset(raw(path)) for path in (CONF / group).glob("*.yaml")}) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_file_begins_with_what_it_is_and_every_key_is_explained(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    opening = [line for line in lines if line != "# @package _global_"]
    assert opening[0].startswith("# ")
    hidden = ("_target_", "_partial_", "defaults")
    if path.parent.name in PACKAGED:
        return  # the keys are explained where they are at home
    inside_hydra = False
    for number, line in enumerate(lines):
        inside_hydra = line == "hydra:" or (inside_hydra and line.startswith(" "))
        match = re.match(r"\s*(\w+):\s*([^#\s].*)?(#.*)?$", line)
        if not match or inside_hydra or match[1] in hidden:
            continue
        alone = number > 0 and lines[number - 1].lstrip().startswith("#")  # a line of its own above
        opens = match[2] is None  # a node: its keys are explained
        assert "#" in line or alone or opens or "${" in line, f"{path.name}: {line}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_paths_live_in_paths_alone(path: Path) -> None:
    if path.parent.name == "paths":
        return

    def leaves(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [leaf for key, value in node.items() if key != "header" for leaf in leaves(value)]
        if isinstance(node, list):
            return [leaf for value in node for leaf in leaves(value)]
        return [node] if isinstance(node, str) else []

    for value in leaves({key: value for key, value in raw(path).items() if key not in ("defaults", "objective")}):
        assert "/" not in value or "${paths." in value or "${hydra.sweep.dir}/" in value, value


@pytest.mark.parametrize(
    "path", sorted(p for group in PACKAGED for p in (CONF / group).glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_complete_setting_opens_with_its_command_and_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    said = re.search(r"^#.*?(python train\.py .*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert said, "the command that runs it"
    _, script, *words = shlex.split(said[1])
    assert script == "train.py"
    assert f"{path.parent.name}={path.stem}" in words
    if is_sweep(path.parent.name, path.stem):
        return
    run = trained(tmp_path, *words, "trainer.max_steps=3", NO_FIGURE, small=False)
    assert run.summary["status"] == "completed"
    assert run.columns["step"] == [0, 1, 2, 3]


def cells(path: Path) -> list[list[str]]:
    """Of every grid of a sweep the first cell."""
    sweeper = raw(path)["hydra"]["sweeper"]
    found = []
    for grid in sweeper["grids"]:
        axes = sweeper.get("params", {}) | grid
        found.append(
            [f"{key}={str(values).split(',')[0]}" for key, values in axes.items() if "range" not in str(values)]
        )
    return found


SWEEPS = [path for path in (CONF / "experiment").glob("*.yaml") if "sweeper:" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    ("path", "cell"),
    [
        pytest.param(path, cell, id=f"{path.stem}-{number}")
        for path in SWEEPS
        for number, cell in enumerate(cells(path))
    ],
)
def test_every_grid_of_an_experiment_runs(path: Path, cell: list[str], tmp_path: Path) -> None:
    small = ["dataset.n_train=30", "dataset.n_test=20", "model.width=4", "trainer.max_steps=2"]
    cell = [word for word in cell if not word.startswith(("model.width=", "trainer.max_steps="))]
    run = trained(tmp_path, f"experiment={path.stem}", *cell, *small, small=False)
    assert run.summary["status"] == "completed"
    assert run.columns["step"] == [0, 1, 2]


def is_sweep(group: str, name: str) -> bool:
    return group == "experiment" and (CONF / group / f"{name}.yaml") in SWEEPS


@pytest.mark.parametrize("words", [["debug=default", "logger=csv"], ["debug=default", "callbacks=none"]])
def test_a_debug_run_goes_with_other_choices(words: list[str], tmp_path: Path) -> None:
    config = composed(tmp_path, *words)
    assert isinstance(config, DictConfig)
    assert config.trainer.max_steps == 20


def test_an_experiment_overrides_groups_and_the_command_line_overrides_it(tmp_path: Path) -> None:
    config = composed(tmp_path, "experiment=edge_of_stability")
    assert config.schedule._target_ == "eoc.schedule.Constant"
    assert config.dataset.n_train == 300
    assert config.name.startswith("nup-l4-m12-g2.0-constant-digits")
    config = composed(tmp_path, "experiment=edge_of_stability", "dataset.n_train=77")
    assert config.dataset.n_train == 77
