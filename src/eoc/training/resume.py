"""Reading a checkpoint before it is used: is it one, does it fit, and what has changed since."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import nn

from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.run_folder import METRICS

STATE = {"schedule", "probe", "cosines", "random", "settings", "loggers"}  # what the module adds to a checkpoint
LIGHTNINGS = {"loops", "optimizer_states", "lr_schedulers", "pytorch-lightning_version"}  # what Lightning goes on from
DAMAGED = "it is damaged or not a checkpoint of this program"
LOOPS = {"fit_loop"}
RECORDER = "Recorder"  # which no config has
OPTIMIZERS = {"state", "param_groups"}
PRECISIONS = {(torch.float32, torch.strided): "32-true", (torch.float64, torch.strided): "64-true"}
RANDOM = {"torch", "cuda", "numpy", "python"}

LENGTH = "schedule.total_steps:"  # which follows from the length of a run


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint says of the run that wrote it.

    Args:
        path: the checkpoint.
        step: steps that were done.
        settings: the run's settings (`eoc.tracking.settings.KEPT`), and its precision.
        loggers: name → id of the loggers' runs.
        shapes: name → shape of the weights.
        callbacks: those whose state it has.
        run: the run folder of that time; empty where it is not known.
        rows: the folder of its ``metrics.csv`` where that was another than the run folder; else empty.
    """

    path: Path
    step: int
    settings: dict[str, Any]
    loggers: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    callbacks: set[str]
    run: str = ""
    rows: str = ""

    @property
    def folder(self) -> Path:
        """The run folder: the one that it lies in, or, kept elsewhere, the one of that time."""
        around = self.path.parent.parent
        return around if (around / METRICS).exists() or not self.run else Path(self.run)

    def rows_folder(self, own: Path | None) -> Path:
        """Where its rows lie.

        Args:
            own: the run folder, if the run goes on in its own, wherever that is now.
        """
        if self.rows:
            return Path(self.rows)
        return own if own is not None and (own / METRICS).exists() else self.folder

    def branches(self, folder: Path, settings: dict[str, Any], *, in_sweep: bool) -> bool:
        """Whether the run in ``folder`` is another one that starts from here, as several may."""
        elsewhere = self.folder.resolve() != folder.resolve()
        changed = [change for change in self.changes(settings) if not change.startswith(LENGTH)]
        return elsewhere and (in_sweep or bool(changed))

    def changes(self, settings: dict[str, Any]) -> list[str]:
        """Say which settings differ now, one ``key: then → now`` each."""
        then, now = _flat(self.settings), _flat(settings)
        keys = sorted(then.keys() | now.keys())
        return [f"{key}: {then.get(key)} → {now.get(key)}" for key in keys if then.get(key) != now.get(key)]


def opened(file: Path) -> Resumed:
    """Read a checkpoint; one that is damaged or of another program raises whatever its reader trips over."""
    with zipfile.ZipFile(file) as archive:
        if (torn := archive.testzip()) is not None:  # PyTorch does not look at the checksums
            raise ValueError(torn)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # of a file that is then refused
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise TypeError("it is no dictionary")
    own = content["eoc"]
    optimizer = content["optimizer_states"][0]  # without which momentum would begin anew
    for known, wanted in (
        (content, LIGHTNINGS),
        (content["loops"], LOOPS),
        (optimizer, OPTIMIZERS),
        (own, STATE),
        (own["random"], RANDOM),
    ):
        if not known.keys() >= wanted:
            raise KeyError(*(wanted - known.keys()))
    weights = content["state_dict"]
    if not all(tensor.isfinite().all() for tensor in weights.values()):  # which are never kept
        raise ValueError("state_dict")
    (kind,) = {(tensor.dtype, tensor.layout) for tensor in weights.values()}
    precision = {"precision": PRECISIONS[kind]}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    settings = {"trainer": precision, **own["settings"]}
    _rule(settings)  # which is asked for later
    step = int(content["global_step"])
    if step < 0:
        raise ValueError("global_step")
    states = content["callbacks"]
    if not all(states.values()) or RECORDER not in states:  # Lightning keeps no empty one, and would give none back
        raise KeyError("callbacks")
    places = own.get("folder", ""), own.get("rows", "")
    if not all(isinstance(place, str) for place in places):
        raise TypeError("folder")
    return Resumed(file.absolute(), step, settings, own["loggers"], shapes, set(states), *places)


