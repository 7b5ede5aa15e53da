"""What must hold for every shape, spectrum and split of the data; and independent implementations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh

from dynamics.curvature.problems import MatrixOperator, mse, network, small_problem, with_spectrum
from eoc.dynamics.curvature import GaussNewtonOperator, HessianOperator, top_eigenpairs

repeatable = settings(max_examples=25, deadline=None, derandomize=True)
widths = st.lists(st.integers(1, 6), min_size=3, max_size=5)


@repeatable
@given(
    spectrum=st.lists(st.floats(-10, 10).map(lambda v: round(v, 3)), min_size=1, max_size=40),
    k=st.integers(1, 4),
    guards=st.integers(0, 3),
    caution=st.sampled_from([0.0, 4.0]),
    which=st.sampled_from(["largest", "smallest", "magnitude"]),
    double=st.booleans(),
)
def test_eigenvalues_of_any_matrix(spectrum, k, guards, caution, which, double) -> None:
    k = min(k, len(spectrum))
    matrix = with_spectrum(spectrum, dtype=torch.float64 if double else torch.float32)
    found = top_eigenpairs(MatrixOperator(matrix), k, guards=guards, caution=caution, which=which, tolerance=1e-4)
    key = {"largest": lambda v: -v, "smallest": lambda v: v, "magnitude": lambda v: -abs(v)}[which]
    exact = torch.tensor(sorted(spectrum, key=key)[:k], dtype=torch.float64)
    scale = max(abs(v) for v in spectrum)
    found_ends = found.values.abs() if which == "magnitude" else found.values
    exact_ends = exact.abs() if which == "magnitude" else exact
    assert found.converged
    assert float((found_ends - exact_ends).abs().max()) <= 1e-4 * abs(float(exact[0])) + 1e-5 * scale
    for value, residual in zip(found.values, found.residuals, strict=True):
        nearest = min(abs(float(value) - v) for v in spectrum)
        assert nearest <= float(residual) + 1e-5 * scale


@repeatable
@given(shape=widths, cut=st.integers(1, 22), seed=st.integers(0, 99), newton=st.booleans())
def test_products_are_symmetric_linear_and_independent_of_chunks(shape, cut, seed, newton) -> None:
    weights, x, y = small_problem(seed, widths=shape)
    forward = network(torch.tanh, [0.5] * len(weights))
    metric = [0.5 + i for i in range(len(weights))]

    def operator(batches) -> HessianOperator | GaussNewtonOperator:
        if newton:
            return GaussNewtonOperator(lambda a: forward(weights, a), mse, weights, batches, metric)
        return HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, batches, metric)

    whole, parts = operator([(x, y)]), operator([(x[:cut], y[:cut]), (x[cut:], y[cut:])])
    v = torch.randn(2, whole.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    images = whole(v)
    torch.testing.assert_close(v[0] @ images[1], v[1] @ images[0])
    torch.testing.assert_close(whole((2 * v[0] - 3 * v[1])[None])[0], 2 * images[0] - 3 * images[1])
    torch.testing.assert_close(parts(v), images)
    if newton:
        assert float(v[0] @ images[0]) >= -1e-12


def test_top_five_of_a_network_against_scipy() -> None:
    weights, x, y = small_problem(n=200, widths=(20, 16, 12, 5))
    forward = network(torch.relu, (0.3, 0.4, 0.2))
    operator = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)], (1.0, 2.0, 3.0))
    found = top_eigenpairs(operator, 5, tolerance=1e-5)
    matrix = LinearOperator(
        (operator.size, operator.size),
        matvec=lambda v: operator(torch.from_numpy(v.reshape(1, -1).copy()))[0].numpy(),
        dtype="float64",
    )
    exact = sorted(eigsh(matrix, k=5, which="LA", tol=1e-10, return_eigenvectors=False), reverse=True)
    assert found.values.tolist() == pytest.approx(exact, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_products_against_curvlinops() -> None:
    curvlinops = pytest.importorskip("curvlinops", reason="a peer of the bench extra", exc_type=ImportError)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    _, x, y = small_problem()
    batches = [(x[:10], y[:10]), (x[10:], y[10:])]
    parameters = list(module.parameters())
    loss = torch.nn.MSELoss()
    theirs = curvlinops.HessianLinearOperator(module, loss, parameters, batches, check_deterministic=False)
    ours = HessianOperator(lambda a, b: loss(module(a), b), parameters, batches)
    eye = torch.eye(ours.size, dtype=torch.float64)
    torch.testing.assert_close(ours(eye), theirs @ eye)
