"""Trace and density of matrices whose spectra are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynamics.curvature.problems import MatrixOperator, with_spectrum
from eoc.dynamics.curvature import NonFiniteCurvature, spectral_density, top_eigenpairs, trace
from eoc.errors import InvalidInput

BULK = torch.linspace(-0.1, 0.1, 290, dtype=torch.float64)
OUTLIERS = torch.tensor([9.0, 7.0, 5.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.0, -2.0], dtype=torch.float64)


def test_trace_of_few_outliers_is_nearly_exact_and_its_error_is_honest() -> None:
    matrix = with_spectrum(torch.cat([OUTLIERS, BULK]))
    exact = float(matrix.trace())
    found = [trace(MatrixOperator(matrix), 45, torch.Generator().manual_seed(seed)) for seed in range(20)]
    errors = torch.tensor([f.value - exact for f in found])
    spread = torch.tensor([f.standard_error for f in found])
    assert float(errors.abs().max()) < 0.05 * exact
    assert float(errors.square().mean().sqrt()) < 2 * float(spread.square().mean().sqrt())
    assert all(f.products == 45 for f in found)
    operator = MatrixOperator(matrix)
    assert [trace(operator, 45).products for _ in range(2)] == [45, 45]  # its own, whatever was spent before


def test_trace_is_unbiased() -> None:
    matrix = with_spectrum(torch.linspace(-1, 2, 60))
    found = [trace(MatrixOperator(matrix), 12, torch.Generator().manual_seed(s)) for s in range(300)]
    values = torch.tensor([each.value for each in found])
    assert abs(float(values.mean()) - float(matrix.trace())) < 4 * float(values.std()) / 300**0.5
    said = torch.tensor([each.standard_error for each in found]).square().mean().sqrt()
    assert float(said) == pytest.approx(float(values.std()), rel=0.25)  # neither too small nor too large


def test_trace_with_every_direction_multiplied_is_exact() -> None:
    matrix = with_spectrum([3.0, 1.0, -2.0])
    found = trace(MatrixOperator(matrix), 30)
    assert (found.value, found.standard_error) == (pytest.approx(2.0), 0.0)
    assert trace(MatrixOperator(torch.zeros(5, 5))).value == 0.0


def test_density_has_the_moments_of_the_spectrum() -> None:
    spectrum = torch.cat([OUTLIERS, BULK])
    matrix = with_spectrum(spectrum)
    density = spectral_density(MatrixOperator(matrix), steps=20, runs=60)
    torch.testing.assert_close(density.weights.sum(1), torch.ones(60, dtype=torch.float64))
    for power in (1, 2, 3):
        exact = float((spectrum**power).mean())
        assert density.moment(power) == pytest.approx(exact, rel=0.15)
    # Lanczos finds the ends themselves.
    assert float(density.nodes.max()) == pytest.approx(9.0, rel=1e-6)
    assert float(density.nodes.min()) == pytest.approx(-2.0, rel=1e-6)


def test_smoothed_density_integrates_to_one_and_stands_where_the_eigenvalues_are() -> None:
    density = spectral_density(MatrixOperator(with_spectrum([4.0] * 30 + [0.0] * 90)), steps=10, runs=4)
    grid = torch.linspace(-2, 6, 4001, dtype=torch.float64)
    curve = density.smoothed(grid, 0.1)
    step = float(grid[1] - grid[0])
    assert float(curve.sum()) * step == pytest.approx(1.0, rel=1e-6)
    assert float(curve[grid > 2].sum()) * step == pytest.approx(0.25, abs=0.05)
    assert abs(float(grid[curve.argmax()])) < 0.01


def test_of_curvature_at_the_end_of_the_range_both_are_right_or_an_error() -> None:
    class Diagonal:
        size, dtype, device, products = 100_000, torch.float32, torch.device("cpu"), 0
        largest = 1.0

        def __call__(self, vectors: Tensor) -> Tensor:
            return vectors * torch.linspace(0.1, 1.0, self.size) * self.largest

    operator = Diagonal()
    nodes, total = spectral_density(operator).nodes, trace(operator).value
    operator.largest = 1e30  # the squares of products overflow, products and their inner products with vectors do not
    torch.testing.assert_close(spectral_density(operator).nodes / 1e30, nodes, rtol=1e-4, atol=0)
    assert trace(operator).value == pytest.approx(1e30 * total, rel=1e-4)
    operator.largest = 3e37
    with pytest.raises(NonFiniteCurvature, match=r"too large for torch\.float32"):
        trace(operator)
    operator.largest = float("inf")  # other people's operators may not look
    for estimate in (trace, spectral_density, top_eigenpairs):
        with pytest.raises(NonFiniteCurvature):
            estimate(operator)


@pytest.mark.parametrize(
    "call",
    [
        lambda op: trace(op, 5),
        lambda op: spectral_density(op, steps=0),
        lambda op: spectral_density(op, steps=4),
        lambda op: spectral_density(op, steps=2, runs=0),
        lambda op: spectral_density(op, steps=2).smoothed(torch.zeros(1), 0.0),
    ],
)
def test_bad_arguments_are_refused(call) -> None:
    with pytest.raises(InvalidInput):
        call(MatrixOperator(torch.eye(3)))
