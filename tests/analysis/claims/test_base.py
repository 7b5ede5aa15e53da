"""The statistics and verdicts, against closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eoc.analysis.claims.base import (
    FAILS,
    HOLDS,
    PARTLY,
    UNDECIDED,
    UNKNOWN,
    Estimate,
    bootstrap,
    by_setting,
    judge,
    late,
    line,
    mean,
    ratio,
    share,
    slope,
    slopes,
    worst,
)

NAN = float("nan")


@pytest.mark.parametrize("count", [2, 3, 8, 11, 12, 40])
def test_the_interval_of_a_mean_is_students(count):
    values = np.random.default_rng(count).normal(3.0, 2.0, count)
    measured = mean(values)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert measured.value == pytest.approx(values.mean())
    assert (measured.low, measured.high) == pytest.approx((low, high), rel=3e-3)


def test_undefined_values_are_left_out_and_one_value_has_no_interval():
    assert mean([1.0, NAN, 3.0]).value == 2.0
    assert str(mean([2.0, NAN])) == "2"
    assert np.isnan(mean([NAN]).value)


def test_what_diverged_is_not_left_out_of_a_mean():
    assert mean([1.0, np.inf]).value == np.inf
    assert str(ratio([1.1, 1.2, np.inf])) == "inf"


def test_a_ratio_of_0_is_none_of_infinity():
    assert ratio([0.0, 0.5]).value == 0.0
    assert ratio([0.0, np.inf, 0.5]).value == np.inf


def test_ratios_are_averaged_by_their_logarithms():
    values = np.array([0.2, 0.5, 3.0])
    measured = ratio([*values, NAN])
    low, high = stats.t.interval(0.95, 2, loc=np.log(values).mean(), scale=stats.sem(np.log(values)))
    assert measured.value == pytest.approx(0.3 ** (1 / 3))
    assert (measured.low, measured.high) == pytest.approx((np.exp(low), np.exp(high)), rel=3e-3)


@pytest.mark.parametrize(("true", "count"), [(0, 16), (5, 24), (24, 24)])
def test_the_interval_of_a_share_is_clopper_and_pearsons(true: int, count: int):
    measured = share([True] * true + [False] * (count - true))
    expected = stats.binomtest(true, count).proportion_ci(0.95, method="exact")
    assert measured.value == true / count
    assert (measured.low, measured.high) == pytest.approx((expected.low, expected.high))


def test_runs_of_one_network_count_as_one_observation_of_a_share():
    measured = share([True] * 30 + [False] * 10, groups=np.repeat(np.arange(4), 10))
    expected = stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert (measured.value, measured.low, measured.high) == pytest.approx((0.75, expected.low, expected.high))
    mixed = share([True, False] * 20, groups=np.repeat(np.arange(5), 8))  # half of each of five: 2.5 of 5
    assert mixed.value == 0.5
    assert mixed.low + mixed.high == pytest.approx(1.0)
    assert share([True] * 2 + [False] * 3).low < mixed.low < share([True] * 3 + [False] * 2).low


def test_a_setting_with_more_seeds_weighs_no_more():
    cells = pd.DataFrame({"depth": [3, 3, 3, 6], "rate": [1.0] * 3 + [NAN], "seed": [0, 1, 2, 0], "y": [1.0, 2, 3, 6]})
    assert by_setting(cells, "y", ["depth", "rate"]).tolist() == [2.0, 6.0]


def test_an_exponent_is_found_exactly():
    depth = np.array([3.0, 5.0, 9.0, 17.0])
    assert slope(depth, 0.7 * depth**-1.5) == pytest.approx(-1.5)
    assert np.isnan(slope([3.0, 3.0], [1.0, 2.0]))
    assert slope([1, 2, 4], [1.0, NAN, 16.0]) == pytest.approx(2.0)
    cells = pd.DataFrame({"seed": [0, 0, 1, 1], "l": [1, 2, 1, 2], "y": [1.0, 2.0, 1.0, 8.0]})
    assert slopes(cells, "l", "y").value == pytest.approx(2.0)  # of exponents 1 and 3


def test_the_slope_of_a_line_and_its_interval_are_those_of_the_regression():
    generator = np.random.default_rng(2)
    x = np.repeat([1.0, 2.0, 3.0, 5.0], 3)
    y = 0.5 * x + generator.normal(0, 0.3, 12)
    fit = stats.linregress(x, y)
    half = stats.t.ppf(0.975, 10) * fit.stderr
    measured = line(x, y)
    assert measured.value == pytest.approx(fit.slope)
    assert (measured.low, measured.high) == pytest.approx((fit.slope - half, fit.slope + half), rel=1e-3)
    assert np.isnan(line([1, 1], [2, 3]).value)
    assert str(line([1, 2], [2, 4])) == "2"


def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        measured = bootstrap(generator.normal(0, 1, (30, 1)), np.mean, draws=300, seed=seed)
        covered += measured.low <= 0.0 <= measured.high
    assert 0.88 <= covered / 200 <= 0.99


def test_seeds_of_one_setting_are_no_further_settings():
    generator = np.random.default_rng(3)
    settings = np.repeat(generator.normal(0, 1, 20), 30)[:, None]  # 20 settings, 30 seeds that agree
    alone = bootstrap(settings, np.mean)
    grouped = bootstrap(settings, np.mean, groups=np.repeat(np.arange(20), 30))
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(30**0.5, rel=0.1)


def test_one_seed_has_no_interval():
    found = bootstrap(np.array([[3.0]]), np.mean)
    assert found.value == 3.0
    assert (found.low, found.high) == (-np.inf, np.inf)  # nothing is known of its error


@pytest.mark.parametrize("one", [mean([0.0]), ratio([1.0]), line([1, 2], [0, 0])], ids=["mean", "ratio", "line"])
def test_one_value_alone_cannot_hold_nor_fail(one):
    assert judge(one, one.value - 0.1, one.value + 0.1) == PARTLY
    assert judge(one, one.value + 1.0, one.value + 2.0) == UNDECIDED
    assert str(one) == f"{one.value:.3g}"


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (Estimate(0.0, -0.1, 0.1), HOLDS),
        (Estimate(0.0, NAN, NAN), HOLDS),
        (Estimate(0.1, -0.1, 0.3), PARTLY),  # the interval reaches out
        (Estimate(0.25, 0.15, 0.35), PARTLY),  # within the slack, and the interval reaches in
        (Estimate(0.25, 0.22, 0.28), FAILS),  # within the slack, but the interval excludes it
        (Estimate(0.4, 0.1, 0.7), UNDECIDED),  # the value is off, the interval reaches in
        (Estimate(0.4, 0.3, 0.5), FAILS),
        (Estimate(0.25, NAN, NAN), PARTLY),
        (Estimate(0.4, NAN, NAN), FAILS),
        (Estimate(np.inf, NAN, NAN), FAILS),
        (Estimate(NAN, NAN, NAN), UNKNOWN),
    ],
)
def test_verdicts(measured, verdict):
    assert judge(measured, -0.2, 0.2, slack=0.1) == verdict


def test_the_verdict_of_several():
    assert worst([HOLDS, HOLDS]) == HOLDS
    assert worst([HOLDS, FAILS]) == worst([PARTLY]) == PARTLY
    assert worst([FAILS, FAILS]) == FAILS


def test_late_is_the_last_share():
    assert late([1.0, 2.0, NAN, 4.0]).tolist() == [4.0]
    assert late(np.arange(10), 0.1).tolist() == [9.0]
