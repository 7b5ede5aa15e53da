"""The files that a run leaves, and how to read them back."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def read_metrics(folder: Path | str) -> dict[str, list[float]]:
    """Read ``metrics.csv`` of a run folder as columns, sorted by step; missing values are NaN.

    Of rows with the same step (replayed after a restart) the last one counts. A torn last line of a run that was
    killed while writing is left out.

    Raises:
        FileNotFoundError: if there is none.
    """
    text = (Path(folder) / METRICS).read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    reader = csv.DictReader(lines)
    names = list(reader.fieldnames or ())
    rows = {int(row["step"]): row for row in reader}
    ordered = [rows[step] for step in sorted(rows)]
    return {name: [float(row[name]) if row[name] else math.nan for row in ordered] for name in names}


def read_settings(folder: Path | str) -> dict[str, Any]:
    """Read ``config.json`` of a run folder: ``identity``, ``choices`` (group → choice) and ``config`` (resolved)."""
    return json.loads((Path(folder) / SETTINGS).read_text())


def read_failure(folder: Path | str) -> str | None:
    """Return the sentence of ``FAILED.txt``; None if there is none."""
    try:
        return (Path(folder) / FAILED).read_text().partition("\n")[0]
    except FileNotFoundError:
        return None


def read_summary(folder: Path | str) -> dict[str, Any]:
    """Read ``summary.json`` of a run folder."""
    return json.loads((Path(folder) / SUMMARY).read_text())


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
    """Write strict JSON in one move; values that are not finite become null."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")
    partial.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
