from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

from eoc.errors import InvalidInput
from eoc.model import Activation, parse_activation

FAMILY = [(0.5, 0.5), (0.0, 1.0), (0.505, 0.495), (0.3, -0.8), (2.0, 0.0), (0.0, 3.0), (0.8, 0.8), (1.0, 1.0)]


@pytest.mark.parametrize(
    ("name", "gain", "delta"),
    [("relu", math.sqrt(2), 0.5), ("abs", 1.0, 1.0), ("leaky_relu", math.sqrt(2 / 1.0001), 0.495**2 / 0.50005)],
)
def test_gain_and_delta_of_named_activations(name, gain, delta):
    # He's gain √(2/(1+α²)) for leaky ReLU of slope α = 0.01 is the same number.
    assert parse_activation(name).gain == pytest.approx(gain, rel=1e-14)
    assert parse_activation(name).delta == pytest.approx(delta, rel=1e-14)


@pytest.mark.parametrize(("a", "b"), FAMILY)
def test_gain_keeps_the_second_moment_of_a_gaussian(a, b):
    # E φ(z)² by Gauss-Hermite quadrature, without the closed form of the gain.
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    moment = (weights * Activation(a, b)(torch.from_numpy(nodes)).numpy() ** 2).sum() / math.sqrt(2 * math.pi)
    assert Activation(a, b).gain ** 2 * moment == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(("a", "b"), FAMILY)
def test_values_and_gradients(a, b):
    s = torch.linspace(-3, 3, 8, dtype=torch.float64, requires_grad=True)
    values = Activation(a, b)(s)
    (gradient,) = torch.autograd.grad(values.sum(), s)
    torch.testing.assert_close(Activation(a, b).derivative(s), gradient, rtol=0, atol=1e-15)
    for x, value, slope in zip(s.tolist(), values.tolist(), gradient.tolist(), strict=True):
        assert value == pytest.approx(a * x + b * abs(x), abs=1e-15)
        assert slope == pytest.approx(a + b * math.copysign(1, x), abs=1e-15)


def test_named_activations_are_the_known_functions():
    s = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(parse_activation("relu")(s), F.relu(s))
    assert torch.equal(parse_activation("abs")(s), s.abs())
    torch.testing.assert_close(parse_activation("leaky_relu")(s), F.leaky_relu(s, 0.01))


@pytest.mark.parametrize(("choice", "slope"), [("relu", 0.0), ("abs", 0.0), ([0.7, 0.3], 0.7)])
def test_derivative_at_zero(choice, slope):
    zero = torch.zeros(1, requires_grad=True)
    assert torch.autograd.grad(parse_activation(choice)(zero).sum(), zero)[0].item() == pytest.approx(slope)
    assert parse_activation(choice).derivative(zero).item() == pytest.approx(slope)


@pytest.mark.parametrize("pair", [[0.3, 0.8], (0.3, 0.8), OmegaConf.create([0.3, 0.8]), Activation(0.3, 0.8)])
def test_pairs(pair):
    assert parse_activation(pair) == Activation(0.3, 0.8)


def test_integers_make_a_pair():
    assert parse_activation([1, 0]).gain == 1.0


@pytest.mark.parametrize(
    "choice",
    ["gelu", "", [1.0], [1, 2, 3], [0, 0], [float("nan"), 1], ["a", 1], [True, 1], 3, None, OmegaConf.create([0, 0])],
)
def test_anything_else_is_refused(choice):
    with pytest.raises(InvalidInput, match=r"^activation=.* it must be relu, abs, leaky_relu, or two numbers \[a, b\]"):
        parse_activation(choice)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_what_has_no_gain_is_no_activation(a, b):
    with pytest.raises(InvalidInput, match=r"activation=\[.*\].*two numbers \[a, b\], not both zero"):
        Activation(a, b)
