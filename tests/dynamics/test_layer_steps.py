from __future__ import annotations

import pytest
import torch

from eoc.dynamics.layer_steps import layer_steps
from eoc.model import MLP
from layerwise import loss_at, relative_changes, sphere


def net(**settings) -> MLP:
    return MLP(6, 3, **{"parameterization": "nup", "depth": 4, "width": 5, "growth": 1.0, "seed": 2} | settings)


def step_of(network: MLP, inputs: torch.Tensor, rate: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    residual = torch.ones(len(inputs), 3, dtype=torch.float64)
    gradients = torch.autograd.grad(loss_at(network, inputs, residual), list(network.weights))
    before = [weight.detach().clone() for weight in network.weights]
    moved = zip(before, gradients, network.rates, strict=True)
    return before, [weight - rate * g * gradient for weight, gradient, g in moved]


@pytest.mark.parametrize("rate", [1e-6, 0.3])
def test_sizes_are_those_of_single_layer_steps(rate):
    network, inputs = net().double(), sphere(7, 6)
    before, after = step_of(network, inputs, rate)
    step = layer_steps(network, inputs, before, after)
    expected = relative_changes(network, inputs, torch.ones(7, 3, dtype=torch.float64))
    torch.testing.assert_close(step.preactivations, rate * expected, rtol=1e-6, atol=0)


def test_shares_and_the_whole():
    network, inputs = net().double(), sphere(7, 6)
    before, after = step_of(network, inputs, 0.3)
    step = layer_steps(network, inputs, before, after)
    start = network(inputs)
    for k in range(4):
        mixed = [*before[:k], after[k], *before[k + 1 :]]
        alone = network.preactivations(inputs, mixed)[-1] - start
        assert step.shares[k].item() == pytest.approx(alone.square().mean().sqrt().item(), rel=1e-12)
    whole = network.preactivations(inputs, after)[-1] - start
    assert step.output.item() == pytest.approx(whole.square().mean().sqrt().item(), rel=1e-12)
    # to first order the whole is the sum of the layers' parts, whose sizes bound it
    assert step.output < step.shares.sum() * 1.2


def test_a_step_far_below_float32_resolution_of_the_outputs_is_seen():
    network, inputs = net(), sphere(7, 6).float()
    before = [weight.detach().clone() for weight in network.weights]
    after = [torch.nextafter(weight, torch.full_like(weight, torch.inf)) for weight in before]
    step = layer_steps(network, inputs, before, after)
    assert (step.shares > 0).all()
    assert step.output.dtype == torch.float64
    same = layer_steps(network, inputs, before, before)
    assert same.preactivations.abs().max() == same.output == 0


def test_a_zero_readout_has_no_relative_change():
    network, inputs = net(readout_init="zero").double(), sphere(7, 6)
    before, after = step_of(network, inputs, 0.3)
    assert layer_steps(network, inputs, before, after).preactivations.isnan().tolist() == [False] * 3 + [True]
