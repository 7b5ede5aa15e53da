"""The files that a run leaves, and how to read them back."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eoc.errors import InvalidInput, RunFailure

METRICS, SUMMARY, FIGURE, CHECKPOINT, CONFIG = (
    "metrics.csv",
    "summary.json",
    "summary.png",
    "checkpoints/last.ckpt",
    ".hydra/config.yaml",
)
SETTINGS = "config.json"  # identity, group choices and the resolved config: what tables are made of
FAILED = "FAILED.txt"  # why a job of a sweep failed: one sentence, then the traceback if it was a bug
LOCK = ".lock"
SPECTRUM, SPECTRUM_FIGURE = "spectrum.npz", "spectrum.png"
IN_SETTINGS: dict[str, Any] = {"identity": str, "choices": dict, "config": dict}
IN_SUMMARY: dict[str, Any] = {
    "status": str,
    "diverged": dict | None,
    "steps": int,
    "final": dict,
    "best": dict,
    "wall_seconds": float | int,
    "parameters": int,
}


class Damaged(RunFailure):
    """A file of a run folder is there and is not what a run leaves."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}")


def try_folder(folder: Path) -> None:
    """Make a folder and write there; raises the OSError that keeps from it."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass


def make_writable(folder: Path, key: str) -> None:
    """Make a folder; refuse it in the name of ``key`` if nothing can be written there."""
    try:
        try_folder(folder)
    except OSError as error:
        rule = f"it cannot be written ({error.strerror}); choose another folder"
        raise InvalidInput(key, str(folder), rule) from error


def read_metrics(folder: Path | str) -> dict[str, list[float]]:
    """Read ``metrics.csv`` of a run folder as columns, sorted by step; missing values are NaN.

    Of rows with the same step (replayed after a restart) the last one counts. A torn last line of a run that was
    killed while writing is left out.

    Raises:
        FileNotFoundError: if there is none.
        Damaged: if it has no column ``step``, or something else than numbers.
    """
    path = Path(folder) / METRICS
    text = _text(path)
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
        reader = csv.DictReader(lines)
        names = list(reader.fieldnames or ())
        if lines and "step" not in names:
            raise Damaged(path, "it has no column step.")
        rows = {int(row["step"]): row for row in reader}
        ordered = [rows[step] for step in sorted(rows)]
        return {name: [float(row[name]) if row[name] else math.nan for row in ordered] for name in names}
    except (ValueError, TypeError, csv.Error) as error:
        raise Damaged(path, f"something else than a number stands in it ({error}).") from error


def read_settings(folder: Path | str) -> dict[str, Any]:
    """Read ``config.json`` of a run folder: ``identity``, ``choices`` (group → choice) and ``config`` (resolved).

    Raises:
        FileNotFoundError: if there is none.
        Damaged: if it is not what a run leaves.
    """
    return _object(Path(folder) / SETTINGS, IN_SETTINGS)


def read_failure(folder: Path | str) -> str | None:
    """Return the sentence of ``FAILED.txt``, which a full disk may have kept empty; None if there is no such file."""
    try:
        return (Path(folder) / FAILED).read_text(errors="replace").partition("\n")[0] or "no reason was written"
    except FileNotFoundError:
        return None


def read_summary(folder: Path | str) -> dict[str, Any]:
    """Read ``summary.json`` of a run folder.

    Raises:
        FileNotFoundError: if there is none.
        Damaged: if it is not what a run leaves.
    """
    return _object(Path(folder) / SUMMARY, IN_SUMMARY)


def has_result(folder: Path | str) -> bool:
    """Whether a run has ended in ``folder``; a damaged ``summary.json`` is none."""
    try:
        read_summary(folder)
    except (FileNotFoundError, NotADirectoryError, Damaged):
        return False
    return True


def read_spectrum(folder: Path | str) -> dict[str, NDArray[Any]]:
    """Read ``spectrum.npz`` of a run folder.

    Returns:
        ``step`` (n,), ``layer_names`` (l,), ``layers`` (n, l), ``trace`` and ``trace_error`` (n,), and the density of
        eigenvalues as ``nodes`` and ``weights`` (n, nodes), the weights of sum 1 in each row.
    """
    with np.load(Path(folder) / SPECTRUM) as content:
        return {name: content[name] for name in content.files}


def write_spectrum(folder: Path | str, records: Sequence[Mapping[str, Any]], layer_names: Sequence[str]) -> None:
    """Write ``spectrum.npz`` in one move: `read_spectrum` has its entries, a record those of one step.

    Records with fewer nodes than others are filled up with nodes of weight 0.
    """
    longest = max(len(record["nodes"]) for record in records)
    columns: dict[str, Any] = {
        name: np.stack([np.asarray(record[name]) for record in records])
        for name in ("step", "layers", "trace", "trace_error")
    }
    for name in ("nodes", "weights"):
        columns[name] = np.stack([np.pad(record[name], (0, longest - len(record[name]))) for record in records])
    path = Path(folder) / SPECTRUM
    partial = path.with_suffix(".part.npz")
    np.savez(partial, layer_names=np.array(layer_names), **columns)
    partial.replace(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON in one move that a power cut cannot halve; values that are not finite become null."""
    words = json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"
    partial = path.with_suffix(".part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(words)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _object(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Read a JSON object that has the ``expected`` entries, name → type."""
    text = _text(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise Damaged(path, "it is empty." if not text.strip() else f"it is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise Damaged(path, "it is no JSON object.")
    for name, kind in expected.items():
        if name not in content or not isinstance(content[name], kind):
            raise Damaged(path, f"{name} is missing in it, or something else than a run writes.")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(path, "it is no text in UTF-8.") from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
