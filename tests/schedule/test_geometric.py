"""The geometric rule: closed forms, and a quadratic on which what it does is known."""

from __future__ import annotations

import pytest
import torch

from eoc.errors import InvalidInput, RunFailure
from eoc.schedule import Geometric


@pytest.mark.parametrize("kappa", [0.5, 1.5, 1.9, 2.5, 3.5])
def test_a_quadratic_shrinks_or_grows_by_the_factor_one_minus_kappa(kappa: float) -> None:
    curvatures = torch.tensor([4.0, 1.0, 0.2], dtype=torch.float64)
    theta = torch.ones(3, dtype=torch.float64)
    schedule = Geometric(kappa=kappa)
    for t in range(20):
        schedule.tell(t, sharpness=4.0)
        theta = theta - schedule.rate(t) * curvatures * theta
    expected = (1 - kappa * curvatures / 4.0) ** 20
    torch.testing.assert_close(theta, expected, rtol=1e-12, atol=0)
    assert (theta[0].abs() < 1) == (kappa < 2)


def test_the_product_is_kappa_at_every_probe() -> None:
    schedule = Geometric(kappa=2.2)
    for t, sharpness in enumerate((0.5, 3.0, 1.7, 40.0)):
        schedule.tell(t, sharpness=sharpness)
        assert schedule.rate(t) * sharpness == pytest.approx(2.2, rel=1e-14)


def test_the_sharpness_is_held_between_probes() -> None:
    schedule = Geometric(kappa=2.0, interval=3)
    assert [schedule.needs_sharpness(t) for t in (0, 3, 6)] == [True] * 3
    rates = []
    for t in range(9):
        assert schedule.needs_sharpness(t) == (t % 3 == 0)
        if t % 3 == 0:
            schedule.tell(t, sharpness=1.0 + t)
            assert schedule.needs_sharpness(t)  # who asks behind `tell` learns that it was wanted
        rates.append(schedule.rate(t))
    assert rates == [2.0] * 3 + [0.5] * 3 + [2.0 / 7.0] * 3


def test_a_missing_probe_is_an_error_and_can_be_made_up_for() -> None:
    schedule = Geometric(kappa=2.0, interval=3)
    with pytest.raises(RunFailure, match="rate of step 0 needs the sharpness of step 0"):
        schedule.rate(0)
    schedule.tell(0, sharpness=1.0)
    assert schedule.rate(2) == 2.0
    with pytest.raises(RunFailure, match=r"rate of step 4 needs the sharpness of step 3.*tell\(3, sharpness"):
        schedule.rate(4)
    assert schedule.needs_sharpness(4)
    schedule.tell(4, sharpness=4.0)
    assert schedule.rate(4) == schedule.rate(5) == 0.5
    assert not schedule.needs_sharpness(5)


def test_smoothing_two_removes_a_bounce_of_period_two() -> None:
    smooth, raw = Geometric(kappa=2.5, smoothing=2), Geometric(kappa=2.5)
    seen = []
    for t in range(12):
        sharpness = 1.0 + 0.25 * (-1) ** t
        smooth.tell(t, sharpness=sharpness)
        raw.tell(t, sharpness=sharpness)
        seen.append((smooth.rate(t), raw.rate(t)))
    assert seen[0] == (2.0, 2.0)
    assert all(pair[0] == 2.5 for pair in seen[1:])
    assert [pair[1] for pair in seen[1:3]] == [2.5 / 0.75, 2.0]


@pytest.mark.parametrize(("interval", "rates"), [(2, {2.0}), (3, {2.0, 2.5})])
def test_an_even_interval_sees_one_side_of_the_valley_even_when_smoothed(interval: int, rates: set[float]) -> None:
    schedule = Geometric(kappa=2.5, interval=interval, smoothing=2)
    seen = set()
    for t in range(12):
        if schedule.needs_sharpness(t):
            schedule.tell(t, sharpness=1.0 + 0.25 * (-1) ** t)
        seen.add(schedule.rate(t))
    assert seen == rates


