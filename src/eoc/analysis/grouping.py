"""What sets runs apart, and their metrics by group: means over seeds with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd

from eoc.analysis.claims.base import mean
from eoc.errors import InvalidInput, closest
from eoc.tracking.settings import counts

# Groups whose choice says nothing beside its values: ~callbacks.progress and callbacks=[…] may come to the same.
BUNDLES = ("callbacks", "trainer")


def varying(runs: pd.DataFrame) -> list[str]:
    """Return the settings in which ``runs`` differ, of those that make a run the one that it is (`counts`).

    Left out are those that follow from the choice of their group, those of a callback that follow from one that is
    named before (all are missing where it was removed), and paths that differ by where the run lies.
    """
    return _told(_differing({name: _as_set(runs, name) for name in runs.columns if counts(str(name))}))


def _differing(values: Mapping[str, pd.Series]) -> dict[str, pd.Series]:
    return {name: column for name, column in values.items() if column.nunique() > 1}


def _told(values: Mapping[str, pd.Series]) -> list[str]:
    """Leave out of the settings that differ those that say nothing of their own."""
    found: list[str] = []
    for name in values:
        if name in BUNDLES and not any(other.startswith(f"{name}.") for other in values):
            continue
        if not any(_follows(values[name], values[other]) for other in found if _is_above(other, name)):
            found.append(name)
    return found


def _as_set(runs: pd.DataFrame, name: str) -> pd.Series:
    """The values of a setting in words; one below a path of the run's own ``paths`` group by that path's name."""
    written = runs[name].astype(object)
    words = written.map(repr)
    for row in np.flatnonzero(written.map(lambda value: isinstance(value, str) and "/" in value)):
        value = Path(written.iloc[row])
        above = {place: runs[place].iloc[row] for place in runs.columns if str(place).startswith("paths.")}
        above = {place: path for place, path in above.items() if isinstance(path, str) and value.is_relative_to(path)}
        if above:
            place = max(above, key=lambda each: len(above[each]))
            words.iloc[row] = f"${{{place}}}/{value.relative_to(above[place])}"
    return words


def _is_above(other: str, name: str) -> bool:
    """Whether ``other`` is the choice of the setting's group, or a setting of the same callback."""
    bundle, _, rest = name.partition(".")
    same = bundle == "callbacks" and "." in rest and other.startswith(f"{bundle}.{rest.partition('.')[0]}.")
    return other != name and (other == bundle or same)


def _follows(values: pd.Series, others: pd.Series) -> bool:
    """Whether each value of the other goes with one alone."""
    return int(values.groupby(others).nunique().max()) == 1


def mixed(runs: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """Return the settings, beside the seed, in which runs of one group differ."""
    values = _differing({name: _as_set(runs, name) for name in runs.columns if counts(str(name))})
    found: dict[str, None] = {}
    for _, part in _groups(runs, by):
        inside = {name: column.loc[part.index] for name, column in values.items()}
        found |= dict.fromkeys(_told(_differing(inside)))
    return [name for name in found if name != "seed"]


def repeats(runs: pd.DataFrame) -> int:
    """Count the runs whose settings, the seed included, are those of an earlier one."""
    return int(pd.DataFrame({name: _as_set(runs, name) for name in ("seed", *varying(runs))}).duplicated().sum())


def pooled(runs: pd.DataFrame, by: Sequence[str]) -> str:
    """Say what the means over ``runs``, grouped by ``by``, are taken over beside seeds; nothing if over nothing."""
    others, again = mixed(runs, by), repeats(runs)
    said = [f"over runs that differ in {', '.join(others)} too"] if others else []
    said += [f"{again} of {len(runs)} runs repeat the settings and the seed of another"] if again else []
    return "\n".join(said)


def column(runs: pd.DataFrame, key: str, name: str) -> str:
    """Return ``name`` if the runs have it, or refuse it in the name of the option ``key``."""
    if name not in runs.columns:
        known = [str(each) for each in runs.columns]
        rule = f"the runs differ in {', '.join(varying(runs)) or 'nothing'} and have measured {_measured(runs)}"
        raise InvalidInput(key, name, f"{rule}{closest(name, known)}")
    return name


def numbers(runs: pd.DataFrame, key: str, name: str) -> str:
    """Return ``name`` if it is a column of numbers, or refuse it in the name of the option ``key``.

    Before the first run has completed there are no metrics yet, and that is what is said.
    """
    if name not in runs.columns and not (runs["status"] == "completed").any():
        raise InvalidInput(key, name, "no run has completed yet; python -m eoc.analysis status DIR shows what they do")
    values = runs[column(runs, key, name)].dropna()
    words = [value for value in values if isinstance(value, bool) or not isinstance(value, Real)]
    if words:
        rule = f"its values are no numbers, such as {words[0]}; the runs have measured {_measured(runs)}"
        raise InvalidInput(key, name, rule)
    return name


def _measured(runs: pd.DataFrame) -> str:
    known = [str(each) for each in runs.columns]
    metrics = [each for each in known if "/" in each and not each.startswith("best/") and "/layer_" not in each]
    return ", ".join(metrics) or "nothing yet"


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
