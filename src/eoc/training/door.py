"""How the program ends when it cannot go on: one sentence and a non-zero exit, never a wall of traceback."""

from __future__ import annotations

import io
import math
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any, NoReturn

import torch
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from eoc.errors import InvalidInput, RunFailure
from eoc.tracking.claim import FolderTaken
from eoc.tracking.run_folder import FAILED, has_result
from eoc.training.checks import check_folder, expect_one_choice
from eoc.training.complaints import as_written, complaint, set_by
from eoc.training.past import ToldToEnd, is_grid
from eoc.training.sweep.settings import check_sweep, expect_our_launchers, worst

REFUSED = 2
INTERRUPTED = 130
UNREAD = 141  # as a shell counts a broken pipe
TRACEBACKS = "HYDRA_FULL_ERROR"  # set to 1 it shows the traceback of every refusal
PACKAGE = Path(__file__).resolve().parents[1]
_format = warnings.formatwarning
GUARDED = "EOC_DOOR"  # the folder of the config groups; says, to child processes too, that the door set TRACEBACKS


def at_the_door(main: Callable[[], None], conf: Path) -> None:
    """Run Hydra's ``main``; say what it refuses in one sentence on stderr.

    An error that is none of ours keeps its traceback, since it is a bug. ``HYDRA_FULL_ERROR=1`` shows all of them.

    Args:
        main: the function that `hydra.main` made.
        conf: the folder of the config groups.

    Raises:
        SystemExit: 2 when something was refused, 130 when interrupted, 141 when nothing reads the output.
    """
    if os.environ.get(TRACEBACKS) != "1" or GUARDED in os.environ:
        os.environ |= {TRACEBACKS: "1", GUARDED: str(conf)}  # Hydra lets every exception through to here
    expect_our_launchers()
    warnings.formatwarning = _plain
    with one_sentence():
        _check_flags(sys.argv[1:])
        main()


