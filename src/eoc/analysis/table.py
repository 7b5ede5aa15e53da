"""Run folders in, one table out: a row a run, and their histories on demand."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pandas.api.types import is_float_dtype, is_integer_dtype

from eoc.tracking.run_folder import METRICS, SETTINGS, Damaged, read_failure, read_settings, read_summary

Read = TypeVar("Read")
ELSEWHERE = {"wandb", "checkpoints", ".hydra", ".submitit"}  # folders that hold no runs


def read_runs(folder: Path | str) -> pd.DataFrame:
    """Read every run at or below ``folder``, one row each, sorted by path.

    Columns: ``path``; ``status`` (``completed``, ``diverged``, ``stopped``, ``failed`` or ``unfinished``) and ``why``
    (it diverged or failed); each group's choice (``model``, ``dataset``, ``schedule``, …); every value of the resolved
    config by its dotted name (``model.depth``, ``seed``; lists as tuples); every final metric by its own name
    (``train/loss``, ``lr_x_sharpness``); the best ones as ``best/…``; ``steps``, ``seconds`` and ``parameters``. What a
    run does not have is missing. Of a damaged file a line on stderr says so: without its ``config.json`` a run is left
    out, without its ``summary.json`` it is unfinished, as it is to a sweep.

    Args:
        folder: a run's, a sweep's, or one above them.

    Raises:
        FileNotFoundError: if there is no such folder, or no run in it.
    """
    rows = [row for path in sorted(run_folders(folder)) if (row := _row(path)) is not None]
    if not rows:
        raise FileNotFoundError(f"there is no run ({SETTINGS}) in {folder}")
    return pd.DataFrame(rows)


def read_histories(runs: pd.DataFrame, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the metrics of ``runs`` step by step into one long table: ``path``, ``step`` and ``columns``.

    Of rows with the same step (replayed after a restart) the last one counts; a torn last line of a run that was
    killed while writing is left out, and so is a run without metrics, and one whose ``metrics.csv`` is damaged, which a
    line on stderr says. Metrics that a run did not measure are missing.

    Args:
        runs: rows of `read_runs`.
        columns: names of metrics; None takes all.
    """
    wanted = None if columns is None else list(dict.fromkeys(["step", *columns]))
    pieces = [pd.DataFrame(columns=["path", *(wanted or ["step"])])]
    for path in runs["path"]:
        history = readable(_history, Path(path), wanted)
        if history is not None and len(history):
            history.insert(0, "path", path)
            pieces.append(history)
    return pd.concat(pieces[1:] or pieces, ignore_index=True).reindex(columns=pieces[0].columns if wanted else None)


def run_folders(folder: Path | str) -> Iterator[Path]:
    """Find the run folders at or below ``folder``; links to folders below it are not followed, as runs count once.

    A folder below it that cannot be read is left out, and named on stderr.

    Raises:
        OSError: if there is no such folder, or it cannot be read.
    """
    with os.scandir(folder) as found:
        entries = list(found)
    if any(entry.name == SETTINGS for entry in entries):
        yield Path(folder)
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and entry.name not in ELSEWHERE:
            try:
                yield from run_folders(entry.path)
            except FileNotFoundError:
                continue  # it has just been removed
            except OSError as error:
                print(f"warning: {entry.path} cannot be read ({error.strerror})", file=sys.stderr)


def readable(read: Callable[..., Read], *given: Any) -> Read | None:
    """What ``read`` returns; None, and a line on stderr, if a file is damaged or unreadable; None if there is none."""
    try:
        return read(*given)
    except FileNotFoundError:
        return None
    except Damaged as error:
        print(f"warning: {error}", file=sys.stderr)
    except OSError as error:
        print(f"warning: {error.filename} cannot be read ({error.strerror})", file=sys.stderr)
    return None


def _row(path: Path) -> dict[str, Any] | None:
    said = readable(read_settings, path)
    if said is None:
        return None
    row: dict[str, Any] = {"path": str(path), "status": "unfinished", "why": None}
    row |= said["choices"]
    row |= leaves(said["config"])
    failure = read_failure(path)
    if failure is not None:
        return row | {"status": "failed", "why": failure}
    summary = readable(read_summary, path)
    if summary is None:
        history = readable(_history, path, ["step"])
        return row | {"steps": int(history["step"].iloc[-1]) if history is not None and len(history) else 0}
    row["status"] = summary["status"]
    row["why"] = summary["diverged"]["reason"] if summary["diverged"] else None
    row |= {"steps": summary["steps"], "seconds": summary["wall_seconds"], "parameters": summary["parameters"]}
    row |= summary["final"]
    return row | {f"best/{name}": best["value"] for name, best in summary["best"].items()}


def leaves(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a config to its values by dotted key; the names of classes (``_target_``) are not values."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{prefix}{name}.")
        elif not name.startswith("_"):
            found[f"{prefix}{name}"] = tuple(value) if isinstance(value, list) else value
    return found


def _history(path: Path, columns: list[str] | None) -> pd.DataFrame | None:
    written = (path / METRICS).read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if not whole:
        return None
    wanted = None if columns is None else set(columns)
    usecols = None if wanted is None else (lambda name: name in wanted)
    try:
        table = pd.read_csv(BytesIO(whole), usecols=usecols, low_memory=False)
    except ValueError as error:
        raise Damaged(path / METRICS, f"it is no table ({' '.join(str(error).split())}).") from error
    if "step" not in table:
        raise Damaged(path / METRICS, "it has no column step.")
    words = [str(name) for name in table if not is_float_dtype(table[name]) and not is_integer_dtype(table[name])]
    if (words and len(table)) or table["step"].isna().any():
        raise Damaged(path / METRICS, f"something else than a number stands in its column {(words or ['step'])[0]}.")
    if not table["step"].is_monotonic_increasing or not table["step"].is_unique:
        table = table.drop_duplicates("step", keep="last").sort_values("step", ignore_index=True)
    return table
