"""Critical sharpness on quadratics, where it is a weighted mean of eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch

from dynamics.curvature.problems import mse, network, small_problem, with_spectrum
from eoc.dynamics.curvature import critical_sharpness
from eoc.errors import InvalidInput

ZEROS = [(torch.zeros(1, 1), torch.zeros(1, 1))]


@pytest.mark.parametrize("guess", [1e-4, 0.3, 1e3])
def test_quadratic_in_a_metric(guess) -> None:
    matrix = with_spectrum([5.0, 2.0, 1.0, 0.5])
    metric = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    theta = torch.tensor([1.0, -2.0, 0.3, 0.7], dtype=torch.float64, requires_grad=True)
    gradient = matrix @ theta.detach()
    direction = metric * gradient
    found = critical_sharpness(
        lambda *_: 0.5 * theta @ matrix @ theta, [theta], [direction], ZEROS, guess, tolerance=1e-3
    )
    exact = float(direction @ matrix @ direction / (direction @ gradient))
    assert found.converged
    assert found.lower <= 2 / exact <= found.upper
    assert found.value == pytest.approx(exact, rel=1e-3)


def test_good_guess_takes_fewer_than_ten_passes() -> None:
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    found = critical_sharpness(lambda *_: 2 * theta @ theta, [theta], [4 * theta.detach()], ZEROS, 0.45)
    assert found.value == pytest.approx(4.0, rel=0.05)
    assert found.evaluations < 10


def test_weights_come_back_bit_for_bit_in_the_same_memory_and_chunks_average() -> None:
    weights, x, y = small_problem(dtype=torch.float64)
    forward = network(torch.tanh, (0.4, 0.6, 0.5))

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return mse(forward(weights, a), b)

    gradient = torch.autograd.grad(loss(x, y), weights)
    before = [(w.data_ptr(), w._version, w.detach().clone()) for w in weights]
    whole = critical_sharpness(loss, weights, gradient, [(x, y)], 1.0, tolerance=1e-6, max_evaluations=60)
    parts = critical_sharpness(
        loss, weights, gradient, [(x[:9], y[:9]), (x[9:], y[9:])], 1.0, tolerance=1e-6, max_evaluations=60
    )
    assert whole.value == pytest.approx(parts.value, rel=1e-5)
    for w, (pointer, version, value) in zip(weights, before, strict=True):
        assert (w.data_ptr(), w._version) == (pointer, version)
        assert torch.equal(w, value)


def test_loss_that_never_or_always_rises() -> None:
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    falling = critical_sharpness(lambda *_: theta.sum(), [theta], [torch.ones(1).double()], ZEROS, 1.0)
    rising = critical_sharpness(lambda *_: theta.sum(), [theta], [-torch.ones(1).double()], ZEROS, 1.0)
    flat = critical_sharpness(lambda *_: 0 * theta.sum(), [theta], [torch.ones(1).double()], ZEROS, 1.0)
    assert (falling.value, falling.converged, falling.evaluations) == (0.0, False, 30)
    assert (rising.value, rising.converged) == (math.inf, False)
    assert (flat.value, flat.converged) == (0.0, False)  # it does not rise: any step is allowed


@pytest.mark.parametrize("budget", [2, 7, 30])
def test_every_pass_is_counted(budget: int) -> None:
    theta, passes = torch.ones(3, dtype=torch.float64, requires_grad=True), []

    def loss(*_: torch.Tensor) -> torch.Tensor:
        passes.append(1)
        return 2 * theta @ theta

    found = critical_sharpness(loss, [theta], [4 * theta.detach()], ZEROS, 1e-2, max_evaluations=budget)
    assert found.evaluations == len(passes) <= budget
    assert found.converged == (budget == 30)


def test_weights_come_back_where_the_loss_fails() -> None:
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)

    def loss(*_: torch.Tensor) -> torch.Tensor:
        if theta.item() != 1:
            raise MemoryError
        return theta.sum()

    with pytest.raises(MemoryError):
        critical_sharpness(loss, [theta], [torch.ones(1)], ZEROS, 1.0)
    assert theta.item() == 1


@pytest.mark.parametrize(
    "arguments", [{"guess": 0.0}, {"guess": 1.0, "tolerance": 0.0}, {"guess": 1.0, "max_evaluations": 1}]
)
def test_bad_arguments_are_refused(arguments) -> None:
    theta = torch.ones(2, requires_grad=True)
    with pytest.raises(InvalidInput):
        critical_sharpness(lambda *_: theta.sum(), [theta], [torch.ones(2)], ZEROS, **arguments)
    with pytest.raises(InvalidInput):
        critical_sharpness(lambda *_: theta.sum(), [theta], [torch.ones(3)], ZEROS, 1.0)


def test_a_step_beyond_the_finite_counts_as_risen() -> None:
    theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    found = critical_sharpness(  # falls up to 0.7, is NaN beyond
        lambda *_: -theta.sum() + 0 * (0.7 - theta.sum()).sqrt(), [theta], [-torch.ones(1)], ZEROS, 1.0, tolerance=1e-3
    )
    assert found.converged
    assert found.lower <= 0.7 <= found.upper
