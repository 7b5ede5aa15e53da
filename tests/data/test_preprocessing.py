from __future__ import annotations

import numpy as np
import pytest
import torch

from eoc.data import preprocessing
from eoc.data.preprocessing import encode, normalize
from eoc.errors import InvalidInput


def test_normalize_by_hand():
    train = torch.tensor([[0, 2], [6, 10]], dtype=torch.uint8)  # mean (3, 6); centred (∓3, ∓4), norm 5
    test = torch.tensor([[3, 7], [3, 6]], dtype=torch.uint8)  # centred (0, 1), and the mean itself
    inputs, held_out = normalize(train, test)
    unit = torch.tensor([0.6, 0.8]) * 2**0.5
    assert torch.allclose(inputs, torch.stack([-unit, unit]), rtol=0, atol=1e-7)
    assert torch.allclose(held_out, torch.tensor([[0.0, 2**0.5], [0.0, 0.0]]), rtol=0, atol=1e-7)
    assert inputs.dtype == held_out.dtype == torch.float32


def test_normalize_agrees_with_numpy_in_any_unit_and_any_row_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (23, 7)), rng.integers(0, 256, (11, 7))
    centred = test - train.mean(0)
    expected = centred / np.sqrt((centred**2).mean(1, keepdims=True))
    monkeypatch.setattr(preprocessing, "_ROWS", 4)
    for unit in (1.0, 1.0 / 255.0):
        inputs, held_out = normalize(torch.from_numpy(train * unit), torch.from_numpy(test * unit))
        assert np.allclose(held_out.numpy(), expected, rtol=0, atol=1e-6)
        assert torch.allclose(inputs.double().square().sum(1), torch.full((23,), 7.0).double(), atol=1e-5)


def test_small_differences_of_large_values_are_kept():
    rows = 1e4 + np.random.default_rng(0).random((23, 7))  # float32 holds them, and their mean, to 1e-3
    centred = rows - rows.mean(0)
    expected = centred / np.sqrt((centred**2).mean(1, keepdims=True))
    assert np.allclose(normalize(*2 * (torch.from_numpy(rows),))[0].numpy(), expected, rtol=0, atol=1e-6)


def test_test_examples_do_not_touch_the_training_inputs():
    train, test = torch.rand(9, 4), torch.rand(5, 4)
    assert torch.equal(normalize(train, test)[0], normalize(train, 100.0 * test)[0])


@pytest.mark.parametrize(
    ("target", "rows"),
    [
        ("one_hot", [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]),
        ("centered", [[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]]),
        ("plus_minus", [[-1.0, -1.0, 1.0, -1.0], [1.0, -1.0, -1.0, -1.0]]),
    ],
)
def test_encode(target, rows):
    assert torch.equal(encode(torch.tensor([2, 0]), 4, target), torch.tensor(rows))


def test_encode_refuses_an_unknown_coding():
    with pytest.raises(InvalidInput, match=r"target=two_hot .* one_hot, centered, plus_minus"):
        encode(torch.tensor([0]), 2, "two_hot")
