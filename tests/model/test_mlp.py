from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eoc.errors import InvalidInput
from eoc.model import MLP

PHI = {
    "relu": lambda s: np.maximum(s, 0),
    "abs": np.abs,
    "leaky_relu": lambda s: np.where(s > 0, s, 0.01 * s),
    (0.3, 0.8): lambda s: np.where(s > 0, 1.1 * s, -0.5 * s),
}
GAIN = {"relu": 2**0.5, "abs": 1.0, "leaky_relu": (2 / 1.0001) ** 0.5, (0.3, 0.8): 1 / 0.73**0.5}


def build(**changes) -> MLP:
    settings = {"parameterization": "nup", "depth": 4, "width": 6, "growth": 1.0} | changes
    return MLP(settings.pop("inputs", 5), settings.pop("outputs", 3), **settings)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("parameterization", ["nup", "ntp"])
def test_forward_by_hand(activation, parameterization):
    net = build(activation=activation, parameterization=parameterization, richness=0.5).double()
    inputs = random(7, 5)
    x, expected = inputs.numpy(), []
    fans = [5, 6, 12, 18]
    for k, weight in enumerate(net.weights):
        gain = 1.0 if k == 0 else GAIN[activation]
        factor = gain / fans[k] if k == 3 and parameterization == "nup" else gain / math.sqrt(fans[k])
        h = x @ weight.detach().numpy().T * (2 * factor if k == 3 else factor)  # richness ½ doubles the readout
        expected.append(h)
        x = PHI[activation](h)
    found = net.preactivations(inputs)
    assert [h.shape[1] for h in found] == [6, 12, 18, 3]
    for h, by_hand in zip(found, expected, strict=True):
        np.testing.assert_allclose(h.detach().numpy(), by_hand, rtol=1e-12, atol=1e-14)
    assert torch.equal(net(inputs), found[-1])


def test_double_computes_in_float64_and_agrees_with_float32():
    inputs = random(7, 5)
    single, double = build(), build().double()
    assert single(inputs.float()).dtype == torch.float32
    assert double(inputs).dtype == torch.float64
    torch.testing.assert_close(single(inputs.float()).double(), double(inputs), rtol=1e-5, atol=1e-6)


def test_positively_homogeneous_and_without_biases():
    net, inputs = build(activation=[0.2, 0.9]).double(), random(7, 5)
    torch.testing.assert_close(net(3 * inputs), 3 * net(inputs))
    assert not net(torch.zeros(1, 5, dtype=torch.float64)).any()
    assert [tuple(p.shape) for p in net.parameters()] == [(6, 5), (12, 6), (18, 12), (3, 18)]


def test_two_layers_are_enough():
    net = build(depth=2)
    assert net.widths == (5, 6, 3)
    assert net.depth == 2
    assert net.layer_names == ("layer_1", "layer_2")


def test_seed_decides_the_weights():
    first, again, other = build(seed=3), build(seed=3), build(seed=4)
    for one, two, three in zip(first.weights, again.weights, other.weights, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)


def test_weights_come_from_a_generator_of_their_own():
    torch.manual_seed(0)
    expected = torch.randn(4)
    torch.manual_seed(0)
    first = build(seed=3)
    assert torch.equal(torch.randn(4), expected)  # the global generator was not consumed
    torch.manual_seed(99)
    assert torch.equal(build(seed=3).weights[1], first.weights[1])  # nor read


def test_parameterization_and_richness_do_not_change_the_draw():
    for changes in ({"parameterization": "sp"}, {"richness": 0.1}, {"activation": "abs"}):
        for one, two in zip(build().weights, build(**changes).weights, strict=True):
            assert torch.equal(one, two)


def test_weights_are_standard_normal():
    entries = build(inputs=400, width=500, depth=3, growth=0.0).weights[0].flatten()
    assert abs(entries.mean().item()) < 4 / math.sqrt(2e5)
    assert entries.var().item() == pytest.approx(1, abs=4 * math.sqrt(2 / 2e5))
    assert (entries**4).mean().item() == pytest.approx(3, abs=4 * math.sqrt(96 / 2e5))


def test_zero_readout_starts_at_zero_and_leaves_the_rest():
    zero, normal = build(readout_init="zero"), build()
    assert not zero(random(7, 5).float()).any()
    assert not zero.weights[-1].any()
    for one, two in zip(list(zero.weights)[:-1], list(normal.weights)[:-1], strict=True):
        assert torch.equal(one, two)


def test_every_weight_gets_a_gradient():
    net = build(activation="abs")
    net(random(7, 5).float()).sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in net.weights)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"inputs": 0}, "inputs=0 is not possible: it must be an integer of at least 1."),
        ({"outputs": 0}, "outputs=0 is not possible: it must be an integer of at least 1."),
        ({"depth": 1}, "depth=1 is not possible: it must be an integer of at least 2."),
        ({"width": 0}, "width=0 is not possible: it must be an integer of at least 1."),
        ({"width": 1.5}, "width=1.5 is not possible: it must be an integer of at least 1."),
        ({"growth": -1.0}, "growth=-1.0 is not possible: it must be a finite number of at least 0."),
        ({"parameterization": "np"}, "parameterization=np is not possible: it must be one of nup,"),
        ({"activation": "tanh"}, "activation=tanh is not possible: it must be relu,"),
        ({"richness": 0.0}, "richness=0.0 is not possible: it must be a finite number above 0."),
        ({"readout_init": "ones"}, "readout_init=ones is not possible: it must be one of normal, zero."),
        ({"seed": -1}, "seed=-1 is not possible: it must be an integer of at least 0 and of at most 4294967295."),
        ({"seed": 2**32}, "seed=4294967296 is not possible:"),
    ],
)
def test_refusals(changes, complaint):
    with pytest.raises(InvalidInput) as caught:
        build(**changes)
    assert str(caught.value).startswith(complaint)
