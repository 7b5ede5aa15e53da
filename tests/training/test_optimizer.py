"""The layerwise step against torch's own, and what watching it holds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eoc.dynamics.update_cosines import UpdateCosines
from eoc.training.optimizer import LayerwiseSGD

RATES = [0.3, 0.05, 0.7]


def weights() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, n + 3, generator=generator).requires_grad_() for n in (33, 20, 7)]


def loss(parameters: list[Tensor]) -> Tensor:
    return sum((p.sin() * (k + 1)).square().sum() for k, p in enumerate(parameters))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("closure", [False, True])
def test_a_watched_step_is_torchs_step_bit_for_bit(momentum: float, closure: bool) -> None:
    ours, theirs = weights(), weights()
    optimizer = LayerwiseSGD(ours, RATES, momentum)
    groups = [{"params": [w], "lr": rate} for w, rate in zip(theirs, RATES, strict=True)]
    reference = torch.optim.SGD(groups, momentum=momentum)
    cosines, plain = UpdateCosines(ours, RATES), UpdateCosines(theirs, RATES)

    def compute() -> Tensor:
        optimizer.zero_grad()
        value = loss(ours)
        value.backward()
        return value

    for step in range(5):
        optimizer.watchers = [cosines] if step != 2 else []  # now and then nobody looks
        reference.zero_grad()
        expected = loss(theirs)
        expected.backward()
        plain.before_step()
        reference.step()
        by_them = plain.after_step()
        if closure:
            assert torch.equal(optimizer.step(compute), expected)
        else:
            compute()
            assert optimizer.step() is None
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert len(optimizer.param_groups) == 3
        if step == 2:
            cosines.forget_previous()
            continue
        by_us = cosines.after_step()
        assert torch.equal(by_us.update, by_them.update)
        assert torch.equal(by_us.cumulative, by_them.cumulative)
        if step in (1, 4):
            assert torch.equal(by_us.previous, by_them.previous)
    states = [found.state_dict()["state"].values() for found in (optimizer, reference)]
    for one, other in zip(*states, strict=True):
        assert momentum == 0 or torch.equal(one["momentum_buffer"], other["momentum_buffer"])


def test_while_the_step_is_taken_one_layer_is_held_beyond_the_two_copies() -> None:
    parameters, held = weights(), []
    optimizer = LayerwiseSGD(parameters, RATES, 0.0)

    class Counting(UpdateCosines):
        def after_layer(self, layer: int) -> None:
            held.append([before.numel() for before in self._before.values()])
            super().after_layer(layer)

    optimizer.watchers = [Counting(parameters, RATES)]
    loss(parameters).backward()
    optimizer.step()
    assert held == [[p.numel()] for p in parameters]
