"""Along real training, at the edge of stability and in the catapult phase, every single step is right."""

from __future__ import annotations

import statistics

import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from dynamics.curvature.problems import mse
from eoc.data import digits
from eoc.dynamics.curvature import CurvatureTracker, HessianOperator
from eoc.model import MLP


def reference(network: MLP, x: torch.Tensor, y: torch.Tensor) -> float:
    """The sharpness by SciPy, in float64."""
    copies = [w.detach().double().requires_grad_() for w in network.weights]
    names = [name for name, _ in network.named_parameters()]

    def value(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return mse(torch.func.functional_call(network, dict(zip(names, copies, strict=True)), (a,)), b)

    operator = HessianOperator(value, copies, [(x.double(), y.double())], network.rates)
    matrix = LinearOperator(
        (operator.size, operator.size),
        matvec=lambda v: operator(torch.from_numpy(v.reshape(1, -1).copy()))[0].numpy(),
        dtype="float64",
    )
    start = torch.ones(operator.size, dtype=torch.float64).numpy()
    return float(eigsh(matrix, k=1, which="LA", tol=1e-8, v0=start, return_eigenvectors=False)[0])


@pytest.mark.parametrize(("kappa", "most"), [(None, 7), (2.5, 7)], ids=["edge of stability", "catapult"])
def test_every_step_of_training(kappa, most) -> None:
    data = digits(n_train=100, n_test=10)
    x, y = data.train_inputs, data.train_targets
    network = MLP(64, 10, parameterization="mup", depth=3, width=32, growth=0)
    weights = list(network.weights)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return mse(network(a), b)

    operator, tracker = HessianOperator(loss, weights, [(x, y)], network.rates), CurvatureTracker()
    rate, products, above = 2.2 / float(tracker.probe(operator).values[0]), [], 0
    for step in range(60):
        found = tracker.probe(operator)
        sharpness = float(found.values[0])
        if step % 6 == 0:
            exact = reference(network, x, y)
            error = abs(sharpness - exact) / exact
            assert error <= 1e-3
            assert error <= found.relative_bound + 1e-6
        assert found.converged
        rate = rate if kappa is None else kappa / sharpness
        above += rate * sharpness >= 2
        products.append(found.products)
        with torch.no_grad():
            for w, g, r in zip(weights, operator.gradient(), network.rates, strict=True):
                w -= rate * r * g
    assert above >= 20  # the run is where the test says it is
    assert statistics.median(products[10:]) <= most
