"""What W&B may lack of a run whose process was killed: metrics.csv has it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eoc.tracking.run_folder import METRICS

HEADER = 7  # bytes with which a run's file begins
BLOCK = 1 << 15  # then W&B's service writes whole blocks of so many bytes, and at the run's end what is left
MARK = "cut_off"  # a file in a run's folder: the program ended before it had handed over all of it
TAIL = 4 * BLOCK // 10  # values that are handed over again: those of four blocks, a value taking ten bytes at least


@dataclass(frozen=True)
class Past:
    """The rows of a run that goes on.

    Args:
        folder: where its ``metrics.csv`` lies.
        before: the step from which on it is run again.
    """

    folder: Path
    before: int

    def unknown_to(self, last: int) -> list[dict[str, Any]]:
        """Rows that a server does not have, whose last one is of step ``last`` (−1: it has none)."""
        return list(self._newest_first(last + 1))[::-1] if last < self.before - 1 else []

    def tail(self) -> list[dict[str, Any]]:
        """The last rows, down to as many values as a killed service may have had in its hands."""
        rows, values = [], 0
        for row in self._newest_first(0):
            rows.append(row)
            values += len(row)
            if values >= TAIL:
                break
        return rows[::-1]

    def _newest_first(self, first: int) -> Iterator[dict[str, Any]]:
        """Rows from step ``first`` on; what is damaged is left out, which has been said where metrics.csv goes on."""
        try:
            text = (self.folder / METRICS).read_text(errors="replace")
            header, *lines = text[: text.rfind("\n") + 1].splitlines()
        except (OSError, ValueError):
            return
        (names,) = csv.reader([header])
        for line in reversed(lines):  # a long run's are read from behind, and no more of them than are asked for
            step = line.partition(",")[0]
            if step.isdecimal() and first <= int(step) < self.before:
                row = _row(names, line)
                if row is not None:
                    yield row


def _row(names: list[str], line: str) -> dict[str, Any] | None:
    try:
        (cells,) = csv.reader([line])
        values = {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell}
    except (ValueError, csv.Error):
        return None
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    return {**known, "step": int(cells[0])}


def was_cut_off(root: Path, run_id: str) -> bool:
    """Whether the program that logged a run there last was killed, or all of its processes, if it had any already."""
    written = (root / "wandb").glob(f"*run-*-{run_id}*/run-{run_id}.wandb")  # a number follows where two share a second
    try:
        last = max(written, key=lambda file: file.stat().st_mtime_ns)
        size = last.stat().st_size
    except (OSError, ValueError):  # what is not there, or cannot be read, says nothing
        return True
    return size <= HEADER or size % BLOCK == 0 or last.with_name(MARK).exists()


def mark_cut_off(folder: Path) -> None:
    """Leave word in a run's folder that it lacks what its program had not handed over."""
    (folder / MARK).touch()