def read_checkpoint(
    path: str, module: nn.Module, settings: dict[str, Any], callbacks: list[Callback], max_steps: int
) -> Resumed:
    """Read ``ckpt_path`` and hold it against the run that is to go on from it.

    Raises:
        InvalidInput: if there is no such file, it is damaged or something else, its weights have another shape, it
            was made under another schedule, it lacks what a callback needs, or it has reached ``max_steps``.
    """

    def refuse(rule: str, cause: Exception | None = None) -> InvalidInput:
        error = InvalidInput("ckpt_path", path, rule)
        error.__cause__ = cause
        return error

    file = Path(path)
    if file.is_dir():
        raise refuse("it is a folder; give a run's checkpoints/last.ckpt")
    if not file.is_file():
        raise refuse("there is no such file; give a run's checkpoints/last.ckpt")
    try:
        resumed = opened(file)
    except PermissionError as error:
        raise refuse("it may not be read by this user", error) from error
    except Exception as error:
        raise refuse(DAMAGED, error) from error
    there, here = resumed.shapes, {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if there != here:
        rule = f"its layers have shapes {list(there.values())}, this config's {list(here.values())}"
        raise refuse(f"{rule}; give the model and dataset settings it was made with")
    then, now = _rule(resumed.settings), _rule(settings)
    if then != now:
        raise refuse(f"it was made under the {then} schedule, this config has {now}")
    lacking = [
        callback
        for callback in callbacks
        if "state_dict" in vars(type(callback)) and callback.state_key not in resumed.callbacks
    ]
    if lacking:
        names = [
            re.sub(r"(?<!^)(?=[A-Z])", "_", type(each).__name__.removesuffix("Callback")).lower() for each in lacking
        ]
        removed = " ".join(f"~callbacks.{name}" for name in names)
        rule = f"it was made without {', '.join(names)}, whose reference values are not known"
        raise refuse(f"{rule}; remove what it is without: {removed}")
    if resumed.step >= max_steps:
        raise refuse(f"it has already done {resumed.step} steps; give a trainer.max_steps above that, not {max_steps}")
    return resumed


def counted(checkpoint: dict[str, Any]) -> int:
    """Return the steps that were done; Lightning is told them where it looks, which older versions did elsewhere."""
    step = int(checkpoint["global_step"])
    steps = {"ready": step, "completed": step}
    progress = "epoch_loop.manual_optimization.optim_step_progress"
    checkpoint["loops"]["fit_loop"][progress] = {"total": steps, "current": dict(steps)}
    return step


@contextmanager
def continuing(path: object, began: Callable[[], bool]) -> Iterator[None]:
    """Say of a checkpoint that it is damaged where something falls over it before the run goes on."""
    try:
        yield
    except (InvalidInput, RunFailure, torch.OutOfMemoryError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        if path is None or began() or "DefaultCPUAllocator" in str(error):
            raise
        raise InvalidInput("ckpt_path", path, DAMAGED) from error


@contextmanager
def restoring(path: object, group: str) -> Iterator[None]:
    """Name the checkpoint in complaints about a state that was read from it, and ``group`` in those about settings."""
    try:
        yield
    except InvalidInput as error:
        first = error.key.partition(".")[0]
        if first == "ckpt_path":
            raise
        if first != "state":
            raise error.prefixed(group) from error
        raise InvalidInput("ckpt_path", path, DAMAGED) from error


def _rule(settings: dict[str, Any]) -> str:
    return str(settings["schedule"]["_target_"]).rpartition(".")[2]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result
