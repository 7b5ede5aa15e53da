from __future__ import annotations

import math

import pytest
import torch

from eoc.model import LOSSES, cross_entropy, half_squared_error

OUTPUTS = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
TARGETS = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def test_half_of_the_squared_error_summed_over_outputs_and_averaged_over_examples():
    # ‖(1, 1, 0)‖² = 2 and ‖(−1, 0, 0)‖² = 1: 3/2 over two examples, not over six entries.
    assert half_squared_error(OUTPUTS, TARGETS).item() == pytest.approx(0.75)


def test_cross_entropy_in_nats():
    # −log(e²/(e + e² + 1)) and −log ⅓
    expected = (math.log(math.e + math.e**2 + 1) - 2 + math.log(3)) / 2
    assert cross_entropy(OUTPUTS, TARGETS).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_is_a_mean_over_examples(loss):
    one, two = (loss(OUTPUTS[i : i + 1], TARGETS[i : i + 1]) for i in range(2))
    assert loss(OUTPUTS, TARGETS).item() == pytest.approx((one + two).item() / 2, rel=1e-6)


def test_the_names_of_the_config():
    assert LOSSES["mse"] is half_squared_error
    assert LOSSES["cross_entropy"] is cross_entropy