def _plain(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """One line for a warning of ours, which speaks of the run and not of the line of code that says it."""
    if category is UserWarning and Path(filename).is_relative_to(PACKAGE):
        return f"warning: {message}\n"
    return _format(message, category, filename, lineno, line)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Leave the program with one sentence for every error that is not a bug, unless tracebacks were asked for."""
    try:
        try:
            yield
        except SystemExit:  # of --help
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # here, where it is known what to say if nothing reads it
    except KeyboardInterrupt as error:
        _leave(": ".join(["interrupted", *map(str, error.args)]), INTERRUPTED)
    except BrokenPipeError:  # as with ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would fall over what is left to be printed
        asked = {"-h", "--help", "--hydra-help", "-c", "--cfg", "-i", "--info"} & set(sys.argv)
        _leave(None if asked else "stopped: nothing reads the output any more.", UNREAD)
    except Exception as error:
        said = sentence(error) if GUARDED in os.environ else None
        if said is None:
            raise
        first = os.environ.get("LOCAL_RANK", "0") == "0"  # it speaks for all: a setting is refused by all alike
        _leave(f"error: {said}" if first or not isinstance(error, InvalidInput) else None, REFUSED)


class Doorkeeper(Callback):
    """Looks at the run folder before Hydra writes into it, and speaks for a refused run before Hydra does.

    A failed job of a sweep leaves `FAILED` in its folder and returns the worst value, so that every launcher and every
    sweeper goes on with the others.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Refuse a folder that is taken or cannot be written."""
        with one_sentence():
            HydraConfig.instance().set_config(config)  # the folder's name asks for it; Hydra sets it later
            check_folder(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Refuse wrong settings and a folder that cannot be written; make or find the study of a search."""
        with one_sentence():
            HydraConfig.instance().set_config(config)  # as above; Hydra sets it for each job alone
            check_sweep(config)
            expect_one_choice()
            check_folder(config.hydra.sweep.dir, "hydra.sweep.dir")
            if not is_grid(config):
                from eoc.training.sweep.study import begin  # imported by a search alone

                begin(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Say what became of the jobs of a search; a grid says it itself, also when it is interrupted."""
        if not is_grid(config):
            from eoc.training.sweep.search import conclude  # which needs this module

            with one_sentence():
                conclude(Path(config.hydra.sweep.dir).absolute(), str(config.objective))

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Leave if the run was refused; a bug is Hydra's to raise again."""
        with suppress(Exception), one_sentence(), redirect_stderr(io.StringIO()):
            _ = kwargs["job_return"].return_value

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:  # noqa: ARG002
        """Record the failure of a sweep's job; one that was told to end ends the sweep."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        if job_return.status != JobStatus.FAILED:
            if job_return.return_value == math.inf:  # it diverged
                job_return.return_value = worst(config)
            return
        try:
            with redirect_stderr(io.StringIO()):
                _ = job_return.return_value
        except (FolderTaken, ToldToEnd) as error:
            if isinstance(error, ToldToEnd):
                raise KeyboardInterrupt(str(error)) from error
        except Exception as error:
            record_failure(Path(config.hydra.runtime.output_dir), error)
        job_return.status, job_return.return_value = JobStatus.COMPLETED, worst(config)


def _check_flags(arguments: list[str]) -> None:
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        rule = "settings are key=value, --help lists them all"
        problem, _, words = message.partition(": ")
        left = words.split()
        if problem == "unrecognized arguments" and not any(word.startswith("-") for word in left):
            rule = "put -m and other flags before all settings, not among them"
        raise RunFailure(f"The command line cannot be read, {message}: {rule}.")

    parser.error = refuse  # type: ignore[method-assign]  # argparse would print its usage
    given = parser.parse_args(arguments)
    if given.resolve and not given.cfg and not given.help:
        raise RunFailure("The flag --resolve says how the config is shown: put --cfg job beside it.")
    modes = ("run", "multirun", "cfg", "info", "shell_completion")
    asked = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(given, mode)]
    if len(asked) > 1:
        raise RunFailure(f"The flags {' and '.join(asked)} exclude each other: leave all out but one.")
    commands = [word for word in arguments if re.match(r"\+?(install|uninstall|query)=", word)]
    if given.shell_completion and len(commands) != 1:
        raise RunFailure("The flag --shell-completion needs one of install=, uninstall= and query=, as install=bash.")
    rerun = given.experimental_rerun
    if rerun is not None and not (Path(rerun).is_file() and Path(rerun).suffix == ".pickle"):
        raise InvalidInput("--experimental-rerun", rerun, "it must be the config.pickle that a run has left")


def record_failure(folder: Path, error: Exception) -> None:
    """Write ``FAILED.txt``: one sentence, and behind it the traceback if the error is a bug."""
    said = sentence(error)
    first = " ".join((said or f"{type(error).__name__}: {error}").split())
    more = "" if said else "\n" + "".join(traceback.format_exception(error))
    if not has_result(folder):  # a finished run has not failed: it was refused to be run over
        with suppress(OSError):  # on a full disk it stays empty, which says that the run failed all the same
            (folder / FAILED).write_text(f"{first}\n{more}")
    print(f"failed: {first} → {folder.name}", file=sys.stderr, flush=True)


def sentence(error: Exception, arguments: list[str] | None = None) -> str | None:
    """Say what is wrong in one sentence; None for an error that is a bug.

    Args:
        error: what was raised.
        arguments: the command line that led to it; None for the program's own.
    """
    conf, arguments = os.environ.get(GUARDED), sys.argv[1:] if arguments is None else arguments
    if isinstance(error, InvalidInput):
        error = as_written(error, arguments)
    if isinstance(error, InvalidInput) and conf and (author := set_by(error.key, arguments, Path(conf))):
        return str(InvalidInput(error.key, error.value, f"{error.rule}; {author} sets it"))
    if isinstance(error, InvalidInput) and error.value is None and f"~{error.key}" in arguments:
        return f"~{error.key} is not possible: {error.rule}."
    if isinstance(error, InvalidInput | RunFailure):
        return str(error)
    if conf and (said := complaint(error, arguments, Path(conf))):
        return said
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        sizes = "model.width, model.depth, dataset.n_train, dataset.batch_size or curvature.chunk_size"
        return f"there is not enough memory for this run; reduce {sizes}."
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        remedy = "make room, or choose another place (hydra.run.dir, hydra.sweep.dir, or the setting that names it)"
        return f"the run cannot go on, {error.strerror}{where}: {remedy}."
    return None


def _leave(sentence: str | None, code: int) -> NoReturn:
    if sentence is not None:
        print(sentence, file=sys.stderr)
    sys.exit(code)
