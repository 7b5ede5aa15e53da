"""Statistics of pairs against independent implementations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eoc.analysis.claims.base import Estimate
from eoc.analysis.claims.pairs import partial_rank_correlation, rank_correlation, spread_ratio


def test_the_interval_of_a_ratio_of_spreads_covers_it_as_often_as_it_says():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(400):
        common, own = generator.normal(size=(8, 1)), generator.normal(size=(8, 2))
        found = spread_ratio((common + own) * np.array([1.0, 3.0]))
        covered += found.low <= 3.0 <= found.high
    assert 0.925 <= covered / 400 <= 0.975


def test_the_test_of_pitman_and_morgan_decides_whether_an_interval_holds_1():
    # Spreads are equal where sum and difference are uncorrelated: that test and the interval say the same.
    generator = np.random.default_rng(1)
    said = set()
    for _ in range(60):
        rows = generator.normal(size=(8, 2)) * np.array([1.0, 2.0]) + generator.normal(size=(8, 1))
        found = spread_ratio(rows)
        assert found.value == pytest.approx(rows[:, 1].std() / rows[:, 0].std())
        equal = stats.pearsonr(rows.sum(axis=1), rows[:, 0] - rows[:, 1]).pvalue > 0.05
        assert equal == (found.low <= 1.0 <= found.high)
        said.add(equal)
    assert said == {True, False}


def test_a_spread_of_one_or_two_pairs_has_no_interval():
    assert np.isnan(spread_ratio(np.ones((1, 2))).value)
    assert spread_ratio(np.array([[0.0, 0.0], [1.0, 2.0]])) == Estimate(2.0, -np.inf, np.inf)


def test_rank_correlation_is_spearmans_with_ties():
    pairs = np.random.default_rng(0).integers(0, 6, (40, 2))
    assert rank_correlation(pairs) == pytest.approx(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
    assert np.isnan(rank_correlation(np.array([[1, 2], [1, 3]])))
    assert np.isnan(rank_correlation(np.empty((0, 2))))


def test_a_partial_rank_correlation_takes_out_what_a_third_quantity_explains():
    generator = np.random.default_rng(4)
    cause = generator.normal(0, 1, 2000)
    one, other = cause + generator.normal(0, 1, 2000), cause + generator.normal(0, 1, 2000)
    assert rank_correlation(np.stack([one, other], 1)) > 0.4
    assert abs(partial_rank_correlation(np.stack([one, other, cause], 1))) < 0.05
    ranks = [stats.rankdata(column) for column in (one, other, cause)]  # the correlation of what is left of two lines
    left = [rank - np.polyval(np.polyfit(ranks[2], rank, 1), ranks[2]) for rank in ranks[:2]]
    expected = np.corrcoef(*left)[0, 1]
    assert partial_rank_correlation(np.stack([one, other, cause], 1)) == pytest.approx(expected)
