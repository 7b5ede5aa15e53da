"""The eigensolver on spectra that are known exactly, and on those that are hard."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dynamics.curvature.problems import (
    MatrixOperator,
    dense_hessian,
    mse,
    network,
    random_basis,
    small_problem,
    with_spectrum,
)
from eoc.dynamics.curvature import HessianOperator, NonFiniteCurvature, SpectralMemory, top_eigenpairs
from eoc.dynamics.curvature.subspace import Rows
from eoc.errors import InvalidInput


def bulk(size: int, low: float = -0.5, high: float = 0.5) -> list[float]:
    return torch.linspace(low, high, size).tolist()


SPECTRA = {
    "separated": [10.0, 8.0, 5.0, 3.0, 2.0, *bulk(195)],
    "clustered": [10.0, 9.99, 9.98, 9.97, 9.96, *bulk(195)],
    "multiple": [10.0, 10.0, 10.0, 4.0, 4.0, *bulk(195)],
    "indefinite": [3.0, 2.0, 1.7, 1.4, 1.2, *bulk(149), *[-9.0 - i for i in range(46)]],
    "negative": [-1.0, -2.0, -3.0, -4.0, -5.0, *bulk(195, -9.0, -6.0)],
    "no gap": bulk(200, 0.0, 1.0),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_spectra(name, k, dtype) -> None:
    values = torch.tensor(SPECTRA[name], dtype=torch.float64).sort(descending=True).values
    matrix = with_spectrum(values, dtype=dtype)
    found = top_eigenpairs(MatrixOperator(matrix), k, tolerance=1e-4, max_products=600)
    assert found.converged
    assert found.relative_bound <= 1e-4
    assert found.relative_bound == pytest.approx(float(found.residuals.max() / found.values[0].abs()))
    errors = (found.values - values[:k]).abs()
    assert bool((errors <= 1e-4 * values[0].abs()).all())
    exact = found.vectors.double() @ matrix.double() - found.values[:, None] * found.vectors.double()
    torch.testing.assert_close(exact.norm(dim=1), found.residuals, rtol=0.05, atol=2e-6 * float(values.abs().max()))
    torch.testing.assert_close(
        found.vectors.double() @ found.vectors.double().T, torch.eye(k).double(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("which", "expected"), [("smallest", [-12.0, -3.0]), ("magnitude", [-12.0, 10.0])])
def test_other_ends_of_the_spectrum(which, expected) -> None:
    matrix = with_spectrum([10.0, 5.0, *bulk(60), -3.0, -12.0])
    found = top_eigenpairs(MatrixOperator(matrix), 2, which=which, tolerance=1e-8)
    assert found.values.tolist() == pytest.approx(expected, rel=1e-8)


def test_start_orthogonal_to_the_wanted_vector() -> None:
    values = [10.0, 9.0, 7.0, *bulk(197)]
    start = random_basis(200).T[1:2]  # the exact second eigenvector: residual 0 from the outset
    found = top_eigenpairs(MatrixOperator(with_spectrum(values)), 1, start=start)
    assert found.values.tolist() == pytest.approx([10.0], rel=1e-3)


def test_dependent_zero_and_surplus_start_vectors_do_no_harm() -> None:
    values = [10.0, 9.0, 7.0, *bulk(197)]
    vector = random_basis(200).T[:1]
    start = torch.cat([vector, 2 * vector, torch.zeros_like(vector), vector + 1e-12, vector])
    found = top_eigenpairs(MatrixOperator(with_spectrum(values)), 2, start=start, tolerance=1e-6)
    assert found.values.tolist() == pytest.approx(values[:2], rel=1e-6)


def test_good_start_costs_one_block() -> None:
    start = random_basis(200).T[:3]
    found = top_eigenpairs(MatrixOperator(with_spectrum([10.0, 9.0, 7.0, *bulk(197)])), 1, start=start, guards=2)
    assert (found.products, found.converged) == (3, True)


def test_guard_that_has_overtaken_is_returned() -> None:
    # The start holds the pair in the old order and is off by a little: the true top lies in the second row.
    start = random_basis(200).T[[1, 0, 2]] + 0.02 * random_basis(200, seed=5)[:3]
    found = top_eigenpairs(MatrixOperator(with_spectrum([10.0, 9.96, 7.0, *bulk(197)])), 1, start=start)
    assert found.values.tolist() == pytest.approx([10.0], rel=1e-3)


def test_a_guard_of_large_residual_is_improved_until_it_is_below() -> None:
    # The start holds the second pair exactly, and of the first nine tenths, with a Ritz value below the second's.
    axes = random_basis(200).T
    start = torch.stack([axes[1], 0.9**0.5 * axes[0] + 0.1**0.5 * axes[100]])
    found = top_eigenpairs(MatrixOperator(with_spectrum([10.0, 9.6, 7.0, *bulk(197)])), 1, start=start)
    assert found.values.tolist() == pytest.approx([10.0], rel=1e-3)


def test_a_memory_that_promises_too_much_is_forgotten_and_what_it_hid_is_found() -> None:
    values, axes = [10.0, 9.0, 8.0, *bulk(197)], random_basis(200).T
    rows = 0.95**0.5 * axes[1:3] + 0.05**0.5 * axes[100:102]  # nothing of the top, as their images
    memory = SpectralMemory(rows, torch.tensor([20.0, 19.0], dtype=torch.float64))
    found = top_eigenpairs(MatrixOperator(with_spectrum(values)), 1, start=memory)
    assert found.values.tolist() == pytest.approx([10.0], rel=1e-3)
    assert top_eigenpairs(MatrixOperator(with_spectrum(values)), 1, start=memory, max_products=3).products == 3


def test_one_random_vector_is_explored_behind_a_memory_that_promised_too_much() -> None:
    # The block of two, a random vector, ln(1000) rounds of its Krylov space, and what the tolerance still asks for;
    # a cold start explores two.
    operator = MatrixOperator(with_spectrum([10.0, 5.0, 4.0, *bulk(997)]))
    axes = random_basis(1000).T
    memory = SpectralMemory(axes[[1, 500]], torch.tensor([20.0, 19.0], dtype=torch.float64))
    found, cold = top_eigenpairs(operator, 1, start=memory), top_eigenpairs(operator, 1)
    for pairs in (found, cold):
        assert pairs.values.tolist() == pytest.approx([10.0], rel=1e-5)
    assert 2 + 1 + 7 <= found.products <= 2 + 1 + 7 + 2
    assert cold.products >= 2 + 2 * 7


def test_what_is_explored_behind_a_false_memory_stays_within_the_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    # Five vectors over seven rounds would be a basis of 41 and more.
    lengths, append = [], Rows.append
    monkeypatch.setattr(Rows, "append", lambda self, rows: (append(self, rows), lengths.append(len(self)))[0])
    values, axes = [10.0, 9.5, 9.0, 8.5, 8.0, 7.5, *bulk(994)], random_basis(1000).T
    memory = SpectralMemory(axes[500:506], torch.linspace(30, 25, 6, dtype=torch.float64))
    found = top_eigenpairs(MatrixOperator(with_spectrum(values)), 5, start=memory)
    assert found.values.tolist() == pytest.approx(values[:5], rel=1e-5)
    assert found.products >= 6 + 5 * 8
    assert max(lengths) <= 2 * 6 + 16


@pytest.mark.parametrize("part", [0.0, 1e-3])
def test_what_a_false_memory_of_exact_vectors_hides_is_found(part: float) -> None:
    axes = random_basis(200).T
    operator = MatrixOperator(with_spectrum([10.0, 9.0, 8.0, *torch.linspace(-0.5, 0.5, 197).tolist()]))
    rows = torch.linalg.qr((axes[1:3] + part * axes[[0, 5]]).T)[0].T
    memory = SpectralMemory(rows, torch.tensor([20.0, 19.0], dtype=torch.float64))
    found = top_eigenpairs(operator, 1, start=memory)
    assert found.converged
    assert float(found.values[0]) == pytest.approx(10.0, abs=1e-5)


@pytest.mark.parametrize("first", [0, 6])
def test_what_many_exact_vectors_hide_or_not_is_found_through_restarts(first: int) -> None:
    spectrum = torch.cat([torch.linspace(20, 9, 12), 1e-6 * torch.linspace(-1, 1, 588)]).double()
    axes, operator = random_basis(600).T, MatrixOperator(with_spectrum(spectrum))
    memory = SpectralMemory(axes[first : first + 6], torch.linspace(60, 50, 6, dtype=torch.float64))
    found = top_eigenpairs(operator, 5, start=memory)
    assert found.converged
    torch.testing.assert_close(found.values, spectrum[:5], rtol=1e-5, atol=0)


def test_caution_finds_what_a_guard_hides() -> None:
    # As met in a catapult: the start holds the second pair exactly, and the first as a small part of a guard whose
    # residual is small, since the gap is.
    values = [0.902, 0.848, 0.815, *bulk(197, 0.0, 0.5)]
    axes = random_basis(200).T
    start = torch.stack([axes[1], 0.07**0.5 * axes[0] + 0.93**0.5 * axes[2]])
    missed, found = (
        top_eigenpairs(MatrixOperator(with_spectrum(values)), 1, start=start, caution=caution) for caution in (0, 4)
    )
    assert missed.converged
    assert found.converged
    assert missed.values.tolist() == pytest.approx([0.848], rel=1e-3)  # an eigenvalue, as promised, but not the first
    assert found.values.tolist() == pytest.approx([0.902], rel=1e-3)
    assert found.products <= missed.products + 6


@pytest.mark.parametrize("size", [1, 2, 3])
def test_fewer_parameters_than_the_block(size) -> None:
    values = [2.0, 1.0, -1.0][:size]
    found = top_eigenpairs(MatrixOperator(with_spectrum(values)), size, guards=4)
    assert found.values.tolist() == pytest.approx(values)
    assert (found.converged, found.products) == (True, size)


def test_zero_matrix_is_converged_at_once() -> None:
    found = top_eigenpairs(MatrixOperator(torch.zeros(50, 50)), 2)
    assert (found.values.tolist(), found.residuals.tolist(), found.converged) == (
        [0.0, 0.0],
        [0.0, 0.0],
        True,
    )
    assert (found.products, found.relative_bound) == (3, 0.0)


def test_spent_budget_is_said_and_its_bound_holds() -> None:
    values = torch.tensor(bulk(400, 0.0, 1.0), dtype=torch.float64).flip(0)
    operator = MatrixOperator(with_spectrum(values))
    found = top_eigenpairs(operator, 1, tolerance=1e-8, max_products=12)
    assert (found.converged, found.products, operator.products) == (False, 12, 12)
    assert float((values - found.values[0]).abs().min()) <= float(found.residuals[0])
    assert found.relative_bound > 1e-8
    for k, budget in ((3, 6), (3, 13), (4, 16)):  # no whole number of blocks
        found = top_eigenpairs(MatrixOperator(with_spectrum(values)), k, tolerance=1e-8, max_products=budget)
        assert (found.converged, found.products) == (False, budget)


def test_residuals_within_the_tolerance_are_converged_though_the_budget_ended_the_search() -> None:
    values = torch.linspace(1, 1.01, 50, dtype=torch.float64)
    found = top_eigenpairs(MatrixOperator(with_spectrum(values)), 1, tolerance=0.1, max_products=2)
    assert (found.converged, found.products) == (True, 2)


@pytest.mark.parametrize("capacity", [0, 5])
def test_as_many_pairs_are_remembered_as_was_said(capacity: int) -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["separated"]))
    assert len(top_eigenpairs(operator, 2, guards=1, capacity=capacity).memory.values) == 3 + capacity


def test_restarts_keep_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # The basis holds 2·2 + 16 vectors: this takes several restarts.
    append, lengths = Rows.append, []
    monkeypatch.setattr(Rows, "append", lambda self, rows: append(self, rows) or lengths.append(len(self)))
    values = torch.tensor([1.02, 1.01, *bulk(298, 0.0, 1.0)], dtype=torch.float64)
    found = top_eigenpairs(MatrixOperator(with_spectrum(values)), 1, tolerance=1e-6, max_products=2000)
    assert found.converged
    assert found.products > 44
    assert max(lengths) == 20
    assert found.values.tolist() == pytest.approx([1.02], rel=1e-9)


def test_deep_linear_network() -> None:
    # f = w_3 w_2 w_1 x with scalar weights: the Hessian is written out for one example, L = (f - y)^2 / 2.
    w = [torch.tensor([[v]], dtype=torch.float64, requires_grad=True) for v in (1.3, -0.7, 2.1)]
    x, y = torch.tensor([[0.9]], dtype=torch.float64), torch.tensor([[0.4]], dtype=torch.float64)
    a, b, c = (v.item() for v in w)
    f, s = 0.9 * a * b * c, 0.9
    g = torch.tensor([f / a, f / b, f / c], dtype=torch.float64)
    second = s * torch.tensor([[0, c, b], [c, 0, a], [b, a, 0]], dtype=torch.float64)
    exact = torch.linalg.eigvalsh(torch.outer(g, g) + (f - 0.4) * second).flip(0)
    forward = network(lambda h: h, (1.0, 1.0, 1.0))
    operator = HessianOperator(lambda p, q: mse(forward(w, p), q), w, [(x, y)])
    torch.testing.assert_close(top_eigenpairs(operator, 3).values, exact)


@pytest.mark.parametrize("activation", [torch.relu, torch.abs])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_networks_against_dense_eigenvalues(activation, dtype) -> None:
    weights, x, y = small_problem(dtype=dtype, n=40, widths=(8, 7, 6, 4))
    forward, metric = network(activation, (0.5, 0.5, 0.2)), (1.0, 3.0, 9.0)
    operator = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)], metric)
    exact = dense_hessian(
        lambda w: mse(forward(w, x.double()), y.double()), [w.detach().double() for w in weights], metric
    )
    top = torch.linalg.eigvalsh(exact).flip(0)[:4]
    found = top_eigenpairs(operator, 4, tolerance=1e-4)
    assert float((found.values - top).abs().max()) <= 1e-4 * float(top[0])


def test_dead_network_has_curvature_zero() -> None:
    weights, x, y = small_problem()
    with torch.no_grad():
        for w in weights:
            w.zero_()
    forward = network(torch.relu, (1.0, 1.0, 1.0))
    found = top_eigenpairs(HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)]))
    assert (found.values.tolist(), found.residuals.tolist(), found.converged) == ([0.0], [0.0], True)


def test_global_random_state_is_left_alone_and_the_private_one_decides() -> None:
    matrix = with_spectrum(SPECTRA["separated"], dtype=torch.float32)
    before = torch.get_rng_state()

    def solve(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return top_eigenpairs(MatrixOperator(matrix), 2, generator=generator).vectors

    assert torch.equal(solve(1), solve(1))
    assert not torch.equal(solve(1), solve(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_non_finite_curvature_is_an_error() -> None:
    theta = torch.tensor([1.0, float("nan")], requires_grad=True)
    zeros = torch.zeros(1, 1)
    with pytest.raises(NonFiniteCurvature):
        top_eigenpairs(HessianOperator(lambda *_: (theta**3).sum(), [theta], [(zeros, zeros)]))


def test_curvature_beyond_the_square_root_of_the_largest_float_is_an_error() -> None:
    # Found by a network about to diverge: products are finite, the squares of residuals are not.
    zeros = torch.zeros(1, 1)

    def top(largest: float, size: int = 100_000) -> float:
        theta = torch.ones(size, requires_grad=True)
        scales = torch.linspace(0.1, 1.0, size) * largest / 2  # the Hessian is diag(2·scales)
        operator = HessianOperator(lambda *_: (scales * theta.square()).sum(), [theta], [(zeros, zeros)])
        return top_eigenpairs(operator, tolerance=1e-2).values[0].item()

    assert top(1e12) == pytest.approx(1e12, rel=1e-2)
    with pytest.raises(NonFiniteCurvature):
        top(1e22)
    assert top(1e22, 5000) == pytest.approx(1e22, rel=1e-2)  # of few entries, the squares are taken in float64


@pytest.mark.parametrize(
    "arguments",
    [
        {"k": 0},
        {"k": 4},
        {"guards": -1},
        {"caution": -1.0},
        {"tolerance": 0.0},
        {"max_products": 1},
        {"which": "middle"},
        {"start": torch.ones(1, 4)},
        {"start": torch.ones(3)},
    ],
)
def test_bad_arguments_are_refused(arguments) -> None:
    with pytest.raises(InvalidInput):
        top_eigenpairs(MatrixOperator(torch.eye(3)), **arguments)


def test_products_that_are_noise_beyond_the_tolerance_do_not_spend_the_budget() -> None:
    """As those of a fitted softmax are: its Hessian is a small difference of large numbers."""
    values = torch.tensor([10.0, 8.0, 5.0, 3.0, *bulk(396)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)

    class Noisy(MatrixOperator):
        level = 0.0

        def __call__(self, vectors: Tensor) -> Tensor:
            noise = torch.randn(vectors.shape, generator=generator, dtype=torch.float64) / vectors.shape[1] ** 0.5
            return super().__call__(vectors) + self.level * noise

    operator = Noisy(with_spectrum(values))
    exact = top_eigenpairs(operator, 1, tolerance=1e-6)
    assert exact.converged
    operator.level = 0.5
    found = top_eigenpairs(operator, 1, tolerance=1e-6)
    assert not found.converged
    assert found.products < 50
    assert abs(float(found.values[0]) - 10) < float(found.residuals[0]) + operator.level
    assert float(found.residuals[0]) < 2 * operator.level


def test_with_caution_a_risen_pair_is_found_in_a_guard_whose_residual_is_below_the_tolerance() -> None:
    basis, mixed = random_basis(60), 0.15
    spectrum = torch.cat([torch.tensor([10.0, 9.8, 10.3]), torch.linspace(-1, 4, 57)]).double()
    operator = MatrixOperator(basis @ torch.diag(spectrum) @ basis.T)
    known = basis.T[:6].clone()  # as remembered, before the third pair rose: the guard holds a little of it
    known[1], known[2] = (
        math.cos(mixed) * known[1] + math.sin(mixed) * known[2],
        math.cos(mixed) * known[2] - math.sin(mixed) * known[1],
    )
    memory = SpectralMemory(known, torch.tensor([10.0, 9.8, 9.0, 4.0, 3.9, 3.8], dtype=torch.float64))
    guard = known[1]
    residual = (guard @ operator.matrix - (guard @ operator.matrix @ guard) * guard).norm()
    assert residual < 0.01 * 10.0
    trusting = top_eigenpairs(operator, tolerance=1e-2, start=memory)
    assert float(trusting.values[0]) == pytest.approx(10.0, rel=1e-6)  # the miss
    careful = top_eigenpairs(operator, tolerance=1e-2, start=memory, caution=4.0)
    assert float(careful.values[0]) == pytest.approx(10.3, rel=1e-3)
    assert careful.products <= trusting.products + 2


def test_a_search_that_starts_over_on_a_part_of_its_basis_keeps_what_it_remembers_right() -> None:
    # Uniform spectrum and a memory of a matrix 1% away: the basis fills and is cut back several times.
    generator = torch.Generator().manual_seed(1)
    base, memory = with_spectrum(torch.linspace(0, 1, 300)), None
    for _ in range(3):
        noise = torch.randn(300, 300, generator=generator, dtype=torch.float64)
        matrix = base + 0.005 * (noise + noise.T)
        found = top_eigenpairs(MatrixOperator(matrix), 2, start=memory, tolerance=1e-6, max_products=400)
        memory = found.memory
        gram = memory.vectors @ memory.vectors.T
        torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=1e-10)
        torch.testing.assert_close(found.values, torch.linalg.eigvalsh(matrix).flip(0)[:2], rtol=1e-6, atol=0)
        assert found.converged
