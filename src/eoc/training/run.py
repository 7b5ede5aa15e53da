"""One run, from a composed config to its folder."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.claim import PATIENCE, claimed
from eoc.tracking.csv_log import CSVLog
from eoc.tracking.run_folder import CHECKPOINT, METRICS, SUMMARY, make_writable, write_json
from eoc.tracking.settings import KEPT
from eoc.tracking.tensorboard_log import TensorBoardLog
from eoc.tracking.wandb_log import WandbLog
from eoc.tracking.wandb_past import Past
from eoc.training.build import build_callbacks, build_loggers, build_module, build_trainer
from eoc.training.callbacks.checkpoint import CheckpointCallback
from eoc.training.callbacks.own_folder import OwnFolder
from eoc.training.callbacks.recorder import Recorder
from eoc.training.callbacks.requeued import Requeued
from eoc.training.checks import check_folder, check_objective, check_settings
from eoc.training.identity import identity
from eoc.training.memory import give_memory_back, keep_freed_memory, set_apart
from eoc.training.naming import describe, full_name
from eoc.training.past import (
    KEPT_IN,
    ToldToEnd,
    begin,
    finished_value,
    in_queue,
    in_search,
    in_sweep,
    is_new,
    last_checkpoint,
    leads,
    rows_of,
    value_of,
    was_here,
    withdraw,
)
from eoc.training.random_state import seed_all
from eoc.training.resume import continuing, read_checkpoint
from eoc.training.summary import line, summarize, table
from eoc.training.threads import few_threads


def run(config: DictConfig) -> float:
    """Train as ``config`` says, leave a run folder, print its summary.

    With ``sweep.resume`` a job of a sweep that is finished in its folder costs nothing, and a run that was cut off
    there goes on from its last checkpoint. No two processes work in one folder.

    Returns:
        The final value of ``config.objective`` (for sweepers that search); infinity if the run diverged or the
        metric was never defined.

    Raises:
        InvalidInput: for a setting that cannot be used.
        RunFailure: if the surroundings (disk, network, device) stop the run.
        KeyboardInterrupt: if it is interrupted, with how to go on as its text.
    """
    quiet()
    set_apart()
    keep_freed_memory()
    start = time.perf_counter()
    check_settings(config)
    resolved = _resolved(config)
    folder, own = Path(config.paths.run), identity(config)
    if in_sweep() and folder.absolute() != Path(HydraConfig.get().runtime.output_dir).absolute():
        rule = "a sweep gives each job a folder below hydra.sweep.dir; leave it out"
        raise InvalidInput("paths.run", str(folder), rule)
    for key in KEPT_IN if in_search() else ():
        place = OmegaConf.select(config, key)
        if place is not None and not Path(str(place)).absolute().is_relative_to(folder.absolute()):
            raise InvalidInput(key, place, "in a search each job keeps its own in its folder; leave it out")
    if (value := _value_there(config, folder, own)) is not None:
        return value
    new = is_new(folder)
    try:
        # A trial that is proposed twice is worth what it is worth; one of several processes waits for none of them.
        patience = math.inf if in_search() and os.environ.get("SLURM_NTASKS", "1") == "1" else PATIENCE
        with claimed(folder, patience) if leads() else nullcontext():
            if leads() and (value := _value_there(config, folder, own)) is not None:
                return value  # another process ended it while this one waited for the folder
            return _train(config, resolved, folder, own, start)
    except (InvalidInput, MemoryError, RuntimeError):  # a setting, what a download or a device says
        if leads() and new and not in_sweep():
            withdraw(folder)
        raise
    except SystemExit as ended:  # of code that should have raised: it must not end a sweep
        if in_queue():
            raise
        raise RunFailure(f"The run was ended by exit({ended.code}).") from ended
    finally:
        if in_sweep():
            give_memory_back()


def _value_there(config: DictConfig, folder: Path, own: str) -> float | None:
    """Return the result that a job of a sweep has in its folder; refuse a folder that cannot be used."""
    value = finished_value(folder, own, config.objective) if in_sweep() and config.sweep.resume else None
    if value is None:
        given = HydraConfig.get().runtime.output_dir if HydraConfig.initialized() else config.paths.run
        moved = Path(given).absolute() != Path(config.paths.run).absolute()
        check_folder(config.paths.run, "paths.run" if moved else "hydra.run.dir")
    return value


def _train(config: DictConfig, resolved: dict[str, Any], folder: Path, own: str, start: float) -> float:
    settings = {key: resolved[key] for key in KEPT} | {"trainer": {"precision": resolved["trainer"].get("precision")}}
    own_rows = rows_of(folder, own)  # of the run that was here before
    goes_on = config.sweep.resume and was_here(folder, own)
    if leads() and is_new(folder):
        begin(folder, own, resolved)

    seed_all(config.seed)
    callbacks = build_callbacks(config)
    loggers = build_loggers(config)
    describe(loggers, config)
    queued = [Requeued()] if in_queue() else []
    own_folder = OwnFolder(folder, own, resolved)
    trainer = build_trainer(config, [*callbacks, *queued, own_folder], loggers)
    module = build_module(config)  # last, since it may load or download data
    rows = next((each.path.parent.absolute() for each in loggers if isinstance(each, CSVLog)), folder.absolute())
    elsewhere = "" if rows == folder.absolute() else str(rows)
    module.kept = {"settings": settings, "folder": str(folder.absolute()), "rows": elsewhere}
    check_objective(config.objective, module, callbacks)
    recorder = next(callback for callback in callbacks if isinstance(callback, Recorder))

    kept = next((each.path for each in callbacks if isinstance(each, CheckpointCallback)), folder / CHECKPOINT)
    its_own = last_checkpoint(kept, folder, trainer.max_steps) if goes_on else None
    checkpoint = its_own or config.ckpt_path
    resumed = None
    if checkpoint is not None:
        resumed = read_checkpoint(str(checkpoint), module, settings, callbacks, trainer.max_steps)
    if elsewhere and leads():
        make_writable(rows, "logger.csv.folder")
    if elsewhere and elsewhere not in (own_rows, resumed and resumed.rows) and (rows / METRICS).exists():
        rule = "the rows of another run lie there; choose another folder, or leave it out"
        raise InvalidInput("logger.csv.folder", elsewhere, rule)
    first_rows = not (rows / METRICS).exists()
    if resumed is not None:
        branches = resumed.branches(folder, settings, in_sweep=in_sweep())
        own_folder.greeting = [f"Going on from step {resumed.step} of {resumed.path}"]
        own_folder.greeting += [f"  changed since: {change}" for change in resumed.changes(settings)]
        past = Past(resumed.rows_folder(folder if its_own else None), resumed.step)
        for logger in loggers if trainer.is_global_zero else ():
            if isinstance(logger, CSVLog):
                logger.resume(past.folder, before=past.before)
            if isinstance(logger, WandbLog) and logger.name in resumed.loggers and not branches:
                logger.resume(resumed.loggers[logger.name], past)
            if isinstance(logger, TensorBoardLog):
                logger.resume(before=resumed.step)
    own_folder.kept, own_folder.source = kept, checkpoint
    for logger in loggers:
        logger.log_hyperparams(resolved)

    failed = True
    try:
        size = len(module.dataset.train_inputs), sum(w.numel() for w in module.network.parameters())
        try:
            few = few_threads(*size) if trainer.strategy.root_device.type == "cpu" else nullcontext()
            with few, continuing(checkpoint, lambda: own_folder.began):
                trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as ended:  # Lightning's answer to Ctrl-C (code 1) and to SIGTERM (code 0)
            if in_queue():
                raise
            raise _stopped(trainer, kept) from ended
        overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
        summary = summarize(
            module, recorder, seconds=time.perf_counter() - start, seed=config.seed, overrides=overrides
        )
        for logger in loggers:
            if isinstance(logger, WandbLog):
                logger.log_summary({key: summary[key] for key in ("status", "parameters", "stability_limit")})
        if trainer.is_global_zero:
            write_json(folder / SUMMARY, summary)
            print(line(summary, full_name(config), folder) if in_sweep() else table(summary, folder), flush=True)
        failed = False
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLog):
                logger.finish(exit_code=int(failed))
        if first_rows and not own_folder.began and leads():
            (rows / METRICS).unlink(missing_ok=True)
    value = value_of(summary, config.objective)
    return value if math.isfinite(value) else math.inf


def quiet() -> None:
    """Silence what Lightning says to those who write loops, not to those who run them."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*`IterableDataset` has `__len__` defined.*",
        ".*GPU available but not used.*",
        ".*`srun` command is available.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
        "(?s).*but no pre-optimization state was saved.*",  # by Lightning's own checkpoints
        ".*isinstance\\(treespec, LeafSpec\\).*",
    ):
        warnings.filterwarnings("ignore", message=message)


def _stopped(trainer: Trainer, checkpoint: Path) -> BaseException:
    if in_sweep() and not in_search():
        folder = HydraConfig.get().sweep.dir
        remedy = f"the same command with hydra.sweep.dir={folder} goes on with what is left"
    elif checkpoint.exists():
        remedy = f"ckpt_path={checkpoint} goes on from the last checkpoint"
    else:
        remedy = "no checkpoint yet"
    if trainer.received_sigterm:
        return ToldToEnd(f"The run was told to end (SIGTERM) after step {trainer.global_step}; {remedy}.")
    return KeyboardInterrupt(remedy)


def _resolved(config: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
