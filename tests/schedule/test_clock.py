"""Constant, warm-up and cosine decay against their closed forms and PyTorch's own decay."""

from __future__ import annotations

import math

import pytest
import torch

from eoc.schedule import Constant, Cosine, Warmup


def test_constant_is_the_rate_or_the_rate_over_the_initial_sharpness() -> None:
    absolute, relative = Constant(0.3, "absolute"), Constant(0.3, "inverse_sharpness")
    relative.tell(0, sharpness=0.6)
    assert [absolute.rate(t) for t in (0, 1, 1000)] == [0.3] * 3
    assert [relative.rate(t) for t in (0, 1, 1000)] == [0.5] * 3


def test_warmup_rises_linearly_and_stays() -> None:
    schedule = Warmup(2, "inverse_sharpness", warmup_steps=4)
    schedule.tell(0, sharpness=4.0)
    assert [schedule.rate(t) for t in range(6)] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_no_warmup(warmup_steps: int) -> None:
    assert Warmup(2.0, "absolute", warmup_steps).rate(0) == 2.0
    assert Cosine(2.0, "absolute", 10, warmup_steps).rate(0) == 2.0


def test_cosine_at_its_named_points() -> None:
    schedule = Cosine(2.0, "absolute", total_steps=24, warmup_steps=4, final_fraction=0.1)
    assert [schedule.rate(t) for t in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert schedule.rate(14) == pytest.approx(2.0 * 0.55, rel=1e-12)
    assert schedule.rate(9) == pytest.approx(2.0 * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2), rel=1e-12)
    assert schedule.rate(24) == pytest.approx(0.2, rel=1e-12)
    assert schedule.rate(500) == schedule.rate(24)


def test_the_last_step_of_a_decay_to_zero_still_moves() -> None:
    schedule = Cosine(1.0, "absolute", total_steps=10)
    assert 0 < schedule.rate(9) < 0.03
    assert schedule.rate(10) == pytest.approx(0, abs=1e-15)


def test_cosine_agrees_with_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=3.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.6)
    ours = Cosine(3.0, "absolute", total_steps=20, final_fraction=0.2)
    for t in range(20):
        assert ours.rate(t) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_beyond_its_length_a_decay_stays_down() -> None:
    schedule = Cosine(rate=1.0, unit="absolute", total_steps=10, final_fraction=0.1)
    assert [schedule.rate(step) for step in (10, 13, 20)] == pytest.approx([0.1] * 3)
