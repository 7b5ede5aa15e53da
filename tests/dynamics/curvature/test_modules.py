"""Any module may be probed, and nothing of it changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from dynamics.curvature.problems import mse, small_problem
from eoc.dynamics.curvature import (
    CurvatureTracker,
    GaussNewtonOperator,
    HessianOperator,
    LayerCurvature,
    TangentKernelOperator,
    critical_sharpness,
    top_eigenpairs,
)
from eoc.dynamics.curvature.derivatives import Parts
from eoc.errors import InvalidInput

APPLY = HessianOperator._apply


def batch_normalized() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, 3))


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_buffers_modes_and_random_state_are_put_back() -> None:
    _, x, y = small_problem(dtype=torch.float32)
    module = batch_normalized().train()
    buffers, before = dict(module.named_buffers()), snapshot(module)
    state = torch.get_rng_state()
    operator = HessianOperator(
        lambda a, b: mse(module(a), b), list(module.parameters()), [(x[:12], y[:12]), (x[12:], y[12:])], module=module
    )
    first = operator(torch.ones(1, operator.size))
    assert torch.equal(operator(torch.ones(1, operator.size)), first)  # the same dropout masks every time
    critical_sharpness(
        lambda a, b: mse(module(a), b),
        list(module.parameters()),
        [torch.ones_like(p) for p in module.parameters()],
        [(x, y)],
        0.1,
        module=module,
    )
    assert all(m.training for m in module.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(buffer is buffers[name] for name, buffer in module.named_buffers())


@pytest.mark.parametrize("kind", [GaussNewtonOperator, TangentKernelOperator])
def test_the_other_operators_put_buffers_back_too(kind) -> None:
    _, x, y = small_problem(dtype=torch.float32)
    module = batch_normalized().train()
    before, state = snapshot(module), torch.get_rng_state()
    functions = (module, mse) if kind is GaussNewtonOperator else (module,)
    operator = kind(*functions, list(module.parameters()), [(x[:12], y[:12]), (x[12:], y[12:])], module=module)
    first = operator(torch.ones(1, operator.size))
    assert torch.equal(operator(torch.ones(1, operator.size)), first)  # the same dropout masks every time
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_probe_between_forward_and_backward_leaves_the_step_alone() -> None:
    _, x, y = small_problem(dtype=torch.float32)

    def gradient(probed: bool) -> list[torch.Tensor]:
        module = batch_normalized().train()
        loss = mse(module(x), y)
        if probed:
            operator = HessianOperator(
                lambda a, b: mse(module(a), b), list(module.parameters()), [(x, y)], module=module
            )
            top_eigenpairs(operator, max_products=8)
        loss.backward()
        return [p.grad for p in module.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(gradient(True), gradient(False), strict=True))


def test_gradient_comes_with_the_graph() -> None:
    _, x, y = small_problem()
    module = batch_normalized().double().eval()
    operator = HessianOperator(lambda a, b: mse(module(a), b), list(module.parameters()), [(x, y)])
    expected = torch.autograd.grad(mse(module(x), y), list(module.parameters()))
    for found, exact in zip(operator.gradient(), expected, strict=True):
        torch.testing.assert_close(found, exact)
        found.zero_()  # it is the caller's: the graph keeps its own
    for found, exact in zip(operator.gradient(), expected, strict=True):
        torch.testing.assert_close(found, exact)
    halves = HessianOperator(
        lambda a, b: mse(module(a), b), list(module.parameters()), [(x[:9], y[:9]), (x[9:], y[9:])]
    )
    with pytest.raises(InvalidInput, match=r"batches=2 .* a single chunk only"):
        halves.gradient()  # and not that of the first


def test_layers_are_the_diagonal_blocks() -> None:
    _, x, y = small_problem()
    module = batch_normalized().double().eval()
    parameters = list(module.parameters())
    operator = HessianOperator(lambda a, b: mse(module(a), b), parameters, [(x, y)], [2.0, 1.0, 1.0, 1.0, 3.0, 1.0])
    dense = operator(torch.eye(operator.size, dtype=torch.float64))
    layers = LayerCurvature({"first": [0, 1], "last": [4, 5]}, tolerance=1e-6)
    found = layers.probe(operator)
    ends = torch.tensor([0, *[p.numel() for p in parameters]]).cumsum(0).tolist()
    for name, first, last in [("first", ends[0], ends[2]), ("last", ends[4], ends[6])]:
        exact = torch.linalg.eigvalsh(dense[first:last, first:last])[-1]
        torch.testing.assert_close(found[name].values[0], exact)
    other = LayerCurvature({"first": [0, 1], "last": [4, 5]}, tolerance=1e-6, seed=3)
    other.load_state_dict(layers.state_dict())
    assert torch.equal(other.probe(operator)["last"].vectors, layers.probe(operator)["last"].vectors)


def test_a_layers_probe_puts_buffers_back() -> None:
    _, x, y = small_problem(dtype=torch.float32)
    module = batch_normalized().train()
    before, state = snapshot(module), torch.get_rng_state()
    operator = HessianOperator(lambda a, b: mse(module(a), b), list(module.parameters()), [(x, y)], module=module)
    LayerCurvature({"first": [0, 1], "last": [4, 5]}, max_products=8).probe(operator)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_every_layer_is_followed_as_it_was_said() -> None:
    layers = LayerCurvature({"a": [0], "b": [1]}, tolerance=1e-2, guards=2, max_products=50, seed=3, caution=4.0)
    expected = CurvatureTracker(1, 1e-2, 2, 50, 3, caution=4.0)
    for tracker in layers.trackers.values():
        for name in ("k", "tolerance", "guards", "max_products", "capacity", "caution"):
            assert getattr(tracker, name) == getattr(expected, name)
        assert torch.equal(tracker.state_dict()["generator"], expected.state_dict()["generator"])


class Tripled(torch.autograd.Function):
    """A function whose derivative looks at its argument, which several vectors at once do not allow."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return 3 * x

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return Tripled.apply(gradient) if gradient.sum().item() else 0 * gradient


@pytest.mark.parametrize("apply", [torch.sin, Tripled.apply], ids=["in one pass", "one by one"])
def test_several_vectors_in_one_pass_are_those_of_one_after_the_other(
    apply: Callable[[torch.Tensor], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, x, y = small_problem()
    module = batch_normalized().train().double()
    operator = HessianOperator(
        lambda a, b: mse(apply(module(a)), b), list(module.parameters()), [(x, y)], module=module
    )
    rows = torch.randn(11, operator.size, dtype=torch.float64)  # more than go in one pass
    one_by_one = operator(rows)
    monkeypatch.setattr(HessianOperator, "_waits", lambda self: True)  # noqa: ARG005
    calls = []

    def counted(self: HessianOperator, graph: object, v: list[torch.Tensor], *, together: bool = False) -> Parts:
        calls.append(together)
        return APPLY(self, graph, v, together=together)

    monkeypatch.setattr(HessianOperator, "_apply", counted)
    assert torch.allclose(operator(rows), one_by_one, rtol=1e-12, atol=1e-14)
    assert calls == [True, True] if apply is torch.sin else calls == [True] + 11 * [False]
