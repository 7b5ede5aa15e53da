"""Run folders as plain data for pages: what was measured, with which settings, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eoc.analysis.summary_figure import NAMES
from eoc.analysis.table import leaves, read_histories, readable, run_folders
from eoc.errors import InvalidInput
from eoc.tracking.run_folder import SETTINGS, read_failure, read_settings, read_summary

MOST = 4  # settings in a label
ELSEWHERE = (
    "paths",
    "logger",
    "callbacks",
    "sweep",
    "name",
    "objective",
    "ckpt_path",
)  # change nothing that is trained


@dataclass
class RunData:
    """One run folder.

    Args:
        folder: where it lies.
        columns: metric → its values in the order of the steps; NaN where it is missing.
        settings: the choice of every group and, by dotted name, every value of the resolved config, without paths,
            loggers and callbacks.
        summary: of ``summary.json``; empty while the run goes on.
        failure: why it failed, in one sentence; None if it did not.
        label: what tells it from the others.
    """

    folder: Path
    columns: dict[str, NDArray[np.float64]]
    settings: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    label: str = ""

    @property
    def status(self) -> str:
        """``completed``, ``stopped``, ``diverged at step …``, ``failed: …``, ``unfinished`` (running or cut off)."""
        if self.failure is not None:
            return f"failed: {self.failure}"
        if not self.summary:
            return "unfinished"
        diverged = self.summary["diverged"]
        return f"diverged at step {diverged['step']}" if diverged else str(self.summary["status"])

    @property
    def diverged_at(self) -> int | None:
        """The step at which it diverged."""
        return self.summary["diverged"]["step"] if self.summary.get("diverged") else None

    @property
    def limit(self) -> float:
        """η·λ at the edge of stability, 2(1+β)."""
        return float(self.summary.get("stability_limit", 2 * (1 + float(self.settings.get("optimizer.momentum", 0)))))

    def known(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return steps and values of a metric where it was measured and is finite."""
        if name not in self.columns:
            return np.empty(0), np.empty(0)
        there = np.isfinite(self.columns[name])
        return self.columns["step"][there], self.columns[name][there]

    def final(self, name: str) -> float | None:
        """Return a metric's value at the end; None where it is not finite; without a result, the last known one."""
        if self.summary:
            value = self.summary["final"].get(name)
            return float(value) if value is not None and np.isfinite(value) else None
        values = self.known(name)[1]
        return float(values[-1]) if len(values) else None

    @property
    def steps(self) -> int:
        """The steps that were done."""
        if self.summary:
            return int(self.summary["steps"])
        return int(self.columns["step"][-1]) if len(self.columns.get("step", ())) else 0

    def layers(self, prefix: str) -> list[str]:
        """Return the metrics ``prefix/layer_1`` … in the order of the layers."""
        names = [name for name in self.columns if name.startswith(f"{prefix}/layer_")]
        return sorted(names, key=lambda name: int(name.rpartition("_")[2]))


def read_all(folder: Path) -> list[RunData]:
    """Read the run in a folder, or all runs below it, each labelled by what tells it from the others.

    Damaged files, and what cannot be read below the folder, are left out as `read_runs` does.

    Raises:
        InvalidInput: if there are none.
    """
    try:
        found = [_read(path) for path in sorted(run_folders(folder), key=_natural)]
    except OSError as error:
        raise InvalidInput("folder", str(folder), f"it cannot be read ({error.strerror})") from error
    runs = [run for run in found if run is not None]
    if not runs:
        raise InvalidInput("folder", str(folder), f"no run lies there (a folder with {SETTINGS})")
    keys = differing(runs)
    if len(keys) <= MOST:
        runs.sort(key=lambda run: _order(run, keys))
    _label(runs, folder, keys)
    return runs


def differing(runs: list[RunData]) -> list[str]:
    """Return the settings in which runs differ, without those that follow from one that is named before (a model's)."""
    told: list[str] = []
    for key in sorted(dict.fromkeys(key for run in runs for key in run.settings), key=_rank):
        if len(_values(runs, key)) > 1 and not any(_follows(runs, key, other) for other in told):
            told.append(key)
    return told


def _values(runs: list[RunData], *keys: str) -> set[str]:
    return {repr([run.settings.get(key) for key in keys]) for run in runs}


def _follows(runs: list[RunData], key: str, other: str) -> bool:
    """Whether each value of the other goes with one value alone."""
    return len(_values(runs, key, other)) == len(_values(runs, other))


def _rank(key: str) -> int:
    """Model and depth first, the seed last."""
    return {"model": 0, "model.depth": 1, "schedule": 2, "seed": 9}.get(key, 5)


def _natural(folder: Path) -> list[tuple[int, str]]:
    """Order the jobs 0, 1, …, 10 of a sweep as numbers."""
    return [(int(part) if part.isdecimal() else 0, part) for part in folder.parts]


def _read(folder: Path) -> RunData | None:
    said = readable(read_settings, folder)
    if said is None:
        return None
    settings = {**said["choices"], **leaves(said["config"])}
    run = RunData(folder, {}, {key: value for key, value in settings.items() if key.partition(".")[0] not in ELSEWHERE})
    run.failure = read_failure(folder)
    history = read_histories(pd.DataFrame({"path": [str(folder)]})).drop(columns="path")
    run.columns = {str(name): values.to_numpy(dtype=np.float64) for name, values in history.items()}
    run.summary = readable(read_summary, folder) or {}  # it goes on
    return run


def _label(runs: list[RunData], folder: Path, keys: list[str]) -> None:
    for run in runs:
        inside = run.folder.relative_to(folder)
        told = [_told(key, run.settings[key]) for key in keys if key in run.settings]
        where = str(inside) if inside != Path() else run.folder.resolve().name
        run.label = ", ".join(told) if 0 < len(told) <= MOST else where
    labels = [run.label for run in runs]
    for run in runs:
        if labels.count(run.label) > 1:
            run.label = str(run.folder.relative_to(folder))


def _order(run: RunData, keys: list[str]) -> list[tuple[bool, float, str]]:
    """Order runs by what tells them apart: numbers by size, words by the alphabet."""
    values = [run.settings.get(key) for key in keys]
    return [(True, float(v), "") if isinstance(v, int | float) else (False, 0.0, str(v)) for v in values]


def _told(key: str, value: Any) -> str:
    """A group's choice by its name, a value with its key's."""
    choice = "." not in key and isinstance(value, str)
    return NAMES.get(value, value) if choice else f"{key.rpartition('.')[2]} {value}"
