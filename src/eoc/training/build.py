"""From a config to the objects of a run, with every refusal named by its config key."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from eoc.data import Dataset
from eoc.errors import InvalidInput, RunFailure, boolean, choice, integer, real, under
from eoc.model import LOSSES, MLP, cross_entropy
from eoc.training.callbacks.base import Measurement
from eoc.training.callbacks.recorder import Recorder
from eoc.training.making import make, plain
from eoc.training.module import EdgeOfChaosModule
from eoc.training.past import in_sweep

NOWHERE = ".lightning"  # a folder that is never made
FLAGS = ("detect_anomaly", "inference_mode", "benchmark", "sync_batchnorm")
_NOTHING = nullcontext()
_INTERVAL = "train_time_interval"
_LENGTH = "trainer.max_steps sets the length of a run; leave it out"
_TEST = "the test part is looked at by callbacks.evaluation, whole; leave it out"
_CLIPPED = "an update is the learning rate times the gradient; leave it out"
# Settings of Lightning's trainer under which a run would be another one than its config and its rows say.
_NOT_HERE = {
    **dict.fromkeys(("fast_dev_run", "limit_train_batches", "overfit_batches", "max_time"), _LENGTH),
    **dict.fromkeys(("min_steps", "min_epochs"), _LENGTH),
    **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm"), _CLIPPED),
    **dict.fromkeys(("val_check_interval", "limit_val_batches", "limit_test_batches", "limit_predict_batches"), _TEST),
    "accumulate_grad_batches": "a step takes one batch, whose size is dataset.batch_size; leave it out",
    "barebones": "nothing of the run would be written; leave it out",
}


# Loaded last in this process: a sweep's jobs mostly share their data, which nothing writes to.
_loaded: tuple[object, Dataset] | None = None


def build_dataset(config: DictConfig) -> Dataset:
    """Load the data set that the config names, unless the run before had the same settings for it."""
    global _loaded
    settings = OmegaConf.to_container(config.dataset, resolve=True)
    if _loaded is None or _loaded[0] != settings:
        _loaded = None  # two need not fit into memory
        _loaded = settings, make("dataset", config.dataset)
    return _loaded[1]


def build_module(config: DictConfig, dataset: Dataset | None = None) -> EdgeOfChaosModule:
    """Build network, schedule and probe around a data set (loaded if not given)."""
    seed = integer("seed", config.seed, 0, 2**32 - 1)
    momentum = real("optimizer.momentum", config.optimizer.get("momentum"), minimum=0.0, below=1.0)
    loss = LOSSES[choice("loss.name", config.loss.get("name"), LOSSES)]
    schedule = make("schedule", config.schedule)
    if "k" in config.curvature:
        raise InvalidInput("curvature.k", config.curvature.k, "callbacks.curvature.k says how many; leave it out")
    make_probe = make("curvature", config.curvature)
    if not callable(make_probe):
        raise InvalidInput("curvature._partial_", config.curvature.get("_partial_"), "it must be true")
    with under("curvature"):
        make_probe()  # refuses bad settings here, once
    if dataset is None:
        dataset = build_dataset(config)
    if loss is cross_entropy and config.dataset.target != "one_hot":
        raise InvalidInput("dataset.target", config.dataset.target, "loss=cross_entropy needs one_hot")
    network: MLP = make("model", config.model, inputs=dataset.dim, outputs=dataset.classes, seed=seed)
    return EdgeOfChaosModule(
        network=network,
        dataset=dataset,
        loss=loss,
        schedule=schedule,
        make_probe=make_probe,
        momentum=momentum,
        seed=seed,
    )


def build_callbacks(config: DictConfig) -> list[Callback]:
    """Build the config's callbacks, with the recorder behind those that measure (checkpoints come last of all)."""
    nodes = config.get("callbacks") or {}
    callbacks = [_callback(f"callbacks.{name}", node) for name, node in nodes.items() if node is not None]
    measuring = [callback for callback in callbacks if isinstance(callback, Measurement)]
    others = [callback for callback in callbacks if not isinstance(callback, Measurement)]
    every = integer("trainer.log_every_n_steps", config.trainer.get("log_every_n_steps"), minimum=1)
    return [*measuring, Recorder(every), *others]


def build_loggers(config: DictConfig) -> list[Logger]:
    """Build the config's loggers."""
    nodes = config.get("logger") or {}
    return [_made(f"logger.{name}", node, Logger) for name, node in nodes.items() if node is not None]


