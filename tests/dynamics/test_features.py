from __future__ import annotations

import math

import pytest
import torch

from eoc.dynamics.features import FeatureChange, kernel_alignment, relative_change
from eoc.errors import InvalidInput
from eoc.model import MLP


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0, -1.0])
def test_scaled_features_change_by_the_scale(scale):
    h = random(6, 4)
    assert relative_change(scale * h, h).item() == pytest.approx(abs(scale - 1), abs=1e-15)


def test_relative_change_by_hand():
    initial, now = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[3.0, 1.0], [2.0, 2.0]])
    assert relative_change(now, initial).item() == pytest.approx(3 / 5)


def test_relative_change_resolves_what_float32_products_cannot():
    h = torch.full((2, 2), 1e-25)  # squares are below the smallest float32
    change = relative_change(2 * h, h)
    assert change.dtype == torch.float64
    assert change.item() == pytest.approx(1.0)


def test_relative_change_from_zero_is_undefined():
    zero = torch.zeros(3, 2)
    assert relative_change(zero, zero).isnan()
    assert relative_change(zero + 1, zero).isnan()  # not infinite


def test_alignment_is_one_under_rotation_scale_and_shift():
    features = random(8, 5)
    rotation = torch.linalg.qr(random(5, 5, seed=1)).Q
    assert kernel_alignment(features, 3 * features @ rotation + random(1, 5, seed=2)).item() == pytest.approx(1)
    assert kernel_alignment(features, torch.cat([features, features], dim=1)).item() == pytest.approx(1)
    assert kernel_alignment(features, features.exp()).item() < 0.99


