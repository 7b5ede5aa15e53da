from __future__ import annotations

import io
import math

import pytest
import torch

from eoc.dynamics import update_cosines
from eoc.dynamics.update_cosines import UpdateCosines, UpdateGeometry
from eoc.errors import InvalidInput
from eoc.model import MLP

NAN = pytest.approx(math.nan, nan_ok=True)
HALF_ROOT = math.sqrt(0.5)


def follow(cosines: UpdateCosines, updates: list[list[float]]) -> list[UpdateGeometry]:
    """Move a single parameter by each of ``updates`` in turn."""
    result = []
    for update in updates:
        cosines.before_step()
        cosines.parameters[0] += torch.tensor(update)
        result.append(cosines.after_step())
    return result


def training(dtype: torch.dtype, rate: float = 2.0, seed: int = 0):
    """An MLP, its metric, and a gradient step on a fixed batch, at a rate at which the loss moves up and down."""
    generator = torch.Generator().manual_seed(seed)
    net = MLP(6, 3, parameterization="nup", depth=4, width=6, growth=2.0, seed=seed).to(dtype)
    inputs = torch.randn(20, 6, generator=generator).to(dtype)
    targets = torch.randn(20, 3, generator=generator).to(dtype)

    def step() -> None:
        net.zero_grad()
        ((net(inputs) - targets).square().sum() / 40).backward()
        with torch.no_grad():
            for weight, factor in zip(net.weights, net.rates, strict=True):
                weight -= rate * factor * weight.grad

    return net, step


def test_by_hand_in_the_plane():
    # Corners of a walk: right, up, diagonally on, back left.
    steps = follow(UpdateCosines([torch.zeros(2)], [1.0]), [[1, 0], [0, 2], [1, 2], [-1, 0]])
    cumulative = [step.cosines("cumulative")[0].item() for step in steps]
    previous = [step.cosines("previous")[0].item() for step in steps]
    # U = (0,0), (1,0), (1,2), (2,4)
    assert cumulative == [NAN, pytest.approx(0), pytest.approx(1), pytest.approx(-1 / math.sqrt(5))]
    assert previous == [NAN, pytest.approx(0), pytest.approx(2 / math.sqrt(5)), pytest.approx(-1 / math.sqrt(5))]
    assert [step.update.item() for step in steps] == [1, 4, 5, 1]
    assert [step.distance.item() for step in steps] == [0, 1, 5, 20]
    assert [step.cumulative.item() for step in steps] == [0, 0, 5, -2]


def test_layers_are_weighed_by_the_metric():
    # Layer 1 (g = 2) goes on, layer 2 (g = 8) turns back: ⟨Δ, U⟩ = 4/2 − 64/8, ‖Δ‖² = 16/2 + 64/8, ‖U‖² = 1/2 + 64/8.
    first, second = torch.zeros(1), torch.zeros(1)
    cosines = UpdateCosines([first, second], [2.0, 8.0])
    for moves in ((1.0, 8.0), (4.0, -8.0)):
        cosines.before_step()
        first += moves[0]
        second += moves[1]
        geometry = cosines.after_step()
    for kind in ("cumulative", "previous"):
        over_all, layers = geometry.cosines(kind)
        assert layers.tolist() == [1.0, -1.0]
        assert over_all.item() == pytest.approx((2 - 8) / math.sqrt((8 + 8) * (0.5 + 8)))
    over_all, layers = cosines.distance()
    assert layers.tolist() == [5.0, 0.0]
    assert over_all.item() == pytest.approx(math.sqrt(25 / 2))


def test_undefined_is_nan():
    cosines = UpdateCosines([torch.zeros(2)], [1.0])
    start, still, away = follow(cosines, [[1, 1], [0, 0], [1, 0]])
    for kind in ("cumulative", "previous"):
        assert all(value.isnan().all() for value in start.cosines(kind))  # U_0 = 0, and no Δ_{−1}
        assert all(value.isnan().all() for value in still.cosines(kind))  # Δ = 0
    assert away.cosines("cumulative")[0].item() == pytest.approx(HALF_ROOT)
    assert away.cosines("previous")[0].isnan()  # Δ_{t−1} = 0


