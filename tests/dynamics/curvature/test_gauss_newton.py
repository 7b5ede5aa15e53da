"""Gauss-Newton and tangent-kernel products against Jacobians written out by torch.func."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynamics.curvature.problems import mse, network, small_problem
from eoc.dynamics.curvature import (
    GaussNewtonOperator,
    HessianOperator,
    NonFiniteCurvature,
    TangentKernelOperator,
    top_eigenpairs,
)

FACTORS, METRIC = (0.4, 0.6, 0.5), (0.5, 2.0, 7.0)
FORWARD = network(torch.tanh, FACTORS)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(outputs, targets.argmax(1))


def dense(operator) -> Tensor:
    return operator(torch.eye(operator.size, dtype=operator.dtype))


def jacobian(weights: list[Tensor], x: Tensor) -> Tensor:
    """(n * outputs, parameters), in the metric."""
    blocks = torch.func.jacrev(lambda *w: FORWARD(list(w), x), argnums=(0, 1, 2))(*[w.detach() for w in weights])
    return torch.cat(
        [g**0.5 * b.reshape(x.shape[0] * blocks[0].shape[1], -1) for b, g in zip(blocks, METRIC, strict=True)], dim=1
    )


@pytest.mark.parametrize("loss", [mse, cross_entropy])
@pytest.mark.parametrize("sizes", [(23,), (9, 9, 5)])
def test_gauss_newton_is_jacobian_times_loss_curvature(loss, sizes) -> None:
    weights, x, y = small_problem()
    outputs = FORWARD(weights, x).detach()
    inner = torch.func.jacrev(torch.func.jacrev(lambda o: loss(o, y)))(outputs).reshape(
        outputs.numel(), outputs.numel()
    )
    J = jacobian(weights, x)
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    operator = GaussNewtonOperator(lambda a: FORWARD(weights, a), loss, weights, batches, METRIC)
    torch.testing.assert_close(dense(operator), J.T @ inner @ J, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sizes", [(23,), (9, 9, 5)])
def test_tangent_kernel_is_jacobian_times_its_transpose(sizes) -> None:
    weights, x, y = small_problem()
    J = jacobian(weights, x)
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    operator = TangentKernelOperator(lambda a: FORWARD(weights, a), weights, batches, METRIC)
    assert operator.size == 23 * 3
    torch.testing.assert_close(dense(operator), J @ J.T / 23, rtol=1e-10, atol=1e-12)
    assert operator.products == operator.size
    with torch.no_grad():
        weights[0][0, 0] = float("nan")
    with pytest.raises(NonFiniteCurvature):
        dense(operator)


def test_kernel_and_gauss_newton_share_their_top_eigenvalues() -> None:
    weights, x, y = small_problem()
    kernel = TangentKernelOperator(lambda a: FORWARD(weights, a), weights, [(x, y)], METRIC)
    matrix = GaussNewtonOperator(lambda a: FORWARD(weights, a), mse, weights, [(x, y)], METRIC)
    torch.testing.assert_close(
        top_eigenpairs(kernel, 3, tolerance=1e-6).values, top_eigenpairs(matrix, 3, tolerance=1e-6).values
    )


def test_gauss_newton_equals_the_hessian_where_the_residual_vanishes() -> None:
    weights, x, _ = small_problem()
    y = FORWARD(weights, x).detach()
    full = HessianOperator(lambda a, b: mse(FORWARD(weights, a), b), weights, [(x, y)], METRIC)
    matrix = GaussNewtonOperator(lambda a: FORWARD(weights, a), mse, weights, [(x, y)], METRIC)
    torch.testing.assert_close(dense(matrix), dense(full))


def test_a_linear_loss_has_no_curvature() -> None:
    weights, x, y = small_problem()
    zeros = torch.zeros(sum(w.numel() for w in weights), dtype=torch.float64).diag()
    linear = GaussNewtonOperator(lambda a: FORWARD(weights, a), lambda o, _: o.sum(), weights, [(x, y)])
    assert torch.equal(dense(linear), zeros)


def test_the_sum_over_many_chunks_does_not_cost_digits() -> None:
    x = torch.rand(2000, 1, generator=torch.Generator().manual_seed(0)) + 0.5
    theta = torch.ones(1, 1, requires_grad=True)
    kernel = TangentKernelOperator(lambda a: a @ theta, [theta], [(each, each) for each in x.split(1)])
    found = kernel(torch.ones(1, 2000))[0].double()  # x·Σ_i x_i/n
    torch.testing.assert_close(found, (x * x.double().mean())[:, 0].double(), rtol=3e-7, atol=0)


@pytest.mark.parametrize("shape", [(23, 3, 1), (69,)], ids=["several axes", "none"])
def test_the_kernel_of_outputs_of_any_shape(shape) -> None:
    weights, x, _ = small_problem()
    inputs = x if len(shape) > 1 else x.repeat_interleave(3, 0)  # a network of one output, thrice as many examples
    seen = []

    def model(a: Tensor) -> Tensor:
        seen.append(1)
        outputs = FORWARD(weights, a)
        return outputs.view(shape) if len(shape) > 1 else outputs[:, 0]

    operator = TangentKernelOperator(model, weights, [(inputs, inputs)], METRIC)
    assert operator.size == 69
    J = jacobian(weights, inputs)
    J, n = (J, 23) if len(shape) > 1 else (J[::3], 69)
    torch.testing.assert_close(dense(operator), J @ J.T / n, rtol=1e-10, atol=1e-12)
    assert torch.equal(dense(operator), dense(operator))
    assert len(seen) == 2  # to learn the size, and for all products


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_kernel_is_there_where_gradients_are_off(mode) -> None:
    weights, x, y = small_problem()

    def kernel() -> TangentKernelOperator:
        return TangentKernelOperator(lambda a: FORWARD(weights, a), weights, [(x, y)], METRIC)

    with mode():
        inside = dense(kernel())
    assert torch.equal(inside, dense(kernel()))


def test_gauss_newton_is_averaged_over_the_processes() -> None:
    weights, x, y = small_problem()
    arguments = (lambda a: FORWARD(weights, a), mse, weights, [(x, y)], METRIC)
    halved = GaussNewtonOperator(*arguments, reduce=lambda products: products.mul_(0.5))
    torch.testing.assert_close(dense(halved), 0.5 * dense(GaussNewtonOperator(*arguments)))
