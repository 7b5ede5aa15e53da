"""What a run finds in its folder: nothing, an earlier self that was cut off, or its own finished result."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.utilities import rank_zero_only

from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.run_folder import (
    CHECKPOINT,
    FAILED,
    METRICS,
    SETTINGS,
    Damaged,
    has_result,
    read_settings,
    read_summary,
    write_json,
)
from eoc.training.resume import opened

KEPT_IN = ("logger.csv.folder", "callbacks.checkpoint.folder")  # where a run keeps what others must not write to


class ToldToEnd(RunFailure):
    """The run was stopped from outside: it is cut off, not failed."""


def in_sweep() -> bool:
    """Whether this run is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def is_grid(config: Any) -> bool:
    """Whether a sweep is a grid, which looks after its jobs itself, and not a search."""
    return str(config.hydra.sweeper["_target_"]).endswith(".GridSweeper")


def in_search() -> bool:
    """Whether this run is a job of a search, which wants its value, whoever computes it."""
    config = HydraConfig.instance().cfg
    return in_sweep() and config is not None and not is_grid(config)


def leads() -> bool:
    """Whether this is the first of the processes that share the run, the one that writes."""
    return getattr(rank_zero_only, "rank", 0) == 0


def in_queue() -> bool:
    """Whether submitit runs this process, which ends it by its own rules (exit codes, SIGUSR2) and starts it again."""
    return "SUBMITIT_EXECUTOR" in os.environ


def finished_value(folder: Path, identity: str, objective: str) -> float | None:
    """Return the objective of the finished run of these settings in ``folder``; None if there is no finished run.

    Raises:
        InvalidInput: if the folder holds a finished run of other settings.
    """
    if not has_result(folder):
        return None
    if not was_here(folder, identity):
        raise taken_by_another(folder)
    return value_of(read_summary(folder), objective)


def taken_by_another(folder: Path) -> InvalidInput:
    """Make the refusal of a job's folder with a result that is not its own."""
    rule = "it holds a finished run of other settings; choose another folder, or leave hydra.sweep.subdir alone"
    return InvalidInput("hydra.sweep.subdir", folder.name, rule)


def value_of(summary: dict[str, Any], objective: str) -> float:
    """Return the final value of the metric ``objective``; infinity if the run diverged or it was never defined."""
    value = summary["final"].get(objective)
    return float(value) if summary["status"] == "completed" and value is not None else math.inf


def was_here(folder: Path, identity: str) -> bool:
    """Whether the last run in ``folder`` had these settings; one whose ``config.json`` is damaged had others."""
    try:
        return read_settings(folder)["identity"] == identity
    except (FileNotFoundError, Damaged):
        return False


def rows_of(folder: Path, identity: str) -> str:
    """Return where the last run in ``folder`` kept its ``metrics.csv``, if it had these settings; else nothing."""
    if not was_here(folder, identity):
        return ""
    logger = read_settings(folder)["config"].get("logger") or {}
    return str(Path(logger["csv"]["folder"]).absolute()) if logger.get("csv") else ""


def last_checkpoint(checkpoint: Path, folder: Path, max_steps: int) -> Path | None:
    """Return the checkpoint of the run that was cut off in ``folder`` if it can go on from it; None if not.

    Kept elsewhere it may be another run's. One that was cut off behind its last step has nothing to go on from, one
    whose checkpoint is damaged (a disk that was full, a machine that went down) cannot: both start anew.
    """
    if not checkpoint.exists():
        return None
    try:
        found = opened(checkpoint)
    except (OSError, MemoryError):  # the file may be whole
        raise
    except Exception:
        if leads():
            print(f"{checkpoint} is damaged: the run starts anew", flush=True)
        return None
    its_own = folder.absolute() in (*checkpoint.absolute().parents, Path(found.run))
    return checkpoint if its_own and found.step < max_steps else None


def is_new(folder: Path) -> bool:
    """Whether no run has begun in ``folder`` yet."""
    return not (folder / SETTINGS).exists()


def begin(folder: Path, identity: str, resolved: dict[str, Any]) -> None:
    """Leave ``config.json``, and take back what an earlier attempt said of its end."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    chosen = {str(group): choice for group, choice in choices.items() if not str(group).startswith("hydra/")}
    write_json(folder / SETTINGS, {"identity": identity, "choices": chosen, "config": resolved})
    (folder / FAILED).unlink(missing_ok=True)


def withdraw(folder: Path) -> None:
    """Take ``config.json`` back from a run that was refused before its first step, so that it is not listed as one."""
    if not (folder / METRICS).exists() and not (folder / CHECKPOINT).exists():
        (folder / SETTINGS).unlink(missing_ok=True)
