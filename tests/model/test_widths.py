from __future__ import annotations

import math

import pytest

from eoc.errors import InvalidInput
from eoc.model import hidden_widths, inverse_width_sum


@pytest.mark.parametrize(
    ("depth", "width", "growth", "widths"),
    [
        (2, 7, 2, (7,)),
        (5, 64, 0, (64, 64, 64, 64)),
        (5, 24, 1, (24, 48, 72, 96)),
        (5, 12, 2, (12, 48, 108, 192)),
        (4, 8, 3, (8, 64, 216)),
        (4, 10, 0.5, (10, 14, 17)),  # 14.14, 17.32
        (4, 10, 1.5, (10, 28, 52)),  # 28.28, 51.96: rounded, not cut
    ],
)
def test_profiles(depth, width, growth, widths):
    assert hidden_widths(depth, width, growth) == widths


@pytest.mark.parametrize("depth", [2, 10, 200])
def test_inverse_width_sum(depth):
    assert inverse_width_sum(hidden_widths(depth, 10, 0)) == pytest.approx((depth - 1) / 10)
    harmonic = sum(1 / k for k in range(1, depth))
    assert inverse_width_sum(hidden_widths(depth, 10, 1)) == pytest.approx(harmonic / 10)
    assert inverse_width_sum(hidden_widths(depth, 10, 2)) < math.pi**2 / 60


def test_inverse_width_sum_reaches_its_bound():
    depth, width = 2000, 10
    missing = 1 / (depth - 1)  # Σ_{k ≥ l} 1/k² ≈ 1/(l−1)
    bound = (math.pi**2 / 6 - missing) / width
    assert inverse_width_sum(hidden_widths(depth, width, 2)) == pytest.approx(bound, rel=1e-5)


def test_the_last_layer_may_be_as_wide_as_the_limit():
    assert hidden_widths(3, 10**6, 9.96)[-1] == round(10**6 * 2**9.96) < 10**9  # 996 million
    with pytest.raises(InvalidInput, match=r"^growth=9.97 .* over 1,000,000,000 units"):
        hidden_widths(3, 10**6, 9.97)  # 1,003 million


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((1, 8, 0.0), "depth=1 is not possible: it must be an integer of at least 2."),
        ((2.0, 8, 0.0), "depth=2.0 is not possible: it must be an integer of at least 2, written without point or"),
        ((True, 8, 0.0), "depth=true is not possible: it must be an integer of at least 2."),
        (("3", 8, 0.0), "depth=3 is not possible: it must be an integer of at least 2, and no text in quotes."),
        ((3, 0, 0.0), "width=0 is not possible: it must be an integer of at least 1."),
        ((3, 8, -0.1), "growth=-0.1 is not possible: it must be a finite number of at least 0."),
        ((3, 8, math.inf), "growth=inf is not possible: it must be a finite number of at least 0."),
        ((3, 8, math.nan), "growth=nan is not possible: it must be a finite number of at least 0."),
        ((10_001, 8, 0.0), "depth=10001 is not possible: it must be an integer of at most 10000."),
        ((9, 8, 1e4), "growth=10000.0 is not possible: at depth=9, width=8 the last hidden layer would have over 1"),
        ((3, 2 * 10**9, 0.0), "width=2000000000 is not possible: it must be an integer of at most 1000000000."),
    ],
)
def test_refusals(arguments, complaint):
    with pytest.raises(InvalidInput) as caught:
        hidden_widths(*arguments)
    assert str(caught.value).startswith(complaint)
