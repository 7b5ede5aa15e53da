"""Every mistake in a setting or a file is refused with one sentence that names it, before anything is trained."""

from __future__ import annotations

import errno
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image
from pytorch_lightning import Trainer

import eoc.training.run as run_room
from eoc.analysis.table import run_folders
from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.csv_log import CSVLog
from eoc.tracking.run_folder import CHECKPOINT, CONFIG, METRICS, SETTINGS, SUMMARY, read_metrics
from eoc.training.complaints import complaint
from eoc.training.door import GUARDED, TRACEBACKS
from eoc.training.sweep.settings import check_spread
from support import CONF, before_the_door, called, composed, trained

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("dataset.n_train=30", "dataset.n_test=20", "model.depth=3", "model.width=4", "trainer.max_steps=4")
SHAPES = [(4, 64), (16, 4), (10, 16)]  # of its weights
QUIET = (*SMALL, "logger=csv", "~callbacks.summary_figure")
GROUPS = ("model", "dataset", "loss", "optimizer", "schedule", "curvature", "callbacks", "logger", "trainer", "paths")


# -- two ways in: the command line, and a composed config (faster) --------------------------------------------------


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Run ``python train.py`` in this process; returns exit code, stdout and stderr."""
    before_the_door(monkeypatch)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def call(*arguments: str, quiet: bool = True) -> tuple[object, str, str]:
        folders = [f"paths.runs={tmp_path / 'runs'}", f"hydra.run.dir={tmp_path / 'run'}"]
        flags = [argument for argument in arguments if argument.startswith("-")]
        overrides = [*(QUIET if quiet else ()), *folders, *(each for each in arguments if each not in flags)]
        return called(monkeypatch, capsys, *flags, *overrides)

    return call


@pytest.fixture
def refused(program: Callable) -> Callable[..., str]:
    """Run ``python train.py``, require code 2 and one line on stderr, and return it."""

    def call(*arguments: str) -> str:
        code, out, err = program(*arguments)
        assert code == 2, out + err
        assert err.startswith("error: ")
        assert err.endswith(".\n")
        assert err.count("\n") == 1
        assert not any(word in out for word in ("completed", "Error"))  # nor does Hydra say it in many
        return err.removeprefix("error: ").strip()

    return call


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DictConfig]:
    """Compose a config whose run folder lies below ``tmp_path``."""
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def make(
        *overrides: str, folder: str = "run", small: tuple[str, ...] = QUIET, ckpt_path: Path | None = None
    ) -> DictConfig:
        return composed(tmp_path / folder, *small, *overrides, ckpt_path=ckpt_path)

    return make


def choices(group: str) -> str:
    """The choices of a group, as they are listed in a sentence."""
    return ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


# -- the command line, as Hydra reads it -----------------------------------------------------------------------------

MODEL_KEYS = "activation, depth, growth, parameterization, readout_init, richness, width"
CALLBACKS = "checkpoint, curvature, divergence, evaluation, features, progress, update_cosines"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model=foo", f"model=foo is not possible: it must be one of {choices('model')}."),
        ("callbacks=foo", f"callbacks=foo is not possible: it must be one of {choices('callbacks')}."),
        (
            "callbacks=[default,spectru]",
            f"callbacks=spectru is not possible: it must be one of {choices('callbacks')} ",
        ),
        ("schedule=geometri", "geometric, warmup (perhaps geometric?)."),
        ("modle=nup", "trainer (perhaps model?)."),
        ("experimnt=edge_of_stability", "(perhaps experiment?)."),
        ("model.dept=3", f"model has {MODEL_KEYS} (perhaps depth?)."),
        ("callbacks.foo.every=3", f"there is no key callbacks.foo; callbacks has {CALLBACKS}."),
        ("schedule={a:1}", "there is no key schedule.a; schedule has cooldown, cooldown_kappa, interval, kappa"),
        (
            "~callbacks.foo",
            f"~callbacks.foo is not possible: there is no key callbacks.foo; callbacks has {CALLBACKS}.",
        ),
        ("~callbacks.progres", f"callbacks has {CALLBACKS} (perhaps progress?)."),
        ("~model=mup", "~model=mup is not possible: model is another choice."),
        ("~ckpt_path", "~ckpt_path is not possible: ckpt_path is null already."),
        ("debug=null", "debug=null is not possible: it must be one of default; leave it out for the default."),
        ("experiment=nosuch", f"experiment=nosuch is not possible: it must be one of {choices('experiment')}"),
        ("experiment=null", f"experiment=null is not possible: it must be one of {choices('experiment')}"),
        ("schedule=[constant,warmup]", "schedule=[constant,warmup] is not possible: it takes one choice; a sweep over"),
        ("--resolve", "The flag --resolve says how the config is shown: put --cfg job beside it."),
        ("+paths.foo=abc", "paths.foo=abc is not possible: there is no key paths.foo; paths has root, data, runs, run"),
        ("--foo", "The command line cannot be read, unrecognized arguments: --foo: settings are key=value"),
        ("--info=foo", "invalid choice: 'foo'"),
        ("model=5", "model=5 is not possible: it must be one of mup"),
        ("+model=mup", "model is there already; leave out the +."),
        ("a=b=c[", "a=b=c[ is not possible: it cannot be read as key=value"),
        ("foo", "foo is not possible: a setting is written key=value, and this has no =."),
        ("model.depth", "model.depth is not possible: a setting is written key=value, and this has no =."),
        ("=3", "'=3' is not possible: it names no setting; python train.py --help"),
        ("~", "'~' is not possible: it names no setting; python train.py --help"),
        ("", "'' is not possible: it names no setting; python train.py --help"),
        ("+model=nup", "+model=... is not possible: model is there already; leave out the +."),
        ("model@foo=nup", "model@foo=... is not possible: there is no model@foo; write model=..."),
        ("~loss", "~loss is not possible: it must be one of the choices in conf/loss."),
        ("~seed", "~seed is not possible: it must be given."),
        ("~optimizer.momentum", "~optimizer.momentum is not possible: it must be a finite number of at least 0"),
        ("model.depth=3,5", "put -m in front (python train.py -m model.depth=3,5); a list is written [a,b]."),
        ("hydra.run.dir=null", "hydra.run.dir=null is not possible: it cannot be null."),
        ("hydra.job.chdir=banana", "hydra.job.chdir=banana is not possible: Value 'banana'"),
        (
            "hydra.sweeper.grids=[{seed: range(6)}]",
            "hydra.sweeper.grids=[{seed: range(6)}] is not possible: a sweep inside [...] or {...} is written as a "
            'text, such as "0,1" or "range(6)".',
        ),
        ("--config-name=foo", "Cannot find primary config 'foo'"),
    ],
)
def test_the_command_line_is_answered_in_one_sentence(refused, override, sentence):
    assert sentence in refused(override)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["model=nup", "-m", "seed=0,1", "model.depth=3"],
            "The command line cannot be read, unrecognized arguments: seed=0,1 model.depth=3: "
            "put -m and other flags before all settings, not among them.",
        ),
        (
            ["model=nup", "--foo", "seed=0"],
            "The command line cannot be read, unrecognized arguments: --foo seed=0: "
            "settings are key=value, --help lists them all.",
        ),
        (
            ["--experimental-rerun", "foo"],
            "--experimental-rerun=foo is not possible: it must be the config.pickle that a run has left.",
        ),
        (
            ["--experimental-rerun", __file__],
            f"--experimental-rerun={__file__} is not possible: it must be the config.pickle that a run has left.",
        ),
    ],
)
def test_flags_are_answered_in_one_sentence(monkeypatch, capsys, words, sentence):
    before_the_door(monkeypatch)
    assert called(monkeypatch, capsys, *words) == (2, "", f"error: {sentence}\n")


@pytest.mark.parametrize("override", ["+model.foo=3"])
def test_a_key_that_was_forced_in_is_unknown_all_the_same(refused, override):
    said = refused(override)
    assert said.startswith("model.foo=3 is not possible: there is no key model.foo; model has parameterization, depth")
    assert not said.endswith("foo.")


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("+model.seed=1", "model.seed=1 is not possible: the program sets it itself; leave it out."),
        ("+trainer.logger=false", "trainer.logger=false is not possible: the program sets it itself; leave it out."),
        ("+model._partial_=true", "model._partial_=true is not possible: leave it out."),
        ("+model._recursive_=false", "model._recursive_=false is not possible: leave it out."),
        ("+schedule._args_=[1]", "schedule._args_=[1] is not possible: leave it out."),
        (
            "+trainer.val_check_interval=0.1",
            "trainer.val_check_interval=0.1 is not possible: the test part is looked at by callbacks.evaluation, "
            "whole; leave it out.",
        ),
        ("+trainer.detect_anomaly=abc", "trainer.detect_anomaly=abc is not possible: it must be true or false."),
        ("+trainer.deterministic=abc", "trainer.deterministic=abc is not possible: it must be true or false."),
        (
            "schedule._target_=builtins.dict",
            "schedule._target_=builtins.dict is not possible: it does not say which keys it takes.",
        ),
        (
            'model.depth="3"',
            "model.depth=3 is not possible: it must be an integer of at least 2, and no text in quotes.",
        ),
        ("+curvature.k=3", "curvature.k=3 is not possible: callbacks.curvature.k says how many; leave it out."),
    ],
)
def test_what_the_program_sets_itself_is_not_set_over_it(refused, override, rule):
    assert refused(override) == rule


# -- values, key by key ----------------------------------------------------------------------------------------------

CORES = max(os.cpu_count() or 1, 2)
VALUES = [
    ({"model.depth": 1}, "model.depth", "it must be an integer of at least 2"),
    ({"model.depth": ""}, "model.depth", "it must be an integer of at least 2"),
    ({"model.depth": None}, "model.depth", "it must be an integer of at least 2"),
    ({"model.width": 0}, "model.width", "it must be an integer of at least 1"),
    ({"model.width": 10**30}, "model.width", "it must be an integer of at most 1000000000"),
    ({"model.growth": -1}, "model.growth", "it must be a finite number of at least 0"),
    ({"model.growth": 1000}, "model.growth", "choose a smaller growth"),
    ({"model.richness": 0}, "model.richness", "it must be a finite number above 0"),
    ({"model.richness": 1e300}, "model.richness", "the learning rates' factor would be inf, which float32 does not"),
    ({"model.richness": 1e-300}, "model.richness", "the learning rates' factor would be 0, which float32 does not"),
    ({"model.activation": "foo"}, "model.activation", "it must be relu, abs, leaky_relu, or two numbers [a, b]"),
    ({"model.activation": [0, 0]}, "model.activation", "not both zero"),
    ({"model.activation": [1e300, 1e300]}, "model.activation", "from 1e-20 to 1e20"),
    ({"model.activation": [1e-200, 1e-200]}, "model.activation", "from 1e-20 to 1e20"),
    (
        {"curvature.tolerance": 1e-6},
        "curvature.tolerance",
        "in float32 it must be at least 3.8e-06, the rounding of products.",
    ),
    (
        {"curvature.tolerance": 1e-20, "trainer.precision": "64-true"},
        "curvature.tolerance",
        "in float64 it must be at least 7.1e-15, the rounding of products.",
    ),
    ({"curvature.tolerance": 1}, "curvature.tolerance", "it must be a finite number above 0 and below 1"),
    ({"model.activation": [1]}, "model.activation", "two numbers [a, b]"),
    ({"model.activation": ["a", "b"]}, "model.activation", "two numbers [a, b]"),
    ({"model.readout_init": "foo"}, "model.readout_init", "it must be one of normal, zero"),
    ({"model._target_": "banana"}, "model._target_", "there is no such class or function"),
    ({"model._target_": "os.system"}, "model._target_", "it takes none of the keys of model (parameterization, depth"),
    ({"curvature.guards": 100000}, "curvature.guards", "max_products must be at least k + guards, 100001."),
    ({"curvature.max_products": 1}, "curvature.max_products", "max_products must be at least k + guards, 2."),
    ({"curvature.max_products": 0}, "curvature.max_products", "it must be an integer of at least 1."),
    (
        {"callbacks.curvature.k": 300},
        "curvature.max_products",
        "max_products must be at least k + guards, 301 where callbacks.curvature.k is 300.",
    ),
    (
        {"callbacks.curvature.k": 75, "model.depth": 2, "model.width": 1},
        "callbacks.curvature.k",
        "it must be at most 74, the number of weights",
    ),
    ({"schedule.kappa": -1}, "schedule.kappa", "it must be a finite number above 0"),
    ({"schedule.kappa": 0}, "schedule.kappa", "it must be a finite number above 0"),
    ({"schedule.interval": 0}, "schedule.interval", "it must be an integer of at least 1"),
    ({"schedule.cooldown": 2}, "schedule.cooldown", "of at least 0 and of at most 1"),
    ({"dataset.n_train": 100000}, "dataset.n_train", "digits has 1797 examples"),
    ({"dataset.n_train": 30, "dataset.n_test": 1780}, "dataset.n_train", "for the rest; a smaller n_test leaves more."),
    ({"dataset.n_train": 1797, "dataset.n_test": None}, "dataset.n_train", "or null for the rest."),
    ({"dataset.n_train": 0}, "dataset.n_train", "it must be an integer of at least 1"),
    ({"dataset.n_train": -5}, "dataset.n_train", "it must be an integer of at least 1"),
    ({"dataset.batch_size": 0}, "dataset.batch_size", "it must be an integer of at least 1, or null"),
    ({"schedule.max_rate": 0}, "schedule.max_rate", "it must be a finite number above 0, or null"),
    ({"curvature.chunk_size": 0}, "curvature.chunk_size", "it must be an integer of at least 1, or null"),
    ({"dataset.batch_size": 31}, "dataset.batch_size", "n_train is 30"),
    ({"dataset.target": "foo"}, "dataset.target", "it must be one of one_hot, centered, plus_minus"),
    ({"dataset.subset_seed": 10**30}, "dataset.subset_seed", "of at least 0 and of at most 9223372036854775807"),
    ({"loss.name": "mses"}, "loss.name", "it must be one of mse, cross_entropy (perhaps mse?)"),
    ({"loss.name": "cross_entropy", "dataset.target": "plus_minus"}, "dataset.target", "cross_entropy needs one_hot"),
    ({"optimizer.momentum": 1}, "optimizer.momentum", "of at least 0 and below 1"),
    ({"optimizer.momentum": -0.1}, "optimizer.momentum", "of at least 0 and below 1"),
    ({"trainer.accelerator": "gpu"}, "trainer.accelerator", "torch sees no GPU here; use trainer=cpu"),
    ({"trainer.accelerator": "foo"}, "trainer.accelerator", "it must be one of auto, cpu, gpu, cuda"),
    ({"trainer.devices": 0}, "trainer.devices", "it must be an integer of at least 1"),
    ({"trainer.devices": CORES + 1}, "trainer.devices", f"and of at most {CORES}"),
    ({"trainer.max_steps": 0}, "trainer.max_steps", "it must be an integer of at least 1"),
    ({"trainer.max_epochs": 0}, "trainer.max_epochs", "max_steps is the length of a run"),
    ({"trainer.precision": "foo"}, "trainer.precision", "it must be one of 32-true, 64-true"),
    ({"trainer.log_every_n_steps": 0}, "trainer.log_every_n_steps", "it must be an integer of at least 1"),
    ({"callbacks.curvature.every": 0}, "callbacks.curvature.every", "it must be an integer of at least 1"),
    ({"callbacks.features.every": 0}, "callbacks.features.every", "it must be an integer of at least 1"),
    (
        {"logger.csv": {"_target_": "os.getcwd", "folder": "x"}},
        "logger.csv._target_",
        "it takes none of the keys of logger.csv (folder)",
    ),
    (
        {"callbacks.curvature": {"_target_": "os.getcwd"}},
        "callbacks.curvature._target_",
        "what it makes must be a Callback of Lightning",
    ),
    ({"dataset._target_": "subprocess.call"}, "dataset._target_", "Hydra calls no such function; name a class"),
    ({"model.depth": {"_target_": "subprocess.call"}}, "model.depth._target_", "Hydra calls no such function"),
    ({"callbacks.curvature": 5}, "callbacks.curvature", "it must be settings with a _target_"),
    ({"curvature.tolerance": 0}, "curvature.tolerance", "it must be a finite number above 0"),
    ({"curvature.autocast": "float16"}, "curvature.autocast", "it must be bfloat16, or null"),
    ({"curvature.scout": "float16"}, "curvature.scout", "it must be bfloat16, or null"),
    (
        {"curvature.scout": "bfloat16", "curvature.autocast": "bfloat16", "curvature.tolerance": 0.01},
        "curvature.scout",
        "with autocast=bfloat16 all products are in that precision",
    ),
    ({"curvature.autocast": "bfloat16"}, "curvature.tolerance", "with autocast=bfloat16 it must be at least 0.01"),
    ({"curvature.examples": 31}, "curvature.examples", "the training part has 30 examples"),
    ({"curvature.max_products": 5}, "curvature.max_products", "k + guards, 6 where callbacks.curvature.k is 5"),
    ({"curvature.seed": 10**30}, "curvature.seed", "of at most 9223372036854775807"),
    ({"seed": -1}, "seed", "it must be an integer of at least 0 and of at most 4294967295"),
    ({"seed": 2**32}, "seed", "it must be an integer of at least 0 and of at most 4294967295"),
    ({"seed": 10**30}, "seed", "it must be an integer of at least 0 and of at most 4294967295"),
    ({"sweep.resume": "perhaps"}, "sweep.resume", "it must be true or false"),
    ({"sweep": 3}, "sweep", "it must be settings, as in conf/config.yaml"),
    ({"objective": "nosuch"}, "objective", "this run measures cosine/cumulative/all"),
    ({"objective": "tset/loss"}, "objective", "(perhaps test/loss?)"),
    ({"objective": "hessian/eig_6"}, "objective", "(perhaps hessian/eig_5?)"),
]


@pytest.mark.parametrize(("changes", "key", "rule"), VALUES)
def test_a_value_is_refused_in_the_name_of_its_key(settings, monkeypatch, changes, key, rule):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config = settings()
    for name, value in changes.items():
        OmegaConf.update(config, name, value, merge=False)
    with pytest.raises(InvalidInput) as refusal:
        run_room.run(config)
    assert str(refusal.value).startswith(f"{key}=")
    assert rule in str(refusal.value)
    assert not (Path(config.paths.run) / SUMMARY).exists()


LENGTH = "trainer.max_steps sets the length of a run; leave it out"
CLIPPED = "an update is the learning rate times the gradient; leave it out"


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("fast_dev_run", True, LENGTH),
        ("limit_train_batches", 0, LENGTH),
        ("limit_train_batches", 1.0, LENGTH),
        ("overfit_batches", 1, LENGTH),
        ("max_time", "00:00:00:01", LENGTH),
        ("min_steps", 9, LENGTH),
        ("min_epochs", 2, LENGTH),
        ("gradient_clip_val", 0.5, CLIPPED),
        ("gradient_clip_algorithm", "norm", CLIPPED),
        ("accumulate_grad_batches", 2, "a step takes one batch, whose size is dataset.batch_size; leave it out"),
        ("barebones", True, "nothing of the run would be written; leave it out"),
        ("num_nodes", 2, "its processes must be started by srun or torchrun, on all of the nodes"),
        ("num_nodes", 0, "it must be an integer of at least 1"),
    ],
)
def test_a_setting_of_lightning_under_which_a_run_would_be_another(settings, monkeypatch, key, value, rule):
    for name in ("NODE_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    config = settings()
    OmegaConf.update(config, f"trainer.{key}", value, force_add=True)
    with pytest.raises(InvalidInput) as refusal:
        run_room.run(config)
    written = "true" if value is True else value
    assert str(refusal.value) == f"trainer.{key}={written} is not possible: {rule}."


def test_lightnings_own_values_are_no_mistake(settings):
    config = settings("callbacks=none", small=(*SMALL, "logger=csv"))
    for key, value in {"fast_dev_run": False, "limit_train_batches": None, "accumulate_grad_batches": 1}.items():
        OmegaConf.update(config, f"trainer.{key}", value, force_add=True)
    run_room.run(config)
    assert (Path(config.paths.run) / SUMMARY).exists()


def test_a_warm_up_as_long_as_the_run(refused):
    said = refused("schedule=cosine", "schedule.warmup_steps=4")
    assert said == "schedule.warmup_steps=4 is not possible: it must be below total_steps, which is 4."


@pytest.mark.parametrize("override", ["model.depth=1", "objective=nosuch", "model._target_=eoc.nosuch"])
def test_a_refused_value_is_one_line_on_stderr(refused, override):
    assert refused(override).startswith(f"{override} is not possible: ")


@pytest.mark.parametrize(
    "key",
    [
        *("lr", "seed2", "sweep.foo", "loss.foo", "optimizer.foo", "curvature.foo", "trainer.foo", "logger.csv.foo"),
        *("schedule.foo", "callbacks.curvature.foo", "dataset.foo"),
    ],
)
def test_a_key_that_nothing_reads(settings, key):
    config = settings()
    OmegaConf.update(config, key, 3, force_add=True)
    with pytest.raises(InvalidInput, match=f"there is no key {re.escape(key)}; ") as refusal:
        run_room.run(config)
    assert (refusal.value.key, refusal.value.value) == (key, 3)


@pytest.mark.parametrize(
    "key",
    ["model.width", "optimizer.momentum", "loss.name", "trainer.max_steps", "dataset.root", "schedule", "seed", "name"],
)
def test_a_key_that_is_missing(settings, key):
    config = settings("dataset=mnist") if key == "dataset.root" else settings()
    config.name = "x"
    config.schedule.total_steps = 4
    group, _, name = key.rpartition(".")
    with open_dict(config):
        del (OmegaConf.select(config, group) if group else config)[name]
    with pytest.raises(InvalidInput) as refusal:
        run_room.run(config)
    assert (refusal.value.key, refusal.value.value) == (key, None)


# -- every key of every file -----------------------------------------------------------------------------------------

# Keys for which any text is right.
TEXTS = {
    *("name", "dataset.root", "logger.csv.folder", "callbacks.checkpoint.folder", "callbacks.summary_figure.folder"),
    *(f"logger.wandb.{key}" for key in ("project", "root", "name", "group", "job_type", "entity")),
    *(f"paths.{key}" for key in ("root", "data", "runs", "run", "checkpoints", "wandb")),
}


def distinct_files() -> list[tuple[str, str]]:
    """One file for every set of keys in a group; a default that collects a group's other files stands for them."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for group in GROUPS:
        paths = sorted((CONF / group).glob("*.yaml"))
        collected = "default" if group in ("callbacks", "logger") else None
        for path in paths if collected is None else [CONF / group / f"{collected}.yaml"]:
            content = yaml.safe_load(path.read_text())
            found.setdefault((group, str([*content, content.get("_target_")])), (group, path.stem))
    return list(found.values())


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in node:
        if str(name).startswith("_"):
            continue
        value = node._get_node(name)
        if isinstance(value, DictConfig) and value._value() is not None:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def accepted(config: DictConfig, key: str, value: Any) -> str | None:
    """What went wrong with refusing ``key=value``, if something did."""
    changed = config.copy()
    OmegaConf.update(changed, key, value, merge=False)
    try:
        run_room.run(changed)
    except InvalidInput as refusal:
        return None if refusal.key == key else f"{key}={value} was refused as {refusal}"
    except Exception as error:
        return f"{key}={value} raised {error!r}"
    return f"{key}={value} was accepted"


