"""One run, from a composed config to its folder."""

from __future__ import annotations

import logging
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.csv_log import CSVLog
from eoc.tracking.run_folder import SUMMARY, write_json
from eoc.tracking.wandb_log import WandbLog
from eoc.training.build import build_callbacks, build_loggers, build_module, build_trainer
from eoc.training.callbacks.recorder import Recorder
from eoc.training.resume import KEPT, read_checkpoint
from eoc.training.summary import summarize, table


def run(config: DictConfig) -> float:
    """Train as ``config`` says, leave a run folder, print its summary.

    Returns:
        The final value of ``config.objective`` (for sweepers that search); infinity if the run diverged.

    Raises:
        InvalidInput: for a setting that cannot be used.
        RunFailure: if the surroundings (disk, network, device) stop the run.
    """
    quiet()
    start = time.perf_counter()
    folder = Path(config.paths.run)
    if (folder / SUMMARY).exists():
        rule = "it holds a finished run; choose another folder, or remove that one"
        raise InvalidInput("hydra.run.dir", str(folder), rule)
    resolved = _resolved(config)
    settings = {key: resolved[key] for key in KEPT}

    torch.manual_seed(config.seed if isinstance(config.seed, int) else 0)
    module = build_module(config)
    module.settings = settings
    callbacks = build_callbacks(config)
    loggers = build_loggers(config)
    trainer = build_trainer(config, callbacks, loggers)
    recorder = next(callback for callback in callbacks if isinstance(callback, Recorder))

    if config.ckpt_path is not None:
        resumed = read_checkpoint(str(config.ckpt_path), module, settings, callbacks, trainer.max_steps)
        print(f"Going on from step {resumed.step} of {resumed.path}", flush=True)
        for change in resumed.changes(settings):
            print(f"  changed since: {change}", flush=True)
        for logger in loggers:
            if isinstance(logger, CSVLog):
                logger.resume(resumed.folder, before=resumed.step)
            if isinstance(logger, WandbLog):
                logger.run_id = resumed.loggers.get(logger.name)
    for logger in loggers:
        logger.log_hyperparams(resolved)

    failed = True
    try:
        trainer.fit(module, ckpt_path=config.ckpt_path, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
        summary = summarize(
            module, recorder, seconds=time.perf_counter() - start, seed=config.seed, overrides=overrides
        )
        for logger in loggers:
            if isinstance(logger, WandbLog):
                logger.log_summary({"status": summary["status"], "parameters": summary["parameters"]})
        if trainer.is_global_zero:
            write_json(folder / SUMMARY, summary)
            print(table(summary, folder), flush=True)
        failed = False
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLog):
                logger.finish(exit_code=int(failed))
    value = summary["final"].get(config.objective)
    if value is None:
        known = ", ".join(sorted(summary["final"]))
        raise InvalidInput("objective", config.objective, f"the final metrics are {known}")
    return value if module.divergence is None and math.isfinite(value) else math.inf


def quiet() -> None:
    """Silence what Lightning says to those who write loops, not to those who run them."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*`IterableDataset` has `__len__` defined.*",
        ".*GPU available but not used.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
    ):
        warnings.filterwarnings("ignore", message=message)


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except Exception as error:
        raise RunFailure(" ".join(str(error).split())) from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