def test_alignment_of_one_hot_labelings():
    # Two labelings of 6 examples, by half and by remainder modulo 3, are independent: aligned by 0. With themselves: 1.
    # Against one-hot rows (K = I, centred: H), a balanced labeling with c classes of n examples has
    # ⟨H, HKH⟩ = tr(HK) = (n/c)(c−1), ‖H‖² = n−1, ‖HKH‖² = (n/c)²(c−1): CKA = √((c−1)/(n−1)).
    index = torch.arange(6)
    halves, thirds = (torch.nn.functional.one_hot(label).double() for label in (index // 3, index % 3))
    assert kernel_alignment(halves, halves).item() == pytest.approx(1)
    assert kernel_alignment(halves, thirds).item() == pytest.approx(0, abs=1e-15)
    identity = torch.eye(6, dtype=torch.float64)
    assert kernel_alignment(identity, halves).item() == pytest.approx(math.sqrt(1 / 5))
    assert kernel_alignment(thirds, identity).item() == pytest.approx(math.sqrt(2 / 5))


def test_alignment_against_feature_space_formula():
    # ‖YᵀX‖²/(‖XᵀX‖·‖YᵀY‖) with centred columns: the other form of linear CKA (Kornblith et al., eq. 3 and 4).
    first, second = random(9, 4), random(9, 7, seed=1).relu()
    x, y = first - first.mean(0), second - second.mean(0)
    expected = (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    assert kernel_alignment(first, second).item() == pytest.approx(expected.item(), rel=1e-12)


def test_alignment_never_passes_one():
    # Products of the same matrix round differently from its norm: 1 − CKA was -4e-16 for features that had not moved.
    for seed in range(50):
        features = random(30, 7, seed=seed)
        assert 0 <= 1 - kernel_alignment(features, features).item() < 1e-14


def test_alignment_of_constant_features_is_undefined():
    assert kernel_alignment(torch.ones(4, 3), random(4, 3)).isnan()


@pytest.fixture
def probe():
    net = MLP(5, 3, parameterization="nup", depth=4, width=6, growth=1.0).double()
    inputs = random(7, 5)
    return net, FeatureChange(lambda: net.preactivations(inputs), net.phi)


def test_feature_change_starts_at_zero(probe):
    _, features = probe
    change, kernel = features.measure()
    assert change.tolist() == [0.0] * 4
    assert kernel.item() == pytest.approx(0, abs=1e-14)


def test_feature_change_of_scaled_weights(probe):
    # Doubling A_2 doubles h_2, h_3, h_4 (relative change 1) and leaves h_1; kernels are compared up to scale.
    net, features = probe
    with torch.no_grad():
        net.weights[1] *= 2
    change, kernel = features.measure()
    assert change.tolist() == pytest.approx([0, 1, 1, 1])
    assert kernel.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-100, 1e-50, 1e50, 1e100, 1e150])
def test_alignment_does_not_depend_on_the_scale_however_large(scale):
    """Squares of the Gram matrix's entries leave float64 from 1e±77 on."""
    first, second = random(6, 9), random(6, 9, seed=1)
    expected = kernel_alignment(first, second).item()
    assert kernel_alignment(scale * first, second).item() == pytest.approx(expected, rel=1e-12)
    hidden = [first, random(6, 2, seed=2)]
    change = FeatureChange(lambda: hidden, lambda h: h)
    hidden[0] = second * scale
    assert change.measure()[1].item() == pytest.approx(1 - expected, rel=1e-12)
    hidden[0] = second * math.inf
    assert change.measure()[1].isnan()


def test_kernel_change_is_0_at_the_start_and_right_where_it_is_tiny():
    """1 − cos δ of two kernels at an angle δ: there the difference from 1 would be all rounding."""
    features = random(6, 9)
    hidden = [features, random(6, 2, seed=1)]
    change = FeatureChange(lambda: hidden, lambda h: h)
    assert change.measure()[1].item() == 0.0
    flat = features - features.mean(0)
    flat_kernel = flat @ flat.T
    hidden[0] = features * (1 + 1e-9 * torch.arange(9, dtype=torch.float64))
    moved = hidden[0] - hidden[0].mean(0)
    difference = moved @ moved.T - flat_kernel
    along = (difference * flat_kernel).sum() / flat_kernel.square().sum()
    across = (difference - along * flat_kernel).norm() / flat_kernel.norm()
    assert change.measure()[1].item() == pytest.approx(across.square().item() / 2, rel=1e-4)
    assert 0 < change.measure()[1].item() < 1e-16


def test_kernel_change_looks_at_the_last_hidden_layer_behind_its_activation(probe):
    net, features = probe
    inputs = random(7, 5)
    before = net.phi(net.preactivations(inputs)[-2]).detach()
    with torch.no_grad():
        net.weights[2] += random(18, 12, seed=5)
        net.weights[3] += 100  # the readout has no part in it
    after = net.phi(net.preactivations(inputs)[-2]).detach()
    _, kernel = features.measure()
    assert kernel.item() == pytest.approx(1 - kernel_alignment(before, after).item(), abs=1e-14)
    assert kernel.item() > 0.01


def test_measuring_disturbs_nothing(probe):
    net, features = probe
    weights, state = [w.clone() for w in net.weights], torch.get_rng_state()
    change, kernel = features.measure()
    assert not change.requires_grad
    assert not kernel.requires_grad
    assert all(torch.equal(a, b) and a.grad is None for a, b in zip(net.weights, weights, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_first_values_are_kept_where_the_network_writes_over_them():
    hidden = [random(7, 4), random(7, 3)]
    features = FeatureChange(lambda: hidden, torch.relu)
    hidden[0] *= 2
    hidden[1] *= -1
    assert features.measure()[0].tolist() == pytest.approx([1, 2])


def test_state_brings_the_first_values_back(probe):
    net, features = probe
    inputs = random(7, 5)
    state = features.state_dict()
    with torch.no_grad():
        net.weights[1] += random(12, 6, seed=5)
    restored = FeatureChange(lambda: net.preactivations(inputs), net.phi)  # begun late, at the moved weights
    assert restored.measure()[0].tolist() == [0.0] * 4
    restored.load_state_dict(state)
    for ours, theirs in zip(restored.measure(), features.measure(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.any()


def test_an_activation_that_works_in_place_leaves_what_is_kept_and_what_is_given():
    hidden = [random(5, 7), random(5, 2)]
    given = [h.clone() for h in hidden]
    plain, in_place = (FeatureChange(lambda: hidden, torch.nn.ReLU(inplace=each)) for each in (False, True))
    assert in_place.measure()[0].tolist() == [0.0, 0.0]
    hidden[0].add_(random(5, 7, seed=1))
    given[0].add_(random(5, 7, seed=1))
    for ours, theirs in zip(in_place.measure(), plain.measure(), strict=True):
        assert torch.equal(ours, theirs)
    in_place.load_state_dict(in_place.state_dict())
    assert torch.equal(in_place.measure()[0], plain.measure()[0])
    assert all(torch.equal(h, h0) for h, h0 in zip(hidden, given, strict=True))


@pytest.mark.parametrize("layers", [0, 1])
def test_one_layer_has_no_hidden_one(layers):
    with pytest.raises(InvalidInput, match=rf"^preactivations=\[{layers} layers\] .* at least two layers"):
        FeatureChange(lambda: [random(5, 7)] * layers, torch.relu)


def test_whatever_follows_the_examples_counts_as_units():
    maps, others = random(6, 3, 4, 4), random(6, 5, 2, seed=1)  # channels and positions; steps of a sequence
    flat = kernel_alignment(maps.flatten(1), others.flatten(1))
    assert kernel_alignment(maps, others).item() == pytest.approx(flat.item(), rel=1e-14)
    assert relative_change(2 * maps, maps).item() == pytest.approx(1)
    hidden = [maps.clone(), random(6, 2)]
    features = FeatureChange(lambda: hidden, torch.relu)
    hidden[0].add_(random(6, 3, 4, 4, seed=2))
    change, kernel = features.measure()
    assert change[0].item() == pytest.approx((random(6, 3, 4, 4, seed=2).norm() / maps.norm()).item())
    expected = 1 - kernel_alignment(maps.relu().flatten(1), hidden[0].relu().flatten(1))
    assert kernel.item() == pytest.approx(expected.item(), abs=1e-14)
