"""What is refused before anything is built: settings that nothing reads, a folder that is taken, an idle objective."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning import Callback

from eoc.errors import InvalidInput, boolean, closest, integer, text, unknown
from eoc.tracking.run_folder import CHECKPOINT, has_result, make_writable
from eoc.training.callbacks.base import Measurement
from eoc.training.module import EdgeOfChaosModule

GROUPS = ("model", "dataset", "loss", "optimizer", "schedule", "curvature", "trainer", "paths")
OPTIONAL = ("callbacks", "logger")  # groups that a run may be without
SINGLE = ("seed", "ckpt_path", "objective", "name", "sweep")
# Groups without a _target_ that would know its keys.
PATHS = ["root", "data", "runs", "run", "checkpoints", "wandb"]
PLAIN = {"loss": ["name"], "optimizer": ["momentum"], "sweep": ["resume"], "paths": PATHS}


def check_folder(path: str, key: str = "hydra.run.dir") -> None:
    """Make a run folder; refuse it in the name of ``key`` if it cannot be written or holds a finished run."""
    folder = Path(text(key, path))
    make_writable(folder, key)
    if has_result(folder):
        more = "; to make it longer, go on from its ckpt_path in another" if (folder / CHECKPOINT).exists() else ""
        rule = f"it holds a finished run; choose another folder, or remove that one{more}"
        raise InvalidInput(key, str(folder), rule)


def check_settings(config: DictConfig) -> None:
    """Refuse keys that nothing reads, and wrong values of those that no constructor reads."""
    for key in config:
        if key not in (*GROUPS, *OPTIONAL, *SINGLE):
            raise unknown(str(key), config[key], [*SINGLE, *GROUPS, *OPTIONAL])
    for key in SINGLE:
        if key not in config:
            raise InvalidInput(key, None, "it must be given")
    if not isinstance(config.sweep, DictConfig):
        raise InvalidInput("sweep", config.sweep, "it must be settings, as in conf/config.yaml")
    expect_one_choice()
    for group in GROUPS:
        if not isinstance(config.get(group), DictConfig):
            raise InvalidInput(group, config.get(group), f"it must be one of the choices in conf/{group}")
    for group, known in PLAIN.items():
        for key in config[group]:
            if key not in known:
                raise unknown(f"{group}.{key}", config[group][key], known)
    for path in config.paths:
        text(f"paths.{path}", config.paths[path])
    for key in ("name", "objective", *(["ckpt_path"] if config.ckpt_path is not None else [])):
        text(key, config[key])
    integer("seed", config.seed, 0, 2**32 - 1)
    boolean("sweep.resume", config.sweep.get("resume"))


def expect_one_choice() -> None:
    """Refuse a list of choices on the command line for a group that takes one: Hydra would merge them silently."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    for key, _, value in (override.lstrip("+").partition("=") for override in given):
        if value.startswith("[") and key in (*GROUPS, "experiment"):
            raise InvalidInput(key, value, "it takes one choice; a sweep over several is -m with a,b")


def known_metrics(module: EdgeOfChaosModule, callbacks: list[Callback]) -> set[str]:
    """Return the names of all that a run can measure, known before it begins."""
    measuring = [callback for callback in callbacks if isinstance(callback, Measurement)]
    always = {"lr", *(f"{part}/{what}" for part in ("train", "test") for what in ("loss", "accuracy"))}
    scheduled = set()
    if module.schedule.needs_sharpness(0):
        hessian = module.schedule.source == "hessian"
        scheduled = {"sharpness", "lr_x_sharpness"} if hessian else {"critical/sharpness", "critical/evaluations"}
    return always.union(scheduled, *(callback.names(module) for callback in measuring))


def check_objective(objective: str, module: EdgeOfChaosModule, callbacks: list[Callback]) -> None:
    """Refuse an objective that nothing in this run will measure, before the run."""
    known = known_metrics(module, callbacks)
    if objective not in known:
        overall = [name for name in sorted(known) if "/layer_" not in name]
        rule = f"this run measures {', '.join(overall)} and values by layer{closest(objective, known)}"
        raise InvalidInput("objective", objective, rule)
