"""What a researcher's own model and loop may hand to the operators, and what is refused in one sentence."""

from __future__ import annotations

import copy
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dynamics.curvature.problems import mse, network, small_problem
from eoc.dynamics.curvature import (
    CurvatureTracker,
    GaussNewtonOperator,
    HessianOperator,
    LayerCurvature,
    NonFiniteCurvature,
    TangentKernelOperator,
    critical_sharpness,
    spectral_density,
    top_eigenpairs,
    trace,
)
from eoc.errors import InvalidInput

FORWARD = network(torch.relu, (0.4, 0.5, 0.5))


def dense(operator: Any) -> Tensor:
    return operator(torch.eye(operator.size, dtype=operator.dtype))


def refused(build: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        build()


def test_a_tensor_listed_twice_would_count_twice() -> None:
    weights, x, y = small_problem()
    batches = [(x, y)]

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return mse(FORWARD(weights, a), b)

    refused(lambda: HessianOperator(loss, [*weights, weights[0]], batches), "listed twice")
    slopes = torch.autograd.grad(loss(x, y), weights)
    twice = [*weights, weights[0]]
    refused(lambda: critical_sharpness(loss, twice, [*slopes, slopes[0]], batches, 1.0), "listed twice")
    layers = LayerCurvature({"first": [0, 0]})
    refused(lambda: layers.probe(HessianOperator(loss, weights, batches)), "listed twice")
    refused(lambda: HessianOperator(loss, weights, batches).block([3]), "between 0 and 2")


def test_parameters_that_the_model_does_not_use_are_refused_instead_of_flat() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    _, x, y = small_problem()
    others, ones = list(copy.deepcopy(model).parameters()), torch.ones(1, 53, dtype=torch.float64)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return mse(model(a), b)

    refused(lambda: HessianOperator(loss, others, [(x, y)])(ones), "nothing depends on them")
    without = torch.no_grad()(loss)
    refused(lambda: HessianOperator(without, list(model.parameters()), [(x, y)])(ones), "gradients switched on")
    refused(lambda: GaussNewtonOperator(model, mse, others, [(x, y)])(ones), "nothing depends on them")
    refused(lambda: TangentKernelOperator(model, others, [(x, y)]), "nothing depends on them")
    computed = [p * 1.0 for p in model.parameters()]
    refused(lambda: HessianOperator(loss, computed, [(x, y)]), "leaf")


def test_parameters_exchanged_below_an_operator_are_noticed() -> None:
    model = nn.Linear(6, 3).double()
    _, x, y = small_problem()
    operator = HessianOperator(lambda a, b: mse(model(a), b), list(model.parameters()), [(x, y)], module=model)
    ones = torch.ones(1, operator.size, dtype=torch.float64)
    operator(ones)
    model.load_state_dict({name: 2 * p.detach() for name, p in model.named_parameters()}, assign=True)
    refused(lambda: operator(ones), "nothing depends on them")


def test_modes_and_buffers_of_the_module_are_followed() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    _, x, y = small_problem()

    def operator() -> HessianOperator:
        return HessianOperator(lambda a, b: mse(model(a), b), list(model.parameters()), [(x, y)], module=model)

    kept = operator()
    assert torch.equal(dense(kept), dense(operator()))
    trained = dense(kept)
    model.eval()
    assert torch.equal(dense(kept), dense(operator()))
    assert not torch.allclose(dense(kept), trained)
    model[1].running_mean.add_(0.3)
    assert torch.equal(dense(kept), dense(operator()))
    model[1].running_var = 2 * torch.ones(5, dtype=torch.float64)
    assert torch.equal(dense(kept), dense(operator()))


def test_examples_are_counted_in_tensors_alone() -> None:
    weights, x, y = small_problem()
    whole = HessianOperator(lambda a, b: mse(FORWARD(weights, a), b), weights, [(x, y)])

    def loss(a: Any, b: Any) -> Tensor:
        return mse(FORWARD(weights, a["x"]), b)

    single = HessianOperator(loss, weights, [({"x": x}, y)])
    assert torch.equal(dense(single), dense(whole))
    halves = [({"x": x[:16]}, y[:16]), ({"x": x[16:]}, y[16:])]
    refused(lambda: HessianOperator(loss, weights, halves), "first dimension counts the examples")
    refused(lambda: critical_sharpness(loss, weights, weights, halves, 1.0), "first dimension")
    # As it says: the tensor first, what else the loss needs with the targets.
    pairs = [(a["x"], {"y": b}) for a, b in halves]
    ragged = HessianOperator(lambda a, b: mse(FORWARD(weights, a), b["y"]), weights, pairs)
    torch.testing.assert_close(dense(ragged), dense(whole))


class Stored:
    """Chunks that are read when they are asked for, and how many of them are alive at most."""

    def __init__(self, x: Tensor, y: Tensor, size: int) -> None:
        self.x, self.y, self.size = x, y, size
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.most = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.x), self.size):
            chunk = self.x[start : start + self.size].clone()
            self.alive.add(chunk)
            self.most = max(self.most, len(self.alive))
            yield chunk, self.y[start : start + self.size]


