"""What a run is called where many are looked at together."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning.loggers.logger import Logger

from eoc.tracking.wandb_log import WandbLog

# Overrides that config.name tells already, and groups that do not change what is trained.
NAMED = {"model", "model.depth", "model.width", "model.growth", "schedule", "dataset", "seed", "name"}
SILENT = ("experiment", "logger", "hydra", "paths", "callbacks", "sweep", "ckpt_path", "objective")
LONGEST = 128  # characters that W&B shows


def describe(loggers: list[Logger], config: DictConfig) -> None:
    """Tell W&B what Hydra knows: the settings that ``config.name`` leaves out, and the sweep that a run is part of."""
    if not HydraConfig.initialized():
        return
    for logger in loggers:
        if isinstance(logger, WandbLog):
            if logger.settings["name"] == config.name:
                logger.settings["name"] = full_name(config)
            logger.settings["group"] = logger.settings["group"] or sweep_name(config)


def full_name(config: DictConfig) -> str:
    """Return ``config.name`` with the settings of this run's command line, or of this job, that it leaves out."""
    hydra = HydraConfig.get()
    job = Path(config.paths.run).name if hydra.mode == RunMode.MULTIRUN else ""
    return label(config.name, list(hydra.overrides.task), job)


def label(name: str, overrides: list[str], job: str = "") -> str:
    """Return ``name`` with those of the overrides that it does not tell: ``nup-l4 schedule.kappa=2.25``.

    Where that is too long the end gives way, and ``job``, the folder of a sweep's job, tells it from the others.
    """
    keys = [override.partition("=")[0].lstrip("+~") for override in overrides]
    told = [
        override
        for key, override in zip(keys, overrides, strict=True)
        if key not in NAMED and key.partition(".")[0] not in SILENT
    ]
    whole, end = " ".join([name, *told]), f"… {job}" if job else ""
    return whole if len(whole) <= LONGEST else whole[: LONGEST - len(end)] + end


def sweep_name(config: DictConfig) -> str | None:
    """Return the folder of the sweep that this run is part of, below ``paths.runs`` where it lies there."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return None
    folder, runs = Path(hydra.sweep.dir).absolute(), Path(config.paths.runs).absolute()
    return str(folder.relative_to(runs)) if folder.is_relative_to(runs) else folder.name
