"""What a sweep has come to: counts, and a line for every run that is not simply done."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from eoc.analysis.grouping import varying
from eoc.tracking.claim import is_claimed

ORDER = ("completed", "diverged", "stopped", "running", "unfinished", "failed")


def status(runs: pd.DataFrame) -> str:
    """Say how many runs there are of each status, and each that is running, cut off, diverged or failed.

    Args:
        runs: rows of `read_runs`.
    """
    states = [_state(row) for _, row in runs.iterrows()]
    counts = pd.Series(states).value_counts()
    lines = [f"{len(runs)} runs: " + ", ".join(f"{counts[state]} {state}" for state in ORDER if state in counts)]
    settings = varying(runs)
    for state in ORDER[1:]:
        for found, (_, row) in zip(states, runs.iterrows(), strict=True):
            if found == state:
                # What is missing, as a callback that was removed, is not equal to itself.
                words = " ".join(f"{name}={row[name]}" for name in settings if row[name] == row[name])
                lines.append(f"{state:<10} {Path(row['path']).name} {words}: {_remark(row)}")
    return "\n".join(lines)


def _state(row: pd.Series) -> str:
    said = str(row["status"])
    return "running" if said == "unfinished" and is_claimed(Path(row["path"])) else said


def _remark(row: pd.Series) -> str:
    if row["status"] in ("failed", "diverged"):
        return f"{row['why']}"
    return f"step {row['steps']:.0f} of {row['trainer.max_steps']:.0f}"
