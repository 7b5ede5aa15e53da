"""From run folders to the cells of an experiment: one row a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from eoc.tracking.run_folder import read_metrics

FINAL = 6  # steps over which a final loss is averaged, an even number: it bounces with period two
SETTING = ("model", "model.depth", "model.width", "model.growth", "model.richness", "model.activation", "seed")


class History(dict[str, np.ndarray]):
    """The columns of a run's ``metrics.csv`` by name.

    One that is not there is asked for as NaN throughout: it was not measured, or, as the cosines of a network that was
    dead from the start, never defined.
    """

    def __missing__(self, name: str) -> np.ndarray:
        """A column that is not there."""
        if name == "step":
            raise KeyError(name)
        return np.full(len(self["step"]), np.nan)


def history(path: str) -> History:
    """The columns of a run's ``metrics.csv``."""
    return History({name: np.asarray(values, dtype=float) for name, values in read_metrics(path).items()})


def reduced(
    runs: pd.DataFrame, measure: Callable[[History], dict[str, Any]], settings: Sequence[str] = SETTING
) -> pd.DataFrame:
    """``settings`` and status of every run, beside what ``measure`` makes of its history."""
    rows = [measure(history(path)) for path in runs["path"]]
    kept = runs.reindex(columns=[*settings, "status"]).reset_index(drop=True)  # a setting that no run has is missing
    return pd.concat([kept, pd.DataFrame(rows)], axis=1)


def first(columns: History, name: str) -> float:
    """The first defined value of a column; NaN if there is none."""
    return _end(columns, name, 0)


def last(columns: History, name: str) -> float:
    """The last defined value of a column; NaN if there is none."""
    return _end(columns, name, -1)


def final_loss(columns: History) -> float:
    """Geometric mean of the train loss over the last steps; at large rates it bounces."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a loss may be 0 but for rounding
        return float(np.exp(np.log(columns["train/loss"][-FINAL:]).mean()))


def by_layer(columns: History, prefix: str, row: int = 0) -> np.ndarray:
    """``prefix/layer_1`` … ``layer_l`` at a row."""
    count = sum(name.startswith(f"{prefix}/layer_") for name in columns)
    return np.array([columns[f"{prefix}/layer_{k}"][row] for k in range(1, count + 1)])


def _end(columns: History, name: str, which: int) -> float:
    values = columns.get(name, np.empty(0))
    known = values[np.isfinite(values)]
    return float(known[which]) if len(known) else float("nan")