@pytest.mark.parametrize("kind", ["hessian", "kernel"])
def test_data_larger_than_memory_are_read_anew_for_every_product(kind) -> None:
    weights, x, y = small_problem()

    def operator(batches: Any) -> Any:
        if kind == "kernel":
            return TangentKernelOperator(lambda a: FORWARD(weights, a), weights, batches)
        return HessianOperator(lambda a, b: mse(FORWARD(weights, a), b), weights, batches)

    stored = Stored(x, y, 2)  # eleven chunks of two examples, one of one
    lazy = operator(stored)
    torch.testing.assert_close(dense(lazy), dense(operator([(x, y)])))
    assert stored.most <= 3  # the present one, and those before as they go
    assert len(stored.alive) <= 1


def test_a_loader_of_data_is_read_without_moving_the_random_state() -> None:
    weights, x, y = small_problem()
    loader = DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    operator = HessianOperator(lambda a, b: mse(FORWARD(weights, a), b), weights, loader)
    whole = HessianOperator(lambda a, b: mse(FORWARD(weights, a), b), weights, [(x, y)])
    torch.testing.assert_close(dense(operator), dense(whole))
    assert torch.equal(torch.get_rng_state(), before)
    once = HessianOperator(lambda a, b: mse(FORWARD(weights, a), b), weights, iter([(x[:9], y[:9]), (x[9:], y[9:])]))
    torch.testing.assert_close(dense(once), dense(whole))


def test_sparse_gradients_are_made_dense() -> None:
    table, head = nn.Embedding(7, 4, sparse=True).double(), nn.Linear(4, 3).double()
    words, y = torch.tensor([[0, 2], [2, 3], [6, 6]]), torch.eye(3, dtype=torch.float64)
    parameters, metric = [*table.parameters(), *head.parameters()], [0.5, 2.0, 1.0]

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return mse(head(table(a).sum(1)), b)

    for factors in (None, metric):
        sparse = dense(HessianOperator(loss, parameters, [(words, y)], factors))
        table.sparse = False
        torch.testing.assert_close(sparse, dense(HessianOperator(loss, parameters, [(words, y)], factors)))
        table.sparse = True


def test_an_autocast_around_the_probe_changes_nothing() -> None:
    weights, x, y = small_problem(dtype=torch.float32)
    operator = HessianOperator(lambda a, b: mse(FORWARD(weights, a), b), weights, [(x, y)])
    direction = torch.autograd.grad(mse(FORWARD(weights, x), y), weights)

    def measured() -> list[float]:
        top = CurvatureTracker().probe(operator)
        critical = critical_sharpness(
            lambda a, b: mse(FORWARD(weights, a), b), weights, direction, [(x, y)], 1.0, tolerance=1e-5
        )
        density = spectral_density(operator, steps=10)
        return [float(top.values[0]), trace(operator, 12).value, critical.value, float(density.nodes.sum())]

    expected = measured()
    with torch.autocast("cpu", torch.bfloat16):
        assert measured() == expected


def test_the_solvers_work_in_inference_mode_and_with_another_default_device() -> None:
    weights, x, y = small_problem()
    operator = HessianOperator(lambda a, b: mse(FORWARD(weights, a), b), weights, [(x, y)])

    def measured() -> list[float]:
        tracker = CurvatureTracker(k=2)
        values = [float(value) for _ in range(2) for value in tracker.probe(operator).values]
        return [*values, trace(operator, 12).value, float(spectral_density(operator, steps=10).nodes.sum())]

    expected = measured()
    with torch.inference_mode():
        assert measured() == expected
    with torch.device("meta"):  # any that is not the operator's
        assert measured() == expected


def test_what_has_no_second_derivative_is_named() -> None:
    x, y = torch.randn(4, 3, 8), torch.zeros(4, 3, 8)
    layer = nn.MultiheadAttention(8, 2, batch_first=True)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return mse(layer(a, a, a, need_weights=False)[0], b)

    def product() -> Tensor:
        operator = HessianOperator(loss, list(layer.parameters()), [(x, y)])
        return operator(torch.ones(1, operator.size))

    refused(product, "no second derivative .*flash_attention")
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        assert bool(product().isfinite().all())