class Unprofiled(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a generator for each of the twenty things a step does."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # noqa: ARG002
        """Return what does nothing."""
        return _NOTHING


def build_trainer(config: DictConfig, callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """Build Lightning's trainer; a device that is not there is refused by name."""
    node = config.trainer
    with under("trainer"):
        _check_trainer(node)
    checkpoints = any(isinstance(callback, Checkpoint) for callback in callbacks)
    try:
        parts: dict[str, Any] = {"callbacks": callbacks, "logger": loggers or False}
        # On SLURM Lightning would go on from a checkpoint of its own that it finds in its root, without a word.
        parts["default_root_dir"] = f"{config.paths.run}/{NOWHERE}"
        if "profiler" not in node:
            parts["profiler"] = Unprofiled()
        if SLURMEnvironment.detect():
            parts["plugins"] = [SLURMEnvironment(auto_requeue=False)]
        made = make("trainer", node, **parts, enable_checkpointing=checkpoints)
        return _alone_in_sweep(made)
    except InvalidInput:
        raise
    except (MisconfigurationException, TypeError, ValueError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise RunFailure(f"Lightning refuses these settings of trainer: {reason}.") from error


def _check_trainer(node: DictConfig) -> None:
    """Refuse what Lightning would accept, or refuse in words of its own."""
    integer("max_steps", node.get("max_steps"), minimum=1)
    if node.get("max_epochs") != -1:
        raise InvalidInput("max_epochs", node.get("max_epochs"), "it must be -1; max_steps is the length of a run")
    parameters = signature(Trainer).parameters
    for key, rule in _NOT_HERE.items():
        if node.get(key) not in (None, parameters[key].default):
            raise InvalidInput(key, plain(node[key]), rule)
    choice("accelerator", node.get("accelerator"), ("auto", "cpu", "gpu", "cuda"))
    on_gpu = node.accelerator in ("gpu", "cuda")
    gpus = torch.cuda.device_count()
    if on_gpu and gpus == 0:
        raise InvalidInput("accelerator", node.accelerator, "torch sees no GPU here; use trainer=cpu")
    if node.get("devices") != "auto":
        cores = max(os.cpu_count() or 1, 2)  # two processes, to try it, run anywhere
        integer("devices", node.get("devices"), minimum=1, maximum=gpus if on_gpu else cores)
    choice("strategy", node.get("strategy", "auto"), ("auto", "ddp"))
    nodes = integer("num_nodes", node.get("num_nodes", 1), minimum=1)
    if nodes > 1 and not _is_launched():
        raise InvalidInput("num_nodes", nodes, "its processes must be started by srun or torchrun, on all of the nodes")
    choice("precision", node.get("precision"), ("32-true", "64-true"))
    integer("num_sanity_val_steps", node.get("num_sanity_val_steps", 0), minimum=-1)
    for key in ("enable_progress_bar", "enable_model_summary", "use_distributed_sampler", *FLAGS):
        boolean(key, node.get(key, False))
    if node.get("deterministic") not in (None, "warn"):
        boolean("deterministic", node.deterministic)


def _alone_in_sweep(trainer: Trainer) -> Trainer:
    """Refuse processes that Lightning would start for a sweep's job: each would run the whole sweep's command."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if in_sweep() and trainer.world_size > 1 and environment and not environment.creates_processes_externally:
        rule = "a job of a sweep is one process, unless the launcher starts more (hydra/launcher=slurm with"
        raise InvalidInput(
            "trainer.devices", trainer.num_devices, f"{rule} hydra.launcher.tasks_per_node); run it without -m"
        )
    return trainer


def _is_launched() -> bool:
    """Whether something beside this process starts those of the other nodes; Lightning would wait for them for ever."""
    return SLURMEnvironment.detect() or TorchElasticEnvironment.detect() or "NODE_RANK" in os.environ


def _callback(key: str, node: Any) -> Callback:
    callback = _made(key, node, Callback)
    if isinstance(callback, ModelCheckpoint) and node.get(_INTERVAL) is not None:  # it would never save, and not say so
        rule = "Lightning reads it in a loop of its own alone; give every_n_train_steps"
        raise InvalidInput(f"{key}.{_INTERVAL}", plain(node[_INTERVAL]), rule)
    return callback


def _made(key: str, node: Any, kind: type) -> Any:
    made = make(key, node)
    if not isinstance(made, kind):
        raise InvalidInput(f"{key}._target_", node["_target_"], f"what it makes must be a {kind.__name__} of Lightning")
    return made
