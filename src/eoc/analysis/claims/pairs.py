"""Statistics of pairs: correlations of ranks, and ratios of spreads."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from eoc.analysis.claims.base import Estimate, exact, lone, student


def spread_ratio(pairs: ArrayLike) -> Estimate:
    """Ratio of the second column's standard deviation to the first's, with the 95% interval of Pitman and Morgan.

    Rows are pairs, such as a network's λ_0 at two depths by seed: the interval takes their correlation into account
    (Pitman, "A note on normal correlation", 1939).
    """
    rows = np.asarray(pairs, dtype=float)
    freedom = len(rows) - 2
    if freedom < -1 or rows.shape[1] < 2:
        return exact(np.nan)
    first, second = rows.std(axis=0, ddof=1) if len(rows) > 1 else (np.nan, np.nan)
    value = float(second / first) if first > 0 else float("nan")
    if np.isnan(value) or freedom < 1:
        return exact(np.nan) if np.isnan(value) else lone(value)
    correlation = float(np.corrcoef(rows.T)[0, 1]) if second > 0 else 0.0
    excess = 2 * (1 - correlation**2) * student(freedom) ** 2 / freedom  # K - 1
    reach = float(np.sqrt(1 + excess + np.sqrt(excess**2 + 2 * excess)))  # K + sqrt(K^2 - 1) of the variances
    return Estimate(value, value / reach, value * reach)


def rank_correlation(pairs: np.ndarray) -> float:
    """Spearman's ρ of the two columns of ``pairs``, ties ranked by their mean."""
    first, second = (_ranks(column) for column in np.asarray(pairs, dtype=float).T)
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def partial_rank_correlation(triples: np.ndarray) -> float:
    """Spearman's ρ of the first two columns with the third held fixed."""
    both, first, second = (rank_correlation(triples[:, pair]) for pair in ([0, 1], [0, 2], [1, 2]))
    left = (1 - first**2) * (1 - second**2)
    return float((both - first * second) / np.sqrt(left)) if left > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, of equal values their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