def all_wrong(config: DictConfig, keys: list[str]) -> list[str]:
    """Give each key a text (unless any is right) and a list; return what was not refused in the key's name."""
    wrong = [(key, value) for key in keys for value in ("banana", [1, 2, 3]) if value != "banana" or key not in TEXTS]
    return [fault for key, value in wrong if (fault := accepted(config, key, value)) is not None]


@pytest.mark.parametrize(("group", "name"), distinct_files())
def test_every_key_of_every_group_refuses_what_it_cannot_be(settings, monkeypatch, group, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    small = tuple(each for each in SMALL if not each.startswith(f"{group}."))
    others = {"callbacks": "none", "logger": "csv"}  # faster
    others.pop(group, None)
    config = settings(f"{group}={name}", *(f"{key}={choice}" for key, choice in others.items()), small=small)
    assert all_wrong(config, list(leaves(config[group], f"{group}."))) == []


def test_every_key_outside_the_groups_refuses_what_it_cannot_be(settings):
    config = settings()
    keys = [key for key in leaves(config) if "." not in key]
    assert set(keys) >= {"seed", "ckpt_path", "objective", "name"}
    assert all_wrong(config, keys) == []


def test_no_group_is_left_out():
    here = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert here - {"experiment", "debug", "hydra"} == set(GROUPS)
    here.remove("hydra")
    assert {key for entry in yaml.safe_load((CONF / "config.yaml").read_text())["defaults"] for key in entry} >= here


# -- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)


def empty_tree(root: Path) -> None:
    for part in ("train", "test"):
        for label in ("a", "b"):
            (root / part / label).mkdir(parents=True)


def broken_images(root: Path) -> None:
    empty_tree(root)
    for folder in root.glob("*/*"):
        for number in range(3):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    whole = (root / "train" / "a" / "0.png").read_bytes()
    (root / "train" / "a" / "0.png").write_bytes(whole[: len(whole) // 2])


def broken_mnist(root: Path) -> None:
    (root / "MNIST" / "raw").mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
            (root / "MNIST" / "raw" / f"{part}-{kind}").write_bytes(b"\x00\x00\x08\x03\x00\x00")


def damaged_archive(root: Path) -> None:
    root.mkdir()
    (root / "cifar-10-python.tar.gz").write_bytes(b"half a file")


def broken_cifar10(root: Path) -> None:
    (root / "cifar-10-batches-py").mkdir(parents=True)
    (root / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half a file")


@pytest.mark.parametrize(
    ("name", "fill", "sentence"),
    [
        ("images", None, "dataset.root={root} is not possible: there is no such folder"),
        ("images", Path.mkdir, "dataset.root={root} is not possible: it has no folder train"),
        ("images", empty_tree, "dataset.root={root} is not possible: train/a has no image files"),
        ("images", broken_images, "train/a/0.png is not an image, is damaged or cannot be opened"),
        ("images", Path.touch, "dataset.root={root} is not possible: it is a file: give the folder of the data."),
        ("mnist", None, "MNIST is not complete in {root} and cannot be downloaded (Name or service not known)"),
        ("mnist", Path.mkdir, "MNIST is not complete in {root} and cannot be downloaded (Name or service not known)"),
        (
            "mnist",
            broken_mnist,
            "dataset.root={root} is not possible: {root}/MNIST/raw/train-images-idx3-ubyte is",
        ),
        ("cifar10", None, "CIFAR-10 is not complete in {root} and cannot be downloaded (Name or service not known)"),
        (
            "cifar10",
            broken_cifar10,
            "in {root} (data_batch_1 there is damaged or another file) and cannot be",
        ),
        (
            "cifar10",
            damaged_archive,
            "CIFAR-10 is not complete in {root} (cifar-10-python.tar.gz there is damaged or another file) and cannot",
        ),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_data_that_is_not_there_or_not_what_it_says(settings, tmp_path, name, fill, sentence):
    root = tmp_path / "data"
    if fill is not None:
        fill(root)
    small = ("model.depth=3", "model.width=4", "trainer.max_steps=2", "logger=csv")
    with pytest.raises((InvalidInput, RunFailure)) as refusal:
        run_room.run(settings(f"dataset={name}", f"dataset.root={root}", small=small))
    assert sentence.format(root=root) in str(refusal.value)


# -- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(settings) -> Path:
    """A finished run's last checkpoint, after 4 steps."""
    config = settings(folder="first")
    run_room.run(config)
    return Path(config.paths.run) / CHECKPOINT


class Intruder:
    """Unpickling it leaves a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable, tuple[Path]]:
        return Path.touch, (self.sentinel,)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_checkpoint_that_may_not_be_read(settings, checkpoint):
    checkpoint.chmod(0)
    with pytest.raises(InvalidInput, match="it may not be read by this user"):
        run_room.run(settings(folder="second", ckpt_path=checkpoint))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_checkpoint_of_another_program(settings, tmp_path, protocol):
    """Without a warning of torch's, which would stand before the sentence."""
    file = tmp_path / "other.ckpt"
    file.write_bytes(pickle.dumps({"weights": [1.0]}, protocol=protocol))
    refusal = pytest.raises(InvalidInput, match="it is damaged or not a checkpoint of this program")
    with warnings.catch_warnings(record=True) as said, refusal:
        warnings.simplefilter("always")
        run_room.run(settings(ckpt_path=file))
    assert said == []


def test_a_tensor_is_no_checkpoint_and_a_folder_none_either(settings, tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.ckpt")
    with pytest.raises(InvalidInput, match="it is damaged or not a checkpoint of this program"):  # and no warning
        run_room.run(settings(ckpt_path=tmp_path / "tensor.ckpt"))
    with pytest.raises(InvalidInput, match=r"it is a folder; give a run's checkpoints/last\.ckpt"):
        run_room.run(settings(ckpt_path=tmp_path))


@pytest.mark.parametrize(
    "parts",
    [
        *("optimizer_states", "optimizer_states.0", "loops", "loops.fit_loop", "pytorch-lightning_version"),
        *("eoc.random", "eoc.random.torch", "callbacks.Recorder"),
    ],
)
def test_a_checkpoint_that_lacks_a_part(settings, checkpoint, parts):
    content = torch.load(checkpoint, weights_only=True)
    *around, last = (int(part) if part.isdigit() else part for part in parts.split("."))
    part = content
    for name in around:
        part = part[name]
    del part[last]
    torch.save(content, checkpoint)
    with pytest.raises(InvalidInput, match=r"ckpt_path=.* it is damaged or not a checkpoint of this program"):
        run_room.run(settings(folder="second", ckpt_path=checkpoint))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("schedule", {"rule": "Geometric", "probes": [-1.0], "told_step": 3}),
        ("schedule", {"rule": "Geometric", "probes": "abc", "told_step": 3}),
        ("schedule", {"rule": "Geometric", "told_step": 3}),
        ("schedule", 3),
        ("probe", {}),
        ("random", {"torch": torch.zeros(3, dtype=torch.uint8), "cuda": [], "numpy": [], "python": []}),
        ("DivergenceCallback", {"first": "x"}),
        ("DivergenceCallback", 3),
        ("Recorder", {}),
        ("Recorder", {"last": {"lr": "x"}, "best": {}, "unconverged": 0}),
        ("CurvatureCallback", {}),
        ("FeaturesCallback", {"initial": 3}),
        ("UpdateCosinesCallback", {"initial": [], "last": []}),
        (
            "state_dict",
            {f"network.weights.{k}": torch.full(s, math.nan) for k, s in enumerate(SHAPES)},
        ),
        *(
            ("state_dict", {f"network.weights.{k}": torch.ones(s, dtype=kind) for k, s in enumerate(SHAPES)})
            for kind in (torch.float16, torch.int64, torch.complex64)
        ),
        ("global_step", -5),
        ("folder", -7),
        ("pytorch-lightning_version", "foo"),
        ("lr_schedulers", None),
        ("loops", {"fit_loop": None}),
    ],
)
def test_a_checkpoint_with_a_state_that_has_no_meaning(settings, checkpoint, part, value):
    content = torch.load(checkpoint, weights_only=True)
    states = next(each for each in (content["eoc"], content["callbacks"], content) if part in each)
    states[part] = value
    torch.save(content, checkpoint)
    with pytest.raises(InvalidInput, match=r"ckpt_path=.*last\.ckpt is not possible: it is damaged"):
        run_room.run(settings("trainer.max_steps=9", folder="second", ckpt_path=checkpoint))
    assert not {path.name for path in (checkpoint.parents[2] / "second").iterdir()} & {METRICS, SETTINGS, SUMMARY}


@pytest.mark.parametrize("part", ["vectors", "values"])
def test_a_checkpoint_whose_curvature_is_not_finite(settings, checkpoint, part):
    content = torch.load(checkpoint, weights_only=True)
    content["eoc"]["probe"]["tracker"][part][0].fill_(math.nan)
    torch.save(content, checkpoint)
    with pytest.raises(InvalidInput, match=r"ckpt_path=.* it is damaged"):
        run_room.run(settings("trainer.max_steps=9", folder="second", ckpt_path=checkpoint))


@pytest.mark.parametrize("change", ["empty", "shape", "nan"])
def test_a_checkpoint_whose_momentum_is_damaged(settings, change):
    config = settings("optimizer=momentum", "schedule=constant", folder="first")
    run_room.run(config)
    checkpoint = Path(config.paths.run) / CHECKPOINT
    content = torch.load(checkpoint, weights_only=True)
    state = content["optimizer_states"][0]["state"]
    if change == "empty":
        state.clear()
    elif change == "shape":
        state[1]["momentum_buffer"] = torch.zeros(3)
    else:
        state[1]["momentum_buffer"][0, 0] = math.nan
    torch.save(content, checkpoint)
    again = settings(
        "optimizer=momentum", "schedule=constant", "trainer.max_steps=9", folder="second", ckpt_path=checkpoint
    )
    with pytest.raises(InvalidInput, match=r"ckpt_path=.* it is damaged"):
        run_room.run(again)


@pytest.mark.parametrize("name", ["initial_sharpness", "current_rate", "first_rate", "told_step"])
@pytest.mark.parametrize("value", ["foo", -2.0])
def test_a_checkpoint_whose_feedback_is_damaged(settings, name, value):
    config = settings("schedule=alignment", folder="first")
    run_room.run(config)
    checkpoint = Path(config.paths.run) / CHECKPOINT
    content = torch.load(checkpoint, weights_only=True)
    content["eoc"]["schedule"][name] = value
    torch.save(content, checkpoint)
    with pytest.raises(InvalidInput, match=r"ckpt_path=.* it is damaged"):
        run_room.run(settings("schedule=alignment", "trainer.max_steps=9", folder="second", ckpt_path=checkpoint))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_checkpoint_with_a_flipped_bit(settings, checkpoint, share):
    content = bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as archive:
        largest = max(archive.infolist(), key=lambda each: each.file_size)
    place = largest.header_offset + 30 + len(largest.filename) + 64 + int(share * (largest.file_size - 64))
    content[place] ^= 64
    checkpoint.write_bytes(content)
    torch.load(checkpoint, weights_only=True)  # which sees nothing
    with pytest.raises(InvalidInput, match=r"ckpt_path=.* it is damaged"):
        run_room.run(settings("trainer.max_steps=9", folder="second", ckpt_path=checkpoint))


def test_a_setting_that_does_not_go_with_a_checkpoint_has_its_whole_name(settings):
    first = settings("schedule=alignment", "schedule.unit=absolute", "schedule.rate=0.1", folder="first")
    kept = Path(first.paths.run) / CHECKPOINT
    run_room.run(first)
    words = ("schedule=alignment", "schedule.unit=inverse_sharpness", "trainer.max_steps=9")
    with pytest.raises(InvalidInput, match=r"schedule\.unit=inverse_sharpness is not possible: the present rate"):
        run_room.run(settings(*words, folder="second", ckpt_path=kept))


def test_a_folder_of_tensorboard_that_cannot_be_made(settings):
    with pytest.raises(InvalidInput, match=r"logger\.tensorboard\.folder=/proc/nope is not possible: it cannot be"):
        run_room.run(settings("logger=tensorboard", "logger.tensorboard.folder=/proc/nope"))


def test_the_folder_that_cannot_be_written_has_the_name_of_the_key_that_gave_it(refused):
    assert refused("paths.run=/proc/nope").startswith("paths.run=/proc/nope is not possible: it cannot be written (")


def test_a_folder_for_the_rows_that_cannot_be_made(settings):
    with pytest.raises(InvalidInput, match=r"logger\.csv\.folder=/proc/nope is not possible"):
        run_room.run(settings("logger=csv", "logger.csv.folder=/proc/nope"))


def test_a_checkpoint_that_is_none(settings, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    sentinel = tmp_path / "intruded"
    intruder = Intruder(sentinel)
    writers: dict[str, Callable[[Path], object]] = {
        "missing": lambda path: None,  # noqa: ARG005
        "folder": Path.mkdir,
        "text": lambda path: path.write_text("weights"),
        "empty": Path.touch,
        "truncated": lambda path: path.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2]),
        "other": lambda path: torch.save({"weights": torch.zeros(3)}, path),
        "tensor": lambda path: torch.save(torch.zeros(3), path),
        "not ours": lambda path: torch.save({**content, "eoc": {"settings": {}}}, path),
        "pickle": lambda path: path.write_bytes(pickle.dumps({**content, "eoc": intruder})),
        "torch pickle": lambda path: torch.save({**content, "eoc": {**content["eoc"], "schedule": intruder}}, path),
    }
    for name, write in writers.items():
        path = tmp_path / name.replace(" ", "_")
        write(path)
        with pytest.raises(InvalidInput) as refusal:
            run_room.run(settings("trainer.max_steps=6", ckpt_path=path))
        assert str(refusal.value).startswith(f"ckpt_path={path} is not possible: "), name
    assert not sentinel.exists()
    with (tmp_path / "pickle").open("rb") as file:
        pickle.load(file)
    assert sentinel.exists()  # it would have run


@pytest.mark.parametrize(
    ("overrides", "key", "rule"),
    [
        (["model.width=5"], "ckpt_path", "its layers have shapes [(4, 64), (16, 4), (10, 16)], this config's [(5, 64)"),
        (["model.depth=4"], "ckpt_path", "give the model and dataset settings it was made with"),
        (["schedule=constant"], "ckpt_path", "made under the Geometric schedule, this config has Constant"),
        (["trainer.max_steps=4"], "ckpt_path", "already done 4 steps; give a trainer.max_steps above that, not 4"),
        (["dataset.n_train=20"], "ckpt_path", "began with the features of 30 examples"),
        (
            ["callbacks.features.examples=9"],
            "ckpt_path",
            "this run has 9; set dataset.n_train and callbacks",
        ),
    ],
)
def test_a_checkpoint_of_something_else(settings, checkpoint, overrides, key, rule):
    config = settings("trainer.max_steps=6", *overrides, ckpt_path=checkpoint)
    with pytest.raises(InvalidInput) as refusal:
        run_room.run(config)
    assert refusal.value.key == key
    assert rule in str(refusal.value)


def test_a_checkpoint_without_what_a_callback_needs(settings):
    config = settings("~callbacks.features", folder="first")
    run_room.run(config)
    path = Path(config.paths.run) / CHECKPOINT
    with pytest.raises(InvalidInput, match=r"it was made without features.*: ~callbacks\.features") as refusal:
        run_room.run(settings("trainer.max_steps=6", ckpt_path=path))
    assert refusal.value.key == "ckpt_path"
    run_room.run(settings("trainer.max_steps=6", "~callbacks.features", "~callbacks.curvature", ckpt_path=path))


# -- the run folder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/nope", "{tmp}/file", "{tmp}/file/below"])
def test_a_run_folder_that_cannot_be_written(refused, tmp_path, place):
    (tmp_path / "file").touch()
    folder = place.format(tmp=tmp_path)
    said = refused(f"hydra.run.dir={folder}")
    assert said.startswith(f"hydra.run.dir={folder} is not possible: it cannot be written (")
    assert said.endswith("); choose another folder.")
    said = refused("-m", f"hydra.sweep.dir={folder}")
    assert said.startswith(f"hydra.sweep.dir={folder} is not possible: it cannot be written (")


def test_a_checkpoint_folder_that_cannot_be_written(refused, tmp_path):
    assert refused("callbacks.checkpoint.folder=/proc/foo") == (
        "callbacks.checkpoint.folder=/proc/foo is not possible: it cannot be written (No such file or directory); "
        "choose another folder."
    )
    assert not (tmp_path / "run" / METRICS).exists()
    assert refused("paths.checkpoints=/proc/foo") == (  # what the user wrote, not what reads it
        "paths.checkpoints=/proc/foo is not possible: it cannot be written (No such file or directory); "
        "choose another folder."
    )
    said = refused("paths.checkpoints=/proc/foo", "callbacks.checkpoint.folder=/proc/bar")
    assert said.startswith("callbacks.checkpoint.folder=/proc/bar is not possible: ")


def test_a_figures_folder_that_cannot_be_written(settings, refused, tmp_path):
    said = refused("callbacks=[default,spectrum]", "callbacks.spectrum.folder=/proc/x")
    assert said.startswith("callbacks.spectrum.folder=/proc/x is not possible: it cannot be written (")
    with pytest.raises(
        InvalidInput, match=r"^callbacks\.summary_figure\.folder=/proc/x is not possible: it cannot be w"
    ):
        run_room.run(settings("callbacks.summary_figure.folder=/proc/x", small=(*SMALL, "logger=csv")))
    assert not (tmp_path / "run" / METRICS).exists()


def test_rows_that_no_logger_keeps_are_said_before_the_run(settings, tmp_path):
    with pytest.warns(UserWarning, match="no logger keeps metrics.csv, which summary.png is drawn from") as said:
        run_room.run(settings("~logger.csv", small=(*SMALL, "logger=csv")))
    assert len(said) == 1
    assert not (tmp_path / "run" / "summary.png").exists()


def test_a_finished_run_is_left_as_it_is(program, tmp_path):
    code, out, _ = program("seed=3")
    assert (code, "completed" in out) == (0, True)
    folder = tmp_path / "run"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, err = program("seed=4")
    assert code == 2
    assert err == (
        f"error: hydra.run.dir={folder} is not possible: it holds a finished run; choose another folder, "
        "or remove that one; to make it longer, go on from its ckpt_path in another.\n"
    )
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_full_disk(refused, monkeypatch):
    def full(self: CSVLog, metrics: dict[str, float], step: int | None = None) -> None:  # noqa: ARG001
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(CSVLog, "log_metrics", full)
    said = refused()
    assert said.startswith("the run cannot go on, No space left on device: make room, or choose another place (")


def test_a_disk_that_is_full_at_a_checkpoint(refused, monkeypatch, tmp_path):
    written, folder = Path.write_bytes, tmp_path / "run" / "checkpoints"

    def full(path: Path, content: memoryview) -> None:
        if path.name == "last.part" and (folder / "last.ckpt").exists():
            written(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nope")  # nothing goes through there
    said = refused("callbacks.checkpoint.every=2")
    remedy = "make room, or choose another place (hydra.run.dir, hydra.sweep.dir, or the setting that names it)"
    assert said == f"the run cannot go on, No space left on device ({folder}): {remedy}."
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 2


# -- W&B, bugs, sweeps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("model.width=${foo}",), "model.width=${foo} is not possible: Interpolation key 'foo' not found; inside"),
        (
            ("schedule.kappa=${oc.env:NOPE}",),
            "schedule.kappa=${oc.env:NOPE} is not possible: KeyError raised while resolving interpolation",
        ),
        (
            ("~trainer",),
            "trainer.max_steps=4 is not possible: trainer was removed, by ~trainer; leave out one of the two.",
        ),
        (("+name=foo",), "+name=... is not possible: name is there already; leave out the +."),
        (
            ("model.depth=range(3,6)",),
            "model.depth=range(3,6) is not possible: one run takes one value; to run one job for each, put -m in front "
            "(python train.py -m 'model.depth=range(3,6)'); ",
        ),
        (("~trainer.log_every_n_steps",), "~trainer.log_every_n_steps is not possible: it must be an integer"),
    ],
)
def test_what_is_not_there_is_said_of_the_setting_that_asks_for_it(refused, words, sentence):
    assert refused(*words).startswith(sentence)


@pytest.mark.parametrize(
    ("key", "by"), [("model.depth", "name"), ("model.width", "name"), ("trainer.max_steps", "schedule.total_steps")]
)
def test_a_setting_that_another_needs_is_not_to_be_removed(monkeypatch, capsys, tmp_path, key, by):
    before_the_door(monkeypatch)
    code, out, err = called(monkeypatch, capsys, f"hydra.run.dir={tmp_path}", f"~{key}")
    assert (code, err) == (2, f"error: ~{key} is not possible: {by} needs {key}; leave it out.\n"), out


def test_a_path_is_not_to_be_removed(refused, monkeypatch):
    """Hydra reads it for that, before it is known."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert refused("~paths.run") == "~paths.run is not possible: the program needs it; leave it out."


def test_the_experiment_is_named_that_sets_what_is_wrong(refused):
    said = refused("experiment=edge_of_stability", "schedule=geometric")
    assert said.startswith("schedule.rate=1.0 is not possible: there is no key schedule.rate; ")
    assert said.endswith("; experiment=edge_of_stability sets it.")
    own = refused("experiment=edge_of_stability", "schedule=geometric", "schedule.rate=2")
    assert "sets it" not in own
    assert "sets it" not in refused("experiment=edge_of_stability", "seed=-1")


def test_a_search_over_a_key_that_is_not_there_is_named():
    given = ["schedule=geometric"]
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(ConfigCompositionException) as refusal:
        compose("config", overrides=[*given, "schedule.rate=0.7"])  # as the sweeper adds it for a trial
    said = complaint(refusal.value, given, CONF) or ""
    assert said.startswith("schedule.rate=0.7 is not possible: there is no key schedule.rate; schedule has cooldown")
    assert said.endswith("; hydra.sweeper.params searches it.")
    assert "searches it" not in (complaint(refusal.value, [*given, "schedule.rate=0.7"], CONF) or "searches it")


def test_the_mode_of_wandb(refused, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "foo")
    said = refused("logger=default")
    rule = "it must be one of offline, online, disabled (WANDB_MODE sets the default)"
    assert said == f"logger.wandb.mode=foo is not possible: {rule}."


def test_the_project_of_wandb(refused):
    assert refused("logger=default", "logger.wandb.project=a/b") == (
        r"logger.wandb.project=a/b is not possible: W&B allows none of /\#?%: in a project's name."
    )


def test_the_tags_of_wandb(refused):
    assert refused("logger=default", "logger.wandb.tags=null") == (
        "logger.wandb.tags=null is not possible: it must be a list of texts, [a,b]."
    )


def test_debug_goes_with_any_logger_and_without_callbacks(program):
    code, out, err = program("debug=default", "logger=csv", "callbacks=none", "trainer.max_steps=2", quiet=False)
    assert (code, err) == (0, "")
    assert "completed" in out


def test_a_bug_shows_its_traceback(program, monkeypatch):
    def bug(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(run_room, "build_trainer", bug)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        program()


def test_tracebacks_of_refusals_on_request(program, monkeypatch):
    monkeypatch.setenv(TRACEBACKS, "1")
    with pytest.raises(InvalidInput, match=r"model\.depth=1"):
        program("model.depth=1")


def test_the_processes_of_a_run_answer_in_one_sentence_too(refused, monkeypatch):
    monkeypatch.setenv(TRACEBACKS, "1")  # as the first process leaves them to the others
    monkeypatch.setenv(GUARDED, str(CONF))
    assert refused("model.depth=1").startswith("model.depth=1 is not possible: ")


def test_of_several_processes_the_first_speaks(program, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert program("model.depth=1") == (2, "", "")


def test_a_python_without_the_packages_names_make_setup():
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "train.py")], capture_output=True, text=True, env={}, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: there is no module hydra in this Python ({sys.executable}): make setup")
    assert done.stderr.count("\n") == 1


def test_memory_that_runs_out(refused, tmp_path):
    said = refused("model.width=1000000000", "model.growth=0", "model.depth=4", f"hydra.run.dir={tmp_path / 'run'}")
    assert not (tmp_path / "run" / SETTINGS).exists()  # or it would be listed as a run
    assert said.startswith("there is not enough memory for this run; reduce model.width")


def test_each_bad_job_of_a_sweep_is_named_and_the_others_finish(program, tmp_path):
    sweep = tmp_path / "sweep"
    code, out, err = program("-m", "seed=-1,1", "model.depth=3,banana", f"hydra.sweep.dir={sweep}")
    assert code == 2
    assert "4 jobs: 1 completed, 3 failed" in out
    named = re.findall(r"^failed +(.*?): (.*)$", out, re.MULTILINE)
    depth = "model.depth=banana is not possible: it must be an integer of at least 2."
    seed = "seed=-1 is not possible: it must be an integer of at least 0 and of at most 4294967295."
    assert named == [
        ("model.depth=3 seed=-1", seed),
        ("model.depth=banana seed=-1", seed),
        ("model.depth=banana seed=1", depth),
    ]
    assert sorted(path.read_text() for path in sweep.rglob("FAILED.txt")) == sorted(f"{said}\n" for _, said in named)
    assert len(list(sweep.rglob(SUMMARY))) == 1
    assert err.splitlines()[-1].startswith("error: 3 of 4 jobs have no result; FAILED.txt in their folders says more")
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["max_batch_size=0"], "it must be an integer of at least 1, or null for all jobs at once."),
        (["grids=foo"], "it must be a list of mappings, such as [{seed: '0,1'}, {seed: '2'}], or null."),
        (["grids=[foo]"], "it must be a list of mappings, such as [{seed: '0,1'}, {seed: '2'}], or null."),
        (["params=foo"], "it must be a mapping of keys to values, such as {seed: '0,1,2'}, or null."),
        (["n_trials=0", "hydra/sweeper=best_rate"], "it must be an integer of at least 1."),
        (["n_jobs=0", "hydra/sweeper=best_rate"], "it must be an integer of at least 1."),
        (
            ["max_failure_rate=0.5", "hydra/sweeper=best_rate"],
            "a job that fails counts as the worst there is, and stops no search; leave it out.",
        ),
        (["direction=foo", "hydra/sweeper=best_rate"], "it must be one of minimize, maximize."),
    ],
)
def test_settings_of_a_sweeper_are_refused_before_any_job(refused, tmp_path, overrides, sentence):
    wrong, *more = overrides
    said = refused("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", f"hydra.sweeper.{wrong}", *more, "seed=0,1")
    shown = wrong.replace("[foo]", "['foo']")
    assert said == f"hydra.sweeper.{shown} is not possible: {sentence}"
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["curvature._partial_=false"], "curvature._partial_=false is not possible: it must be true."),
        (["curvature._partial_=3"], "curvature._partial_=3 is not possible: it must be true."),
        (
            ["callbacks=[default,spectrum]", "callbacks.spectrum.draw._partial_=false"],
            "callbacks.spectrum.draw._partial_=false is not possible: it must be true.",
        ),
        (
            ["callbacks=[default,spectrum]", "callbacks.spectrum.dots_per_inch=1201"],
            "callbacks.spectrum.dots_per_inch=1201 is not possible: it must be an integer of at least 1 and of at most "
            "1200.",
        ),
        (
            ["+callbacks.figure={_target_: eoc.training.callbacks.SummaryFigureCallback, folder: x, draw: 5}"],
            "callbacks.figure.draw=5 is not possible: it must be settings with a _target_ and _partial_: true, "
            "as in conf/.",
        ),
        (
            ["callbacks=[default,spectrum]", "callbacks.spectrum.draw=null"],
            "callbacks.spectrum.draw=null is not possible: it must be settings with a _target_ and _partial_: true, "
            "as in conf/.",
        ),
    ],
)
def test_settings_that_would_be_called_must_be_callable(refused, words, said):
    assert refused(*words) == said


def test_what_is_wrong_with_an_experiments_sweep_is_said_and_not_that_it_is_one(refused):
    wrong = (
        "experiment=coordinate_check",
        "callbacks=default",
        "model=mup",
        "model.width=16,32",
        "model.activation.b=0.7",
    )
    assert refused(*wrong) == (
        "model.activation.b=0.7 is not possible: there is no key model.activation.b; model.activation has no keys."
    )
    assert refused("model=foo", "model.width=16,32").startswith("model=foo is not possible: it must be one of ")


@pytest.mark.parametrize("number", [0, -5])
def test_no_processes_run_no_job(refused, tmp_path, number):
    folder = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    assert refused("-m", folder, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={number}", "seed=0,1") == (
        f"hydra.launcher.n_jobs={number} is not possible: it must be an integer of at least 1, or -1 for one process a "
        "core."
    )


def test_a_sweep_without_jobs_is_none(refused, tmp_path):
    said = refused("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "model.depth=3,4", "seed=range(0)")
    assert said == "seed=range(0) is not possible: it holds no value."
    said = refused("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "model=glob(zz*)")
    assert said == "model=glob(zz*) is not possible: it holds no value."


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("seed=range(1,3,0)",), "seed=range(1,3,0) is not possible: range() arg 3 must not be zero."),
        (("schedule.kappa=range(1,2,0.0)",), "schedule.kappa=range(1,2,0.0) is not possible: Invalid range values"),
        (
            ("seed=interval(0,1)",),
            "seed=interval(0,1) is not possible: a grid takes a list or a range; an interval is for a search, ",
        ),
        (
            ("hydra/launcher=joblib", "hydra.launcher.backend=foo", "seed=0,1"),
            "hydra.launcher.backend=foo is not possible: it must be loky",
        ),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_what_a_grid_cannot_spread(refused, tmp_path, words, sentence):
    assert refused("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", *words).startswith(sentence)


@pytest.mark.parametrize(
    ("space", "rule"),
    [
        ("tag(log, interval(0,1))", "and on a logarithmic scale it must be above 0."),
        ("interval(2,1)", "the lower end comes first."),
        ("range(3,1)", "the lower end comes first."),
        ("range(1,3,0)", "range() arg 3 must not be zero."),
    ],
)
def test_what_a_search_cannot_draw_from(refused, tmp_path, space, rule):
    search = ("hydra/sweeper=best_rate", "schedule=constant", f"hydra.sweeper.params={{schedule.rate: '{space}'}}")
    said = refused("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", *search)
    assert said.startswith(f"schedule.rate={space} is not possible: ")
    assert said.endswith(rule)


@pytest.mark.parametrize("space", ["interval(1,1)", "range(1,4)", "tag(log, interval(0.1,1))", "1,2", "glob(*)"])
def test_what_a_search_can_draw_from(space):
    (override,) = OverridesParser.create().parse_overrides([f"model.width={space}"])
    check_spread(override, search=True)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--run", "--multirun"), "The flags --run and --multirun exclude each other: leave all out but one."),
        (("--cfg=job", "-m"), "The flags --multirun and --cfg exclude each other: leave all out but one."),
        (("-sc", "foo"), "The flag --shell-completion needs one of install=, uninstall= and query=, as install=bash."),
    ],
)
def test_flags_that_ask_for_two_things(refused, flags, sentence):
    assert refused(*flags) == sentence


@pytest.mark.parametrize("flags", [(), ("-m",)])
def test_a_list_of_experiments_is_not_merged(program, tmp_path, flags):
    two = "experiment=[catapult,edge_of_stability]"
    code, _, err = program(*flags, two, f"hydra.sweep.dir={tmp_path / 'sweep'}", quiet=False)
    rule = "it takes one choice; a sweep over several is -m with a,b"
    assert (code, err) == (2, f"error: {two} is not possible: {rule}.\n")


def test_a_tilde_is_no_home(refused):
    said = refused("ckpt_path=~/last.ckpt")
    rule = "~ stands for a folder only where a shell reads it; write $HOME."
    assert said == f"ckpt_path=~/last.ckpt is not possible: {rule}"


def test_what_cannot_be_read_is_said_without_the_parsers_words(refused):
    said = refused("model.depth:3")
    assert "(no value or list is written so: model.depth:3)" in said
    assert "Lexer" not in said


def test_more_eigenvalues_than_can_be_counted(refused):
    said = refused(f"callbacks.curvature.k={10**20}")  # their names alone would fill the memory
    assert re.search(r"it must be at most \d+, the number of weights\.$", said)


def test_a_log_that_cannot_be_configured(refused, tmp_path):
    said = refused(f"hydra.run.dir={tmp_path / 'run'}", "hydra.job_logging.root.level=FOO")
    assert said == "hydra.job_logging is not possible: Unable to configure root logger (Unknown level: 'FOO')."


def test_jobs_that_are_refused_are_not_called_left(program, tmp_path):
    code, out, err = program("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "model=nup,foo")
    assert (code, err.splitlines()[-1]) == (2, "error: 1 of 2 jobs were refused, as the report says of each.")
    assert "failed    model=foo: model=foo is not possible: it must be one of mup" in out


# -- the program itself ----------------------------------------------------------------------------------------------


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in environment.items() if name not in (TRACEBACKS, GUARDED)}
    command = [sys.executable, str(ROOT / "train.py"), *arguments, f"hydra.run.dir={folder}"]

    def heeding_interrupts() -> None:
        """As from a terminal, also where the tests themselves run in the background of a shell."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=heeding_interrupts
    )


def test_the_program_says_one_sentence(tmp_path):
    with started(tmp_path, "model.dept=3") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == f"error: model.dept=3 is not possible: there is no key model.dept; model has {MODEL_KEYS}" + (
        " (perhaps depth?).\n"
    )
    assert out == ""


def test_an_interrupt_among_the_imports_is_one_word(tmp_path):
    (tmp_path / "hydra.py").write_text("raise KeyboardInterrupt\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(ROOT / "train.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_warning_is_one_line_that_speaks_of_the_run(tmp_path):
    small = ["dataset.n_train=30", "dataset.n_test=20", "trainer.max_steps=3", "logger=csv", "callbacks=curvature"]
    with started(tmp_path, *small, "curvature.max_products=8", "curvature.tolerance=1e-5") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = err.splitlines()
    assert len(lines) == 2  # one of λ, one of the top eigenvalues
    assert all(re.fullmatch(r"warning: step \d: .*; raise curvature\.max_products, .*", line) for line in lines)


@pytest.mark.parametrize(("words", "said"), [(["--help"], ""), ([], "stopped: nothing reads the output any more.\n")])
def test_an_output_that_nobody_reads_is_no_error_of_the_disk(tmp_path, words, said):
    small = ["dataset.n_train=30", "dataset.n_test=20", "trainer.max_steps=2", "callbacks=none", "logger=csv"]
    read, written = os.pipe()
    os.close(read)
    command = [sys.executable, str(ROOT / "train.py"), *small, *words]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, cwd=tmp_path, stdout=written, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=buffered
    )
    os.close(written)
    assert (done.returncode, done.stderr) == (141, said)


def test_a_run_that_is_told_nothing_makes_a_folder_of_its_own(tmp_path):
    small = ["dataset.n_train=30", "dataset.n_test=20", "trainer.max_steps=2", "callbacks=none", "logger=csv"]
    command = [sys.executable, str(ROOT / "train.py"), *small]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (summary,) = tmp_path.glob(f"runs/*/*/{SUMMARY}")
    assert str(summary.parent) in done.stdout


def test_a_grid_that_is_interrupted_says_how_to_go_on_with_all_of_it(tmp_path, monkeypatch, capsys):
    """Not with the job alone that it was at."""
    before_the_door(monkeypatch)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    fit = Trainer.fit

    def interrupted(self: Trainer, module: Any, **kwargs: Any) -> None:
        fit(self, module, **kwargs)
        sys.exit(1)  # Lightning's answer to Ctrl-C

    monkeypatch.setattr(Trainer, "fit", interrupted)
    folder = tmp_path / "sweep"
    code, out, err = called(monkeypatch, capsys, "-m", *QUIET, "seed=0,1", f"hydra.sweep.dir={folder}")
    assert code == 130, out + err
    remedy = f"the same command with hydra.sweep.dir={folder} goes on with what is left"
    assert err.splitlines()[-1] == f"interrupted: {remedy}"


@pytest.mark.parametrize(
    ("sent", "code", "sentence"),
    [
        (signal.SIGINT, 130, "interrupted: ckpt_path={checkpoint} goes on from the last checkpoint\n"),
        (signal.SIGTERM, 2, "error: The run was told to end (SIGTERM) after step"),
    ],
)
def test_a_run_that_is_stopped_leaves_whole_files(tmp_path, sent, code, sentence):
    small = [each for each in QUIET if not each.startswith("trainer.")]
    every = "callbacks.checkpoint.every=1"
    with started(tmp_path, *small, every, "trainer.max_steps=100000", "callbacks.progress.line_seconds=1e6") as process:
        try:
            deadline = time.monotonic() + 240  # a busy machine may take a minute to start it
            while time.monotonic() < deadline and process.poll() is None:
                if (tmp_path / CHECKPOINT).exists() and len(read_metrics(tmp_path)["step"]) > 5:
                    break
                time.sleep(0.05)
            process.send_signal(sent)
            _, err = process.communicate(timeout=240)
        finally:
            process.kill()
    assert process.returncode == code
    assert err.startswith(sentence.format(checkpoint=tmp_path / CHECKPOINT))
    assert err.count("\n") == 1
    text = (tmp_path / METRICS).read_text()
    assert text.endswith("\n")
    steps = read_metrics(tmp_path)["step"]
    assert steps == list(range(len(steps)))
    assert len(steps) > 5
    assert not (tmp_path / SUMMARY).exists()
    assert (tmp_path / CONFIG).exists()
    shutil.rmtree(tmp_path)


def test_a_run_that_was_refused_is_not_listed_as_one_and_one_that_was_there_stays(tmp_path):
    folder = tmp_path / "run"
    refusal = pytest.raises(InvalidInput, match="it must be one of offline, online, disabled")
    with refusal:
        trained(folder, "callbacks=none", "logger.wandb.mode=shared")
    assert list(run_folders(tmp_path)) == []
    trained(folder, "callbacks=none", "logger.wandb.mode=disabled")
    (folder / SUMMARY).unlink()  # as if it had been cut off
    with refusal:
        trained(folder, "callbacks=none", "logger.wandb.mode=shared")
    assert list(run_folders(tmp_path)) == [folder]
