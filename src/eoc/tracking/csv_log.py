"""``metrics.csv``: one row a step, written through at once."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_warn

from eoc.errors import text
from eoc.tracking.run_folder import METRICS

DAMAGED = "\ufffd"  # what stands for bytes that are no text


class CSVLog(Logger):
    """Writes every row to ``metrics.csv`` as it comes; a new column rewrites the file with a longer header.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.path = Path(text("folder", folder)) / METRICS
        self._columns: list[str] = []
        self._file: Any = None

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "csv"

    @property
    def version(self) -> str:
        """Lightning asks for one."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the config lies in ``.hydra/``."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one row."""
        new = [name for name in ("step", *metrics) if name not in self._columns]
        if new or self._file is None:
            self._open(new)
        row = {"step": step, **metrics}
        csv.writer(self._file, lineterminator="\n").writerow([row.get(name, "") for name in self._columns])
        self._file.flush()

    def finalize(self, status: str) -> None:  # noqa: ARG002
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def resume(self, folder: Path, before: int) -> None:
        """Begin with the rows of another (or the same) run folder whose step is below ``before``.

        A torn last line, of a run that was killed while writing, is left out. Where there are no rows, or damaged
        ones, it says so.
        """
        rows = _rows(folder / METRICS)
        if not rows and before > 0:
            rank_zero_warn(f"{folder} holds no {METRICS}: that of this run begins at step {before}")
        if rows:
            whole = [row for row in rows if not any(DAMAGED in cell for cell in row)]
            if whole[:1] != rows[:1]:
                rank_zero_warn(f"{folder / METRICS} is damaged: that of this run begins at step {before}")
                return
            if len(whole) < len(rows):
                rank_zero_warn(f"{folder / METRICS} is damaged: {len(rows) - len(whole)} of its lines are left out")
            self._rewrite(rows[0], [row for row in whole[1:] if row and row[0].isdecimal() and int(row[0]) < before])

    def _open(self, new: list[str]) -> None:
        self.finalize("reopened")
        if new:
            rows = _rows(self.path) if self._columns else []
            self._rewrite(self._columns + new, rows[1:])
        self._file = self.path.open("a", newline="")

    def _rewrite(self, columns: list[str], rows: list[list[str]]) -> None:
        self._columns = list(columns)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        with partial.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self._columns)
            writer.writerows(row + [""] * (len(self._columns) - len(row)) for row in rows)
        partial.replace(self.path)


def _rows(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    text = path.read_text(errors="replace")
    return list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