def test_a_layer_at_rest_is_undefined_alone():
    moving, frozen = torch.zeros(2), torch.ones(3)
    cosines = UpdateCosines([moving, frozen], [1.0, 1.0])
    for _ in range(2):
        cosines.before_step()
        moving += 1
        geometry = cosines.after_step()
    over_all, layers = geometry.cosines("cumulative")
    assert layers.tolist() == [pytest.approx(1), NAN]
    assert over_all.item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("rate_times_curvature", "cumulative", "previous"),
    [(0.5, 1.0, 1.0), (1.5, -1.0, -1.0), (2.5, -1.0, -1.0)],
)
def test_quadratic(rate_times_curvature, cumulative, previous):
    # θ_{t+1} = (1 − ηλ)θ_t: a straight line below 1, a bounce across the minimum above. The second step goes back.
    theta = torch.ones(1, dtype=torch.float64)
    cosines = UpdateCosines([theta], [1.0])
    signs = []
    for _ in range(6):
        cosines.before_step()
        theta -= rate_times_curvature * theta
        geometry = cosines.after_step()
        signs.append(geometry.cosines("cumulative")[0].item())
        if len(signs) > 1:
            assert geometry.cosines("previous")[0].item() == pytest.approx(previous)
    assert signs[1] == pytest.approx(cumulative)
    if rate_times_curvature < 2:  # θ stays on the far side of θ_0 then, and U keeps its direction
        assert signs[2] == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_distance_is_the_sum_of_the_updates_products(dtype):
    net, step = training(dtype)
    cosines = UpdateCosines(list(net.weights), net.rates)
    squares, cross, own, signs = 0.0, 0.0, torch.zeros(4, dtype=torch.float64), set()
    for _ in range(40):
        cosines.before_step()
        step()
        geometry = cosines.after_step()
        squares += geometry.over_all(geometry.update).item()
        cross += geometry.over_all(geometry.cumulative).item()
        own += geometry.update + 2 * geometry.cumulative
        signs.add(geometry.cumulative.sum().sign().item())
    over_all, layers = cosines.distance()
    # Exact for float32 weights too, whose differences float64 holds.
    assert over_all.item() ** 2 == pytest.approx(squares + 2 * cross, rel=1e-10)
    assert layers.square().tolist() == pytest.approx(own.tolist(), rel=1e-10)
    assert signs >= {1.0, -1.0}  # the run has updates of both kinds, so that a wrong sign would show


