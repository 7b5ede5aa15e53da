"""What `eoc.model.parameterization` says of convolutions, measured on small ReLU networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eoc.data import digits
from eoc.model import Sizes, scaling
from layerwise import sphere

CHANNELS, WINDOW, SIDE, IMAGES, SEEDS = 24, 3, 8, 8, 20


def images(*, noise: bool) -> Tensor:
    """Images of one channel, ‖x‖² = m_0."""
    pixels = sphere(IMAGES, SIDE**2) if noise else digits().train_inputs[:IMAGES].double()
    return pixels.view(IMAGES, 1, SIDE, SIDE)


def measured(
    name: str, depth: int, *, pooled: bool, noise: bool, padding: str = "circular", torchs_fan_out: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """E h² of the convolutions and K_k/η = g_k·‖∂f/∂A_k‖² of every layer, in the mean over images and seeds."""
    channels = [1, *[CHANNELS] * (depth - 1)]
    read = CHANNELS * (1 if pooled else SIDE**2)
    common = {"readout_fan_in": read, "hidden_layers": depth - 1, "depth": depth}
    gains, area = [1.0, *[math.sqrt(2)] * (depth - 1)], WINDOW**2
    factors = [
        scaling(
            name,
            "hidden" if k else "input",
            Sizes(gains[k], channels[k] * area, channels[k + 1] * (area if torchs_fan_out else 1), **common),
        )
        for k in range(depth - 1)
    ]
    factors.append(scaling(name, "readout", Sizes(gains[-1], read, 1, **common)))
    shapes = [(channels[k + 1], channels[k], WINDOW, WINDOW) for k in range(depth - 1)]
    squares, shares = [], []
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        weights = [
            torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
            for shape in [*shapes, (1, read)]
        ]
        x, sizes = images(noise=noise), []
        for weight, factor in zip(weights[:-1], factors[:-1], strict=True):
            border = [WINDOW // 2] * 4
            padded = F.pad(x, border, mode="circular") if padding == "circular" else F.pad(x, border)
            h = F.conv2d(padded, weight) * factor.forward
            sizes.append(h.square().mean().item())
            x = h.relu()
        features = x.mean((2, 3)) if pooled else x.flatten(1)
        outputs = features @ weights[-1].T * factors[-1].forward
        squares.append(sizes)
        for output in outputs:
            gradients = torch.autograd.grad(output, weights, retain_graph=True)
            shares.append([f.rate * g.square().sum().item() for f, g in zip(factors, gradients, strict=True)])
    return np.mean(squares, axis=0), np.mean(shares, axis=0)


def spread(shares: np.ndarray) -> float:
    return shares.max() / shares.min()


@pytest.mark.parametrize("noise", [True, False])
def test_preactivations_keep_their_size_where_windows_are_full(noise):
    squares, _ = measured("nup", 8, pooled=True, noise=noise)
    np.testing.assert_allclose(squares, 1.0, atol=0.25)
    cut, _ = measured("nup", 8, pooled=True, noise=noise, padding="zeros")
    assert 0.3 < cut[-1] < 0.75


@pytest.mark.parametrize("depth", [3, 8])
@pytest.mark.parametrize("noise", [True, False])
def test_shares_of_flattened_maps(depth, noise):
    assert spread(measured("nup", depth, pooled=False, noise=noise)[1]) < 1.5
    shares = measured("mup", depth, pooled=False, noise=noise)[1]
    assert spread(shares[:-1]) < 1.5
    assert shares[-1] / shares[:-1].mean() == pytest.approx(SIDE**2, rel=0.25)


@pytest.mark.parametrize("depth", [3, 8])
@pytest.mark.parametrize("noise", [True, False])
def test_shares_of_pooled_maps_rise_towards_the_readout(depth, noise):
    _, shares = measured("nup", depth, pooled=True, noise=noise)
    assert (np.diff(shares) > 0).all()
    assert 5 < spread(shares) < 35


@pytest.mark.parametrize("depth", [3, 8])
@pytest.mark.parametrize("noise", [True, False])
def test_torchs_fan_out_leaves_the_readout_of_mup_behind(depth, noise):
    _, ours = measured("mup", depth, pooled=True, noise=noise)
    _, theirs = measured("mup", depth, pooled=True, noise=noise, torchs_fan_out=True)
    np.testing.assert_allclose(theirs[:-1], WINDOW**2 * ours[:-1])
    assert theirs[-1] == ours[-1]
    assert 0.35 < ours[-2] / ours[-1] < 1  # the last two layers: alike, or apart by 3 to 9
    assert 3 < theirs[-2] / theirs[-1] < 9
