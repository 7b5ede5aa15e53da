"""What W&B may lack of a run whose process was killed: metrics.csv has it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eoc.tracking.run_folder import Damaged, read_metrics

HEADER = 7  # bytes with which a run's file begins
BLOCK = 1 << 15  # then W&B's service writes whole blocks of so many bytes, and at the run's end what is left
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
        if last >= self.before - 1:
            return []
        return [row for row in self._rows() if row["step"] > last]

    def tail(self) -> list[dict[str, Any]]:
        """The last rows, down to as many values as a killed service may have had in its hands."""
        rows = list(self._rows())
        values, first = 0, len(rows)
        while first and values < TAIL:
            first -= 1
            values += len(rows[first])
        return rows[first:]

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            columns = read_metrics(self.folder)
        except (OSError, Damaged):  # which has been said where metrics.csv goes on
            return
        for row in zip(*columns.values(), strict=True):
            known = {name: value for name, value in zip(columns, row, strict=True) if not math.isnan(value)}
            if known["step"] < self.before:
                yield {**known, "step": int(known["step"])}


def was_cut_off(root: Path, run_id: str) -> bool:
    """Whether the process that logged a run there last was killed, and its service with it, if it had one already."""
    written = (root / "wandb").glob(f"*run-*-{run_id}*/run-{run_id}.wandb")  # a number follows where two share a second
    found = [file.stat() for file in written]
    size = max(found, key=lambda file: file.st_mtime_ns).st_size if found else 0
    return size <= HEADER or size % BLOCK == 0
