"""W&B as it is for a user who has never used it, in each test that asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from eoc.tracking import wandb_log, wandb_process
from eoc.tracking.wandb_desk import Desk


@pytest.fixture
def fresh_wandb(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No settings and no key of the user; its processes, which keep the server's address, go with the test."""
    wandb_process.dismiss()
    wandb.teardown()  # first: what it takes out of the environment is not to come back behind the test
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    for name, value in {
        "HOME": str(home),
        "NETRC": str(home / ".netrc"),
        "WANDB_CONFIG_DIR": str(home / "config"),
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }.items():
        monkeypatch.setenv(name, value)
    yield home
    wandb_process.dismiss()
    wandb.teardown()


class Here:
    """A clerk in this process, where `wandb` can be replaced."""

    service = None

    def __init__(self) -> None:
        self._desk = Desk()

    def call(self, method: str, *args: Any, **named: Any) -> Any:
        return getattr(self._desk, method)(*args, **named)

    def end(self) -> None:
        pass


@pytest.fixture
def wandb_here(fresh_wandb: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """W&B works in this process, where it can be replaced."""
    monkeypatch.setattr(wandb_log, "prepare", lambda: None)
    monkeypatch.setattr(wandb_log, "hire", Here)
    monkeypatch.setattr(wandb_log, "give_back", lambda clerk: None)  # noqa: ARG005