def test_smoothing_is_the_mean_of_the_last_probes() -> None:
    schedule = Geometric(kappa=1.0, smoothing=3)
    for t, (sharpness, mean) in enumerate(((1.0, 1.0), (3.0, 2.0), (8.0, 4.0), (1.0, 4.0), (0.0, 4.0), (3.0, 4.0))):
        schedule.tell(t, sharpness=sharpness)
        assert schedule.rate(t) == 1.0 / mean


def test_the_bounds_hold() -> None:
    schedule = Geometric(kappa=2.0, min_rate=0.5, max_rate=2)
    rates = []
    for t, sharpness in enumerate((0.1, 1.0, 2.0, 100.0)):
        schedule.tell(t, sharpness=sharpness)
        rates.append(schedule.rate(t))
    assert rates == [2.0, 2.0, 1.0, 0.5]
    fixed = Geometric(kappa=2.0, min_rate=0.3, max_rate=0.3)
    fixed.tell(0, sharpness=1.0)
    assert fixed.rate(0) == 0.3


def test_a_later_sharpness_that_is_not_positive_leaves_the_rate() -> None:
    schedule = Geometric(kappa=2.0)
    schedule.tell(0, sharpness=4.0)
    for t, sharpness in enumerate((-1.0, 0.0, -1e-9), start=1):
        schedule.tell(t, sharpness=sharpness)
        assert schedule.rate(t) == 0.5
    schedule.tell(4, sharpness=8.0)
    assert schedule.rate(4) == 0.25


def test_the_cooldown_is_a_line_between_its_endpoints() -> None:
    schedule = Geometric(kappa=2.5, cooldown=0.2, cooldown_kappa=0.5, total_steps=50)
    assert [schedule.kappa(t) for t in (0, 20, 39)] == [2.5] * 3
    assert [schedule.kappa(t) for t in range(40, 50)] == pytest.approx([2.5 - 0.2 * i for i in range(1, 11)])
    assert schedule.kappa(49) == schedule.kappa(60) == 0.5
    schedule.tell(0, sharpness=2.0)
    schedule.tell(49, sharpness=2.0)
    assert schedule.rate(49) == 0.25


def test_a_cooldown_of_the_whole_run_and_of_none_of_it() -> None:
    whole = Geometric(kappa=2.0, cooldown=1, cooldown_kappa=1, total_steps=4)
    assert [whole.kappa(t) for t in range(4)] == [1.75, 1.5, 1.25, 1.0]
    none = Geometric(kappa=2.0, cooldown=0.0, cooldown_kappa=1.0, total_steps=4)
    assert [none.kappa(t) for t in range(6)] == [2.0] * 6
    short = Geometric(kappa=2.0, cooldown=0.02, cooldown_kappa=1.0, total_steps=20)  # less than half a step is one
    assert [short.kappa(t) for t in range(20)] == [2.0] * 19 + [1.0]
    rounded = Geometric(kappa=2.0, cooldown=0.29, cooldown_kappa=1.0, total_steps=100)  # 0.29 · 100 is just below 29
    assert rounded.kappa(70) == 2.0 > rounded.kappa(71) == pytest.approx(2 - 1 / 29)


def test_the_source_is_what_it_asks_for_and_one_of_two() -> None:
    assert Geometric().source == "hessian"
    assert Geometric(source="critical").source == "critical"
    with pytest.raises(InvalidInput, match=r"source='?gradient'? .*hessian.*critical"):
        Geometric(source="gradient")


def test_a_sharpness_that_is_told_twice_counts_once() -> None:
    schedule = Geometric(kappa=2.0, smoothing=2)
    schedule.tell(0, sharpness=1.0)
    schedule.tell(1, sharpness=3.0)
    schedule.tell(1, sharpness=3.0)
    assert schedule.rate(1) == 1.0  # 2 over the mean of 1 and 3
