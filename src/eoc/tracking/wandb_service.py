"""What lies behind W&B's interface: its service, what it says, and what it does not need to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType, SimpleNamespace
from typing import Any

from eoc.tracking.courier import Courier
from eoc.tracking.run_folder import try_folder

BLOCK = bytes(1 << 16)  # what must still fit into the folder of a run that is complete
CUT = "failed to save record"  # W&B's own word for a record that it could not write, in its log alone


def quiet_wandb() -> None:
    """Keep W&B from talking over the run, from asking for a key, and from reporting errors.

    Where the server is dead, its reports of errors hold up the end of a program.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def import_wandb() -> None:
    """Import W&B, quietly and without what a run does not need of it."""
    quiet_wandb()
    with without_descriptions():
        import wandb
    wandb.util.pd_available = False  # it would import pandas, to see by its classes that a figure is no table of it


def import_for_images() -> None:
    """Import what W&B imports at its first image, for which the end of a run would wait."""
    with suppress(ImportError):
        import_module("PIL.Image")


@contextmanager
def without_launch() -> Iterator[None]:
    """Spare a run the second of computing that W&B takes to import its job queues, just to find none in use."""
    name = "wandb.sdk.launch.inputs.internal"
    if name in sys.modules or any(key.startswith("WANDB_LAUNCH") for key in os.environ):
        yield
        return
    idle: Any = ModuleType(name)
    idle.StagedLaunchInputs = lambda: SimpleNamespace(apply=lambda run: None)  # noqa: ARG005
    sys.modules[name] = idle
    try:
        yield
    finally:
        if sys.modules.get(name) is idle:
            del sys.modules[name]


@contextmanager
def without_descriptions() -> Iterator[None]:
    """Spare a run the half of W&B's import in which its data classes read their own source for descriptions."""
    try:
        fields: Any = import_module("pydantic._internal._fields")
        read = fields.extract_docstrings_from_cls
    except (ImportError, AttributeError):  # another pydantic
        yield
        return
    fields.extract_docstrings_from_cls = lambda cls, use_inspect=False: {}  # noqa: ARG005
    try:
        yield
    finally:
        fields.extract_docstrings_from_cls = read


def open_run(patience: float, program: str, arguments: list[str], process: int, **given: Any) -> Any:
    """Open a W&B run in silence, waiting at most ``patience`` s for a server at either end; raise if it cannot be.

    What is shown of it are the program that it is of, that one's arguments, and what its process uses of the machine.
    """
    import wandb

    sys.argv[1:] = arguments
    # A Settings object of its own for every run: shared ones let runs of one process leak into each other.
    settings = wandb.Settings(
        init_timeout=patience,
        finish_timeout=patience,
        finish_timeout_raises=True,
        git_root=str(Path(__file__).parent),
        console="off",
        silent=True,
        save_code=False,
        program=program,
        x_stats_pid=process,
    )
    with without_launch():
        return wandb.init(**given, reinit="create_new", settings=settings)


def reason(error: BaseException) -> str:
    """What went wrong, in one line, without W&B's advice on settings that are not ours."""
    return " ".join(str(error).split()).partition(" Consider ")[0].rstrip(".") or type(error).__name__


def service_process() -> Any:
    """Return the process of W&B's service, where this program has started one."""
    singleton = getattr(sys.modules.get("wandb.sdk.wandb_setup"), "_singleton", None)
    return getattr(getattr(getattr(singleton, "_connection", None), "_proc", None), "_process", None)


def service_has_ended() -> bool:
    """Whether W&B's service was started here, and has ended."""
    process = service_process()
    with suppress(subprocess.TimeoutExpired):
        return process is not None and process.wait(timeout=1.0) is not None  # a killed one's threads take a while
    return False


def end_service() -> None:
    """End W&B's service, so that it holds up neither this program's end nor its next run."""
    import wandb

    process = service_process()
    if process is not None:
        with suppress(OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait(timeout=1.0)
    Courier("wandb teardown").finish(wandb.teardown, seconds=1.0)


def make_root(root: Path) -> None:
    """Make W&B's folder; raise an OSError where it cannot be written, for which W&B would take /tmp instead."""
    try:
        try_folder(root)
    except OSError as error:
        raise OSError(f"{root} cannot be written, {error.strerror}") from error


def check_complete(folder: Path) -> None:
    """Raise an OSError where W&B could not write all of a run to its folder, of which it says nothing itself."""
    log = folder / "logs" / "debug-internal.log"
    if log.exists() and CUT in log.read_text(errors="replace"):
        raise OSError(f"it could not write all of it to {folder}")
    with TemporaryFile(dir=folder) as file:  # a full disk cuts that log too
        file.write(BLOCK)
