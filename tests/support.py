"""Whole runs in this process: a config is composed as the door does and run into a folder; what it left is returned."""

from __future__ import annotations

import copy
import functools
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import Callback
from torch import Tensor

import eoc.training.run as run_room
from eoc.tracking.run_folder import CONFIG, read_metrics, read_summary
from eoc.training.door import GUARDED, TRACEBACKS
from eoc.training.module import EdgeOfChaosModule

CONF = Path(__file__).resolve().parents[1] / "conf"

# A third of a second: a network of 800 weights on 60 digits.
SMALL = (
    "dataset.n_train=60",
    "dataset.n_test=40",
    "model.depth=3",
    "model.width=6",
    "trainer.max_steps=8",
    "logger.wandb.mode=disabled",
)
NO_FIGURE = "~callbacks.summary_figure"  # half a second of its own
EVERY_STEP = (
    "callbacks.update_cosines.every=1",
    "callbacks.curvature.every=1",
    "callbacks.curvature.top_every=1",
    "callbacks.features.every=1",
    "callbacks.evaluation.every=1",
    "callbacks.divergence.every=1",
    "callbacks.progress.every=1",
    "callbacks.checkpoint.every=1",
)


@dataclass
class Run:
    """What a run returned and left."""

    folder: Path
    value: float
    module: EdgeOfChaosModule
    path: list[list[Tensor]]  # θ_0, θ_1, …, θ_T, layer by layer

    @property
    def columns(self) -> dict[str, list[float]]:
        return read_metrics(self.folder)

    @property
    def summary(self) -> dict[str, Any]:
        return read_summary(self.folder)


class Watch(Callback):
    """Keeps the module and its weights at every step, and calls ``then(module, t)`` behind step t."""

    def __init__(self, then: Callable[[EdgeOfChaosModule, int], None] | None = None) -> None:
        self.then, self.module = then, None
        self.path: list[list[Tensor]] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self.module = pl_module

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._keep()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if self.then is not None:
            self.then(self.module, self.module.step)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._keep()

    def _keep(self) -> None:
        self.path.append([weight.detach().clone() for weight in self.module.network.weights])


class Crash(Exception):
    """Stands for whatever ends a process in the middle of a run."""


def crash_at(step: int) -> Callable[[EdgeOfChaosModule, int], None]:
    """Crash behind ``step``: its row is written, its checkpoint is not."""

    def then(module: EdgeOfChaosModule, t: int) -> None:  # noqa: ARG001
        if t == step:
            raise Crash

    return then


@functools.cache
def _compose(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def before_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the environment as the door finds it, and see that what it sets is taken back."""
    for name in (TRACEBACKS, GUARDED):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[object, str, str]:
    """Run ``python train.py`` with these words in this process; return exit code, stdout and stderr."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    code: object = 0
    try:
        runpy.run_path(str(CONF.parent / "train.py"), run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    finally:
        GlobalHydra.instance().clear()
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def composed(folder: Path, *overrides: str, ckpt_path: Path | None = None) -> DictConfig:
    """Compose the config with ``folder`` as the run folder, and leave ``.hydra/config.yaml`` there."""
    config = copy.deepcopy(_compose(*overrides))
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
        config.hydra.runtime.cwd = str(folder.parent)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    config.ckpt_path = None if ckpt_path is None else str(ckpt_path)
    written = folder / CONFIG
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(OmegaConf.to_yaml(config))
    return config


def trained(
    folder: Path,
    *overrides: str,
    ckpt_path: Path | None = None,
    then: Callable[[EdgeOfChaosModule, int], None] | None = None,
    small: bool = True,
) -> Run:
    """Run the main job, made `SMALL` if not told otherwise, with ``overrides`` into ``folder``."""
    config = composed(folder, *(SMALL if small else ()), *overrides, ckpt_path=ckpt_path)
    watch = Watch(then)
    build = run_room.build_callbacks
    with patch.object(run_room, "build_callbacks", lambda node: [*build(node), watch]):
        value = run_room.run(config)
    return Run(folder, value, watch.module, watch.path)


KILLED = """
import os, signal, sys, time
from pathlib import Path
from support import trained

def then(module, t):
    if t == 14:
        for log in module.trainer.loggers:
            while log.name == "wandb" and log.folder is None and sys.argv[2] == "opened":
                time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

trained(Path(sys.argv[1]), *sys.argv[3:], then=then, small=False)
"""


def killed(folder: Path, when: str, *words: str) -> None:
    """Run until behind step 14, where the process is killed: W&B has ``opened`` the run, or it is too ``early``."""
    tests = Path(__file__).parent
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), when, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent / "src"), str(tests)])},
        stderr=subprocess.PIPE,
        text=True,
    )
    _, error = program.communicate(timeout=120)
    assert program.returncode == -signal.SIGKILL, error
    gone_within(20, program.pid)


def clerks_of(program: int) -> list[int]:
    """The processes that W&B works in for a program."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if (folder / "cmdline").read_bytes().endswith(f"eoc.tracking.wandb_process\0{program}\0".encode()):
                found.append(int(folder.name))
    return found


def gone_within(seconds: float, program: int) -> None:
    """Wait for the processes that W&B works in for a program that has ended."""
    start = time.monotonic()
    while clerks_of(program):
        assert time.monotonic() - start < seconds
        time.sleep(0.05)