def test_the_true_difference_is_measured_whatever_the_optimizer():
    net, _ = training(torch.float64)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1, weight_decay=0.1)
    cosines = UpdateCosines(list(net.weights), net.rates)
    trace = [[w.detach().clone() for w in net.weights]]
    for _ in range(4):
        cosines.before_step()
        optimizer.zero_grad()
        net(torch.ones(2, 6, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
        geometry = cosines.after_step()
        trace.append([w.detach().clone() for w in net.weights])
    cumulative, previous = geometry.cosines("cumulative"), geometry.cosines("previous")
    for k in range(4):
        start, before_last, last, now = (trace[t][k].flatten() for t in (0, 2, 3, 4))
        expected = torch.cosine_similarity(now - last, last - start, dim=0)
        assert cumulative[1][k].item() == pytest.approx(expected.item(), rel=1e-12)
        expected = torch.cosine_similarity(now - last, last - before_last, dim=0)
        assert previous[1][k].item() == pytest.approx(expected.item(), rel=1e-12)
    scale = [factor**-0.5 for factor in net.rates]  # A_k/√g_k, where the metric is the plain inner product
    start, last, now = (torch.cat([s * w.flatten() for s, w in zip(scale, trace[t], strict=True)]) for t in (0, 3, 4))
    expected = torch.cosine_similarity(now - last, last - start, dim=0)
    assert cumulative[0].item() == pytest.approx(expected.item(), rel=1e-12)


def test_products_that_float32_rounds_away():
    # ⟨Δ, U⟩ = 4097² − 4096·4098 = 1, but 4097² is odd and above 2²⁴: in float32 the two products are equal.
    cumulative, update = [4097.0, 4096.0], [4097.0, -4098.0]
    assert (torch.tensor(cumulative) * torch.tensor(update)).sum() == 0
    assert follow(UpdateCosines([torch.zeros(2)], [1.0]), [cumulative, update])[1].cumulative.item() == 1.0


def test_updates_whose_squares_float32_cannot_hold():
    tiny = [[1e-25, 0.0], [1e-25, 1e-25]]
    assert torch.tensor(tiny[1]).square().sum() == 0  # in float32 this cosine would be undefined
    geometry = follow(UpdateCosines([torch.zeros(2)], [1.0]), tiny)[1]
    assert geometry.cosines("cumulative")[0].item() == pytest.approx(HALF_ROOT)


def test_measuring_disturbs_nothing():
    (net, step), (bare, bare_step) = training(torch.float32), training(torch.float32)
    state = torch.get_rng_state()
    cosines = UpdateCosines(list(net.weights), net.rates)
    for _ in range(5):
        cosines.before_step()
        step()
        gradients = [w.grad for w in net.weights]
        geometry = cosines.after_step()
        geometry.cosines("cumulative")
        cosines.distance()
        bare_step()
        for ours, gradient, theirs in zip(net.weights, gradients, bare.weights, strict=True):
            assert torch.equal(ours, theirs)
            assert ours.grad is gradient
            assert torch.equal(ours.grad, theirs.grad)
            assert ours.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert not geometry.update.requires_grad


def test_state_continues_with_the_same_values():
    (net, step), (again, again_step) = training(torch.float32), training(torch.float32)
    cosines = UpdateCosines(list(net.weights), net.rates)
    for _ in range(3):
        cosines.before_step()
        step()
        cosines.after_step()
    file = io.BytesIO()
    torch.save({"cosines": cosines.state_dict(), "net": net.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again.load_state_dict(saved["net"])
    restored = UpdateCosines(list(again.weights), again.rates)  # begun late, at the moved weights
    restored.load_state_dict(saved["cosines"])
    for _ in range(3):
        for follower, move in ((cosines, step), (restored, again_step)):
            follower.before_step()
            move()
        ours, theirs = cosines.after_step(), restored.after_step()
        for name in ("update", "distance", "cumulative", "previous", "previous_update", "metric"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
        assert ours.cumulative.all()
        assert ours.previous.all()


def test_state_of_the_very_start():
    cosines = UpdateCosines([torch.zeros(2)], [1.0])
    cosines.load_state_dict(UpdateCosines([torch.zeros(2)], [1.0]).state_dict())
    first, second = follow(cosines, [[1, 0], [1, 0]])
    assert first.previous.isnan()
    assert second.cosines("previous")[0].item() == 1


def test_a_step_that_was_begun_before_a_state_is_loaded_is_not_measured():
    cosines = UpdateCosines([torch.zeros(2)], [1.0])
    state = cosines.state_dict()
    cosines.before_step()
    cosines.load_state_dict(state)
    with pytest.raises(RuntimeError, match="before_step"):
        cosines.after_step()


def test_a_gap_in_the_following_forgets_the_last_update():
    cosines = UpdateCosines([torch.zeros(2)], [1.0])
    follow(cosines, [[1, 0]])
    cosines.parameters[0] += 1  # a step that nobody followed
    cosines.forget_previous()
    (geometry,) = follow(cosines, [[0, 1]])
    assert geometry.cosines("previous")[0].isnan()
    assert geometry.cosines("cumulative")[0].item() == pytest.approx(1 / math.sqrt(5))  # U = (2, 1)


def test_layer_by_layer_is_the_same_as_at_once():
    (net, step), (twin, twin_step) = training(torch.float32), training(torch.float32)
    whole = UpdateCosines(list(net.weights), net.rates)
    layers = UpdateCosines(list(twin.weights), twin.rates)
    for _ in range(4):
        whole.before_step()
        step()
        before = [w.detach().clone() for w in twin.weights]
        twin_step()
        after = [w.detach().clone() for w in twin.weights]
        for k in (2, 0, 3, 1):  # each layer moves by itself, in any order
            twin.weights[k].data.copy_(before[k])
            layers.before_layer(k)
            twin.weights[k].data.copy_(after[k])
            layers.after_layer(k)
        ours, theirs = layers.after_step(), whole.after_step()
        for name in ("update", "distance", "cumulative"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert torch.equal(ours.previous, theirs.previous)
    assert torch.equal(ours.previous_update, theirs.previous_update)


def test_sums_over_pieces_are_those_over_the_whole():
    size = 3 * update_cosines._CPU_CHUNK + 17
    points = [torch.randn(size, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    theta = points[0].clone()
    cosines = UpdateCosines([theta], [1.0])
    for point in points[1:]:
        cosines.before_step()
        theta.copy_(point)
        geometry = cosines.after_step()
    start, last, before, now = (point.double() for point in points)
    assert geometry.update.item() == pytest.approx((now - before).square().sum().item(), rel=1e-13)
    assert geometry.distance.item() == pytest.approx((before - start).square().sum().item(), rel=1e-13)
    assert geometry.cumulative.item() == pytest.approx(((now - before) @ (before - start)).item(), rel=1e-10)
    assert geometry.previous.item() == pytest.approx(((now - before) @ (before - last)).item(), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_copies_of_the_weights_are_kept(dtype):
    net, step = training(dtype)
    cosines = UpdateCosines(list(net.weights), net.rates)
    weights = sum(w.numel() * w.element_size() for w in net.weights)
    for _ in range(3):
        cosines.before_step()
        step()
        cosines.after_step()
        held = [part for name, part in vars(cosines).items() if name not in ("parameters", "_metric")]
        tensors = [t for part in held for t in (part.values() if isinstance(part, dict) else part)]
        assert sum(t.numel() * t.element_size() for t in tensors) == 2 * weights


def test_a_step_is_measured_once():
    cosines = UpdateCosines([torch.zeros(2)], [1.0])
    with pytest.raises(RuntimeError, match="before_step"):
        cosines.after_step()
    follow(cosines, [[1, 0]])
    with pytest.raises(RuntimeError, match="before_step"):
        cosines.after_step()
    layers = UpdateCosines([torch.zeros(2), torch.zeros(2)], [1.0, 1.0])
    layers.before_layer(0)
    with pytest.raises(RuntimeError, match="before_step"):  # of the other layer nothing is known
        layers.after_step()


def test_a_step_begins_where_it_was_last_said_to():
    cosines = UpdateCosines([torch.zeros(2)], [1.0])
    cosines.before_step()
    cosines.parameters[0] += 1  # nobody measured this
    (geometry,) = follow(cosines, [[3, 4]])
    assert geometry.update.item() == 25
    assert geometry.cosines("cumulative")[0].item() == pytest.approx(7 / math.sqrt(50))


def test_one_metric_factor_for_each_layer():
    with pytest.raises(InvalidInput, match=r"metric=\[1.0\] .* one factor for each of 2 layers"):
        UpdateCosines([torch.zeros(1), torch.zeros(1)], [1.0])


def test_no_more_is_taken_than_a_layer_needs(monkeypatch):
    widths, empty = [], torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **kw: widths.append(size[-1]) or empty(*size, **kw))
    cosines = UpdateCosines([torch.zeros(3)], [1.0])
    cosines.before_step()
    cosines.parameters[0] += 1
    cosines.after_step()
    assert max(widths) == 3


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf, torch.ones(3), None])
def test_a_metric_that_is_none(factor):
    with pytest.raises(InvalidInput, match=r"^metric=.* it must be a finite number above 0\.$"):
        UpdateCosines([torch.zeros(1), torch.zeros(1)], [1.0, factor])


def test_no_layers():
    with pytest.raises(InvalidInput, match=r"^parameters=\[\] .* at least one"):
        UpdateCosines([], [])


def test_parameters_and_metric_may_come_one_by_one():
    layer = torch.nn.Linear(2, 1)
    cosines = UpdateCosines(layer.parameters(), iter(torch.tensor([2.0, 8.0])))
    for _ in range(2):
        cosines.before_step()
        with torch.no_grad():
            layer.weight += 1
            layer.bias -= 4
        geometry = cosines.after_step()
    assert geometry.over_all(geometry.update).item() == pytest.approx(2 / 2 + 16 / 8)
    assert geometry.cosines("cumulative")[0].item() == pytest.approx(1)


def test_a_kind_of_cosine_that_there_is_not():
    (geometry,) = follow(UpdateCosines([torch.zeros(2)], [1.0]), [[1, 0]])
    with pytest.raises(InvalidInput, match=r"^kind=cum is not possible: it must be one of cumulative, previous"):
        geometry.cosines("cum")


@pytest.mark.parametrize("size", [1e-150, 1e-85, 1.0, 1e80, 1e150])
def test_updates_whose_products_float64_cannot_hold(size):
    theta = torch.zeros(3, dtype=torch.float64)
    cosines = UpdateCosines([theta], [1.0])
    found = []
    for update in ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [-2.0, 2.0, 0.0]):
        cosines.before_step()
        theta += size * torch.tensor(update, dtype=torch.float64)
        geometry = cosines.after_step()
        found.append([geometry.cosines(kind)[0].item() for kind in ("cumulative", "previous")])
        assert geometry.cosines("cumulative")[1].item() == pytest.approx(found[-1][0], nan_ok=True)
    # U = 0, (1, 0), (2, 1): −2/√(8·5)
    assert found[1:] == [[pytest.approx(HALF_ROOT)] * 2, [pytest.approx(-1 / math.sqrt(10)), pytest.approx(0)]]


def test_an_update_whose_square_float64_cannot_hold_is_undefined():
    theta = torch.zeros(2, dtype=torch.float64)
    cosines = UpdateCosines([theta], [1.0])
    for update in ([1.0, 0.0], [0.0, 1e-170], [0.0, 3e-162], [0.0, 1.0]):
        cosines.before_step()
        theta += torch.tensor(update, dtype=torch.float64)
        geometry = cosines.after_step()
        assert all(value.isnan() for value in geometry.cosines("previous"))  # that of Δ_{t−1} in the end


def test_a_state_says_which_layers_were_followed():
    first, second = torch.zeros(2), torch.zeros(3)
    cosines = UpdateCosines([first, second], [1.0, 1.0])
    cosines.before_layer(1)
    second += 1
    cosines.after_layer(1)
    file = io.BytesIO()
    torch.save(cosines.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state["last"][0] is None
    restored = UpdateCosines([first, second], [1.0, 1.0])
    restored.load_state_dict(state)
    restored.before_step()
    first += 1
    second -= 1
    geometry = restored.after_step()
    previous, cumulative = (geometry.cosines(kind)[1] for kind in ("previous", "cumulative"))
    assert previous.tolist() == [NAN, pytest.approx(-1)]
    assert cumulative.tolist() == [NAN, pytest.approx(-1)]


@pytest.mark.parametrize("known", [True, False])
def test_states_of_before_unknown_layers_were_told_go_on(known):
    points = [torch.full((2,), 3.0), torch.full((3,), 4.0)]
    cosines = UpdateCosines(points, [1.0, 1.0])
    last = [torch.full((2,), 2.0), torch.full((3,), 2.0)] if known else []
    cosines.load_state_dict({"initial": [torch.zeros(2), torch.zeros(3)], "last": last})
    cosines.before_step()
    points[0] += 1
    points[1] -= 1
    geometry = cosines.after_step()
    assert geometry.distance.tolist() == [18, 48]
    assert geometry.cosines("previous")[1].tolist() == pytest.approx([1, -1] if known else [math.nan] * 2, nan_ok=True)


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({}, r"^state=\[\] is not possible: it lacks initial, last\."),
        ({"initial": [torch.ones(2, 3)]}, r"^state=\['initial'\] is not possible: it lacks last\."),
        ({"initial": [torch.ones(3, 2)], "last": []}, r"^state=\[\(3, 2\)\] .* shapes of the layers, \[\(2, 3\)\]"),
        ({"initial": [torch.ones(2, 3)] * 2, "last": []}, r"^state=\[\(2, 3\), \(2, 3\)\] .* the shapes of the layers"),
        ({"initial": [torch.ones(2, 3)], "last": [torch.ones(2)]}, r"^state=\[\(2,\)\] .* the shapes of the layers"),
        ({"initial": [torch.ones(2, 3)], "last": [None, None]}, r"^state=\[None, None\] .* the shapes of the layers"),
    ],
)
def test_a_state_of_other_layers_is_refused(state, complaint):
    cosines = UpdateCosines([torch.zeros(2, 3)], [1.0])
    with pytest.raises(InvalidInput, match=complaint):
        cosines.load_state_dict(state)
    assert cosines.distance()[0].item() == 0
