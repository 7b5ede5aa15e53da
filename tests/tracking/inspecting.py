"""What W&B runs on disk hold, by W&B's own reader, and what metrics.csv holds in the same form."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import Run

FIGURE = "summary"  # the image in its row; below it in the reader's words: summary.format, …


def offline_runs(root: Path) -> list[Path]:
    return sorted((root / "wandb").glob("offline-run-*"))


def records(folder: Path) -> list[dict[str, Any]]:
    """Every record of an offline run."""
    tool = Path(sys.executable).with_name("wandb")
    done = subprocess.run(
        [str(tool), "leet", "inspect", "--json", str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_type(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in found if record["type"] == kind]


def history(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["item"] for record in of_type(found, "history")]


def rows_of(run: Run) -> list[dict[str, float]]:
    """metrics.csv row by row, without what is missing."""
    columns = run.columns
    rows = zip(*columns.values(), strict=True)
    return [{name: v for name, v in zip(columns, row, strict=True) if not math.isnan(v)} for row in rows]


def public(item: dict[str, Any]) -> dict[str, float]:
    """The numbers of a history row; W&B writes those that JSON lacks as words."""
    logged = {name: value for name, value in item.items() if not name.startswith(("_", FIGURE))}
    return {name: float(value) for name, value in logged.items() if value != "NaN"}
