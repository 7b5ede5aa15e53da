"""The feedback on the cosine: closed forms, and a toy in which it finds the edge of stability by itself."""

from __future__ import annotations

import math

import pytest
import torch

from eoc.errors import InvalidInput, RunFailure
from eoc.schedule import Alignment


def test_the_log_of_the_rate_is_the_sum_of_the_errors() -> None:
    schedule = Alignment(1.5, "inverse_sharpness", target=-0.1, gain=0.2)
    schedule.tell(0, sharpness=3.0)
    cosines = [math.nan, 0.9, 0.4, -0.3, -0.1]
    for t, cosine in enumerate(cosines):
        total = sum(c + 0.1 for c in cosines[1:t])
        assert schedule.rate(t) == pytest.approx(0.5 * math.exp(0.2 * total), rel=1e-14)
        schedule.tell(t, cosine=cosine)
    assert schedule.rate(5) == schedule.rate(5)


@pytest.mark.parametrize("undefined", [None, math.nan])
def test_an_undefined_cosine_leaves_the_rate(undefined: float | None) -> None:
    schedule = Alignment(1.0, "absolute", target=0.0, gain=1.0)
    schedule.tell(0, cosine=0.5)
    for t in range(1, 4):
        schedule.tell(t, cosine=undefined)
        assert schedule.rate(t + 1) == math.exp(0.5)


def test_on_target_nothing_moves() -> None:
    schedule = Alignment(0.8, "absolute", target=-0.25, gain=5.0)
    for t in range(10):
        schedule.tell(t, cosine=-0.25)
    assert schedule.rate(10) == 0.8


def test_a_rate_that_leaves_all_bounds_is_no_error() -> None:
    schedule = Alignment(2.0, "absolute", target=0.0, gain=1e6)
    schedule.tell(0, cosine=None)
    schedule.tell(1, cosine=1.0)
    assert schedule.rate(2) == math.inf
    schedule = Alignment(2.0, "absolute", target=0.0, gain=1e6, max_rate=3.0)
    schedule.tell(0, cosine=1.0)
    assert schedule.rate(1) == 3.0


def test_a_cosine_counts_once() -> None:
    schedule = Alignment(1.0, "absolute", target=0.0, gain=1.0)
    schedule.tell(0, cosine=None)
    for _ in range(3):
        schedule.tell(1, cosine=1.0)
    assert schedule.rate(2) == math.e


@pytest.mark.parametrize("cosine", [1.1, -1.00001, math.inf, -math.inf])
def test_what_is_no_cosine_is_refused(cosine: float) -> None:
    schedule = Alignment(1.0, "absolute", target=0.0, gain=1.0)
    with pytest.raises(InvalidInput, match=rf"^cosine={cosine} is not possible: it must be in \[-1, 1\], or None"):
        schedule.tell(0, cosine=cosine)
    schedule.tell(0, cosine=1 + 1e-9)  # rounding
    assert schedule.rate(1) == pytest.approx(math.e)


def test_a_missing_cosine_is_an_error() -> None:
    schedule = Alignment(1.0, "absolute")
    assert schedule.rate(0) == 1.0
    with pytest.raises(RunFailure, match="rate of step 1 needs the cosine of step 0"):
        schedule.rate(1)


def test_the_bounds_hold_in_the_unit_of_the_rate_and_do_not_wind_up() -> None:
    schedule = Alignment(1.0, "inverse_sharpness", target=0.0, gain=math.log(2), min_rate=0.5, max_rate=3.0)
    schedule.tell(0, sharpness=10.0)
    rates = [schedule.rate(0)]
    for t, cosine in enumerate((1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 1.0)):
        schedule.tell(t, cosine=cosine)
        rates.append(schedule.rate(t + 1))
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.15, 0.075, 0.05, 0.1], rel=1e-14)
    assert Alignment(1.0, "absolute", max_rate=0.5).rate(0) == 0.5


def test_a_run_that_goes_on_with_another_rate_is_scaled_by_as_much() -> None:
    before = Alignment(1.0, "absolute", gain=0.5)
    for t in range(3):
        before.tell(t, cosine=0.8)
    same, slower = Alignment(1.0, "absolute", gain=0.5), Alignment(0.01, "absolute", gain=0.5)
    for after in (same, slower):
        after.load_state_dict(before.state_dict())
    assert same.rate(3) == before.rate(3) != 1.0
    assert slower.rate(3) == pytest.approx(0.01 * before.rate(3), rel=1e-12)


@pytest.mark.parametrize("start", [0.05, 1.0])
def test_on_a_steep_and_narrow_valley_it_holds_the_rate_at_the_edge(start: float) -> None:
    """Walls log cosh on a slope: gradient descent on log cosh starts to bounce at a rate of 2."""
    theta = torch.tensor([0.3, 0.0], dtype=torch.float64)
    origin = theta.clone()
    schedule = Alignment(start, "absolute", target=0.0, gain=0.1)
    late = []
    for t in range(600):
        eta = schedule.rate(t)
        update = -eta * torch.stack([torch.tanh(theta[0]), torch.tensor(-0.01, dtype=torch.float64)])
        travelled = theta - origin
        norms = (update.norm() * travelled.norm()).item()
        schedule.tell(t, cosine=update.dot(travelled).item() / norms if norms > 0 else None)
        theta = theta + update
        late.append(eta)
    assert 1.9 < min(late[300:]) <= max(late[300:]) < 2.6