def test_a_loss_that_is_no_mean_and_a_model_with_several_outputs_are_refused() -> None:
    weights, x, y = small_problem()
    ones = torch.ones(1, sum(w.numel() for w in weights), dtype=torch.float64)
    each: Any = lambda a, b: (FORWARD(weights, a) - b).square().sum(1)  # noqa: E731
    refused(lambda: HessianOperator(each, weights, [(x, y)])(ones), r"loss=\(23,\)")
    total: Any = lambda a: FORWARD(weights, a).sum(0)  # noqa: E731
    refused(lambda: TangentKernelOperator(total, weights, [(x[:9], y[:9]), (x[9:], y[9:])]), "one row for each")


def test_odd_arguments_are_refused_in_a_sentence() -> None:
    weights, x, y = small_problem()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return mse(FORWARD(weights, a), b)

    def operator(parameters: Any = weights, batches: Any = ((x, y),), **options: Any) -> HessianOperator:
        return HessianOperator(loss, parameters, batches, **options)

    refused(lambda: operator(metric=[torch.ones(2), 1.0, 1.0]), "broadcast")
    refused(lambda: operator(metric=[torch.tensor(-1.0), 1.0, 1.0]), "positive")
    refused(lambda: operator(autocast=torch.float32), "autocast=torch.float32")
    refused(lambda: operator()(torch.ones(1, 3, dtype=torch.float64)), r"vectors=\(1, 3\)")
    refused(lambda: top_eigenpairs(operator(), start=torch.ones(operator().size)), r"its shape must be \(rows, \d+\)")
    refused(lambda: LayerCurvature({"a": [0]}).load_state_dict({"b": {}}), "layers a")


# What has another type than its annotation, which the other tests check before the package's own checks are reached.
WRONG = """
import torch
from torch import nn
from eoc.dynamics.curvature import GaussNewtonOperator, HessianOperator, TangentKernelOperator
from eoc.errors import InvalidInput

model, x, y = nn.Linear(2, 2), torch.ones(4, 2), torch.ones(4, 2)
def mse(outputs, targets): return (outputs - targets).square().mean()
def loss(inputs, targets): return mse(model(inputs), targets)
def pair(inputs): return model(inputs), 0
ps, data, v = list(model.parameters()), [(x, y)], torch.ones(1, 6)
for build in (
    lambda: HessianOperator(loss, model.named_parameters(), data),
    lambda: HessianOperator(loss, [{"params": ps}], data),
    lambda: HessianOperator(loss, ps, (x, y)),
    lambda: HessianOperator(loss, ps, [x]),
    lambda: HessianOperator(loss, ps, [(x, y, y)]),
    lambda: HessianOperator(loss, ps, data, metric=1.0),
    lambda: HessianOperator(loss, ps, data, metric=torch.tensor(1.0)),
    lambda: HessianOperator(loss, ps, data, autocast=True),
    lambda: HessianOperator(lambda a, b: float(loss(a, b).detach()), ps, data)(v),
    lambda: HessianOperator(lambda a, b: (loss(a, b), 0), ps, data)(v),
    lambda: GaussNewtonOperator(pair, mse, ps, data)(v),
    lambda: TangentKernelOperator(pair, ps, data),
):
    try:
        build()
    except InvalidInput as error:
        print(error.key, error.value, sep="=")
"""


def test_arguments_of_other_types_are_refused_in_a_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == [
        *("parameters=tuple", "parameters=dict", "batches=Tensor", "batches=Tensor", "batches=tuple"),
        *("metric=1.0", "metric=tensor(1.)", "autocast=True", "loss=float", "loss=tuple", "model=tuple", "model=tuple"),
    ]


def test_a_metric_far_below_one_is_not_lost_in_float32() -> None:
    theta = torch.ones(2, requires_grad=True)
    tiny = torch.full((2,), 1e-50, dtype=torch.float64)
    operator = HessianOperator(lambda *_: 1e30 * (theta**2).sum(), [theta], [(theta, theta)], [tiny])
    torch.testing.assert_close(operator(torch.eye(2)), 2e-20 * torch.eye(2), rtol=1e-5, atol=0)


def test_critical_sharpness_of_what_is_not_finite_is_an_error() -> None:
    theta, data = torch.ones(2, requires_grad=True), torch.ones(1, 2)

    def loss(a: Tensor, _: Tensor) -> Tensor:
        return (a * theta**2).sum()

    step = [2 * torch.ones(2)]
    assert critical_sharpness(loss, [theta], step, [(data, data)], 1.0).value == pytest.approx(2.0, rel=0.05)
    for batch, direction in [(data * torch.nan, step), (data, [torch.tensor([torch.nan, 1.0])])]:
        with pytest.raises(NonFiniteCurvature, match="not finite"):
            critical_sharpness(loss, [theta], direction, [(batch, batch)], 1.0)


def test_the_trace_of_nothing_is_nothing() -> None:
    theta = torch.ones(1, requires_grad=True)
    estimate = trace(HessianOperator(lambda *_: theta.sum(), [theta], [(theta, theta)]), 6)
    assert (estimate.value, estimate.standard_error) == (0.0, 0.0)
