"""What sets runs apart, and their metrics by group: means over seeds with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from eoc.analysis.claims.base import mean
from eoc.errors import InvalidInput, closest

# What a run leaves that is neither a setting nor has a slash in its name, as most metrics have.
RESULTS = ("path", "status", "why", "steps", "seconds", "parameters", "lr", "sharpness", "lr_x_sharpness")
LABELS = ("name", "objective", "ckpt_path")  # settings that make no difference to a run's numbers
FIRST = ("logger", "paths", "callbacks", "trainer", "sweep")  # and groups of such


def varying(runs: pd.DataFrame) -> list[str]:
    """Return the settings in which ``runs`` differ, without those that follow from the choice of their group."""
    found: list[str] = []
    for name in runs.columns:
        group = name.partition(".")[0]
        if "/" in name or name in RESULTS or name in LABELS or group in FIRST:
            continue
        values = runs[name].astype(object).map(repr)
        follows = group != name and group in found and values.groupby(runs[group]).nunique().max() == 1
        if values.nunique() > 1 and not follows:
            found.append(name)
    return found


def mixed(runs: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """Return the settings, beside the seed, in which completed runs of one group differ."""
    parts = [part[part["status"] == "completed"] for _, part in _groups(runs, by)]
    return [name for name in dict.fromkeys(name for part in parts for name in varying(part)) if name != "seed"]


def column(runs: pd.DataFrame, key: str, name: str) -> str:
    """Return ``name`` if the runs have it, or refuse it in the name of the option ``key``."""
    if name not in runs.columns:
        known = [str(each) for each in runs.columns]
        metrics = [each for each in known if "/" in each and not each.startswith("best/") and "/layer_" not in each]
        rule = f"the runs differ in {', '.join(varying(runs)) or 'nothing'} and have measured {', '.join(metrics)}"
        raise InvalidInput(key, name, f"{rule}{closest(name, known)}")
    return name


def grouped(runs: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Metrics of completed runs by group: mean and half the width of Student's 95% interval over the group's runs.

    Args:
        runs: rows of `read_runs`.
        by: columns whose values make a group; none: all runs are one.
        metrics: columns to be averaged.

    Returns:
        One row a group: ``by``, ``runs`` (completed), ``diverged``, ``others`` (failed or unfinished), and for each
        metric its mean and ``± metric``, which is missing for one run.
    """
    rows = []
    for values, part in _groups(runs, by):
        done = part[part["status"] == "completed"]
        diverged = int((part["status"] == "diverged").sum())
        row = {**values, "runs": len(done), "diverged": diverged, "others": len(part) - len(done) - diverged}
        for metric in metrics:
            estimate = mean(pd.to_numeric(done[metric], errors="coerce"))
            half = estimate.high - estimate.value
            row |= {metric: estimate.value, f"± {metric}": half if np.isfinite(half) else np.nan}
        rows.append(row)
    return pd.DataFrame(rows)


def _groups(runs: pd.DataFrame, by: Sequence[str]) -> list[tuple[dict[str, object], pd.DataFrame]]:
    if not by:
        return [({}, runs)]
    # A missing value, such as that of a setting which another group's choice does not have, makes a group too.
    parts = runs.groupby(list(by), dropna=False, sort=True)
    return [(dict(zip(by, values, strict=True)), part) for values, part in parts]


def written(table: pd.DataFrame, metrics: Sequence[str]) -> str:
    """Lay the result of `grouped` out for a terminal, one ``mean ± half width`` a metric."""
    shown = table.drop(columns=[f"± {metric}" for metric in metrics]).copy()
    for metric in metrics:
        pairs = zip(table[metric], table[f"± {metric}"], strict=True)
        shown[metric] = [_estimate(centre, half) for centre, half in pairs]
    for name in ("diverged", "others"):
        if not shown[name].any():
            shown = shown.drop(columns=name)
    return shown.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:g}")


def _estimate(centre: float, half: float) -> str:
    if np.isnan(centre):
        return "-"
    return f"{centre:.4g}" if np.isnan(half) else f"{centre:.4g} ± {half:.2g}"
