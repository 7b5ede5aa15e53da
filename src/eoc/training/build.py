"""From a config to the objects of a run, with every refusal named by its config key."""

from __future__ import annotations

import re
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from eoc.data import Dataset
from eoc.errors import InvalidInput, RunFailure, choice, integer, real, under
from eoc.model import LOSSES, MLP, cross_entropy
from eoc.training.callbacks.base import Measurement
from eoc.training.callbacks.recorder import Recorder
from eoc.training.module import EdgeOfChaosModule


def make(key: str, node: Any, **arguments: Any) -> Any:
    """Instantiate the config node ``key``; what it refuses is raised as `InvalidInput` with the key in front."""
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise InvalidInput(key, _plain(node), "it must be a config group's choice with a _target_")
    with under(key):
        try:
            return instantiate(node, **arguments)
        except InstantiationException as error:
            cause = error.__cause__
            if isinstance(cause, InvalidInput | RunFailure | MisconfigurationException | OSError):
                raise cause from error
            unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(cause or error))
            if unexpected:
                known = ", ".join(str(name) for name in node if name not in ("_target_", "_partial_"))
                name = unexpected.group(1)
                rule = f"there is no such key; those set here are {known}"
                raise InvalidInput(name, _plain(node.get(name)), rule) from error
            if isinstance(cause, TypeError | ValueError):
                raise InvalidInput(key, _plain(node), str(cause).rstrip(".")).prefixed("config") from error
            raise


def build_dataset(config: DictConfig) -> Dataset:
    """Load the data set that the config names."""
    return make("dataset", config.dataset)


def build_module(config: DictConfig, dataset: Dataset | None = None) -> EdgeOfChaosModule:
    """Build network, schedule and probe around a data set (loaded if not given)."""
    seed = integer("seed", config.seed, minimum=0)
    momentum = real("optimizer.momentum", config.optimizer.momentum, minimum=0.0, below=1.0)
    if dataset is None:
        dataset = build_dataset(config)
    loss = LOSSES[choice("loss.name", config.loss.name, LOSSES)]
    if loss is cross_entropy and config.dataset.target != "one_hot":
        raise InvalidInput("dataset.target", config.dataset.target, "loss=cross_entropy needs one_hot")
    network: MLP = make("model", config.model, inputs=dataset.dim, outputs=dataset.classes, seed=seed)
    make_probe = make("curvature", config.curvature)
    with under("curvature"):
        make_probe()  # refuses bad settings here, once
    return EdgeOfChaosModule(
        network=network,
        dataset=dataset,
        loss=loss,
        schedule=make("schedule", config.schedule),
        make_probe=make_probe,
        momentum=momentum,
        seed=seed,
    )


def build_callbacks(config: DictConfig) -> list[Callback]:
    """Build the config's callbacks, with the recorder behind those that measure (checkpoints come last of all)."""
    nodes = config.get("callbacks") or {}
    callbacks = [make(f"callbacks.{name}", node) for name, node in nodes.items() if node is not None]
    measuring = [callback for callback in callbacks if isinstance(callback, Measurement)]
    others = [callback for callback in callbacks if not isinstance(callback, Measurement)]
    every = integer("trainer.log_every_n_steps", config.trainer.log_every_n_steps, minimum=1)
    return [*measuring, Recorder(every), *others]


def build_loggers(config: DictConfig) -> list[Logger]:
    """Build the config's loggers."""
    nodes = config.get("logger") or {}
    return [make(f"logger.{name}", node) for name, node in nodes.items() if node is not None]


def build_trainer(config: DictConfig, callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """Build Lightning's trainer; a device that is not there is refused by name."""
    node = config.trainer
    integer("trainer.max_steps", node.max_steps, minimum=1)
    if node.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise InvalidInput("trainer.accelerator", node.accelerator, "torch sees no GPU here; use trainer=cpu")
    checkpoints = any(isinstance(callback, Checkpoint) for callback in callbacks)
    try:
        return make("trainer", node, callbacks=callbacks, logger=loggers or False, enable_checkpointing=checkpoints)
    except MisconfigurationException as error:
        rule = " ".join(str(error).split()).rstrip(".")
        raise InvalidInput("trainer.accelerator", f"{node.accelerator} with devices={node.devices}", rule) from error


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
