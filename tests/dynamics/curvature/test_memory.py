"""The remembered model against its formula written out densely."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynamics.curvature.problems import MatrixOperator, random_basis, with_spectrum
from eoc.dynamics.curvature import CurvatureTracker, SpectralMemory, top_eigenpairs
from eoc.dynamics.curvature.memory import Prediction
from eoc.dynamics.curvature.subspace import Rows, combined, inner, orthonormalized, random_vector


def setting() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, a basis V, and a memory U, values that knows something of A."""
    A = with_spectrum([5.0, 4.0, 3.0, 2.0, 1.0, *torch.linspace(-0.5, 0.5, 25).tolist()])
    V = torch.linalg.qr(torch.randn(30, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64))[0].T
    U = random_basis(30).T[:4]
    return A, V, U, torch.tensor([5.2, 3.9, 3.0, 2.5], dtype=torch.float64)


def updated(A: Tensor, V: Tensor, U: Tensor, values: Tensor) -> Tensor:
    W, P = V @ A, torch.eye(30, dtype=torch.float64) - V.T @ V
    return V.T @ W + W.T @ V - V.T @ (V @ W.T) @ V + P @ (U.T * values @ U) @ P


def prediction(A: Tensor, V: Tensor, U: Tensor, values: Tensor) -> Prediction:
    W = V @ A
    return Prediction(V @ W.T, V @ U.T, W @ U.T, values, lambda v: v)


def test_update_reproduces_the_products_and_changes_nothing_else() -> None:
    A, V, U, values = setting()
    model = updated(A, V, U, values)
    torch.testing.assert_close(V @ model, V @ A)
    # Nearest to M among the symmetric matrices with these products: no change outside V's rows and columns.
    P = torch.eye(30, dtype=torch.float64) - V.T @ V
    change = P @ (model - U.T * values @ U) @ P
    assert float(change.norm()) < 1e-12


def test_remembered_pairs_are_those_of_the_update_in_the_span() -> None:
    A, V, U, values = setting()
    span = torch.linalg.qr(torch.cat([V, U]).T)[0].T
    exact = torch.linalg.eigvalsh(span @ updated(A, V, U, values) @ span.T).flip(0)
    found, inside, outside = prediction(A, V, U, values).remembered(7)
    torch.testing.assert_close(found, exact)
    vectors = inside @ V + outside @ U
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(7, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(vectors @ updated(A, V, U, values) @ vectors.T, torch.diag(exact), rtol=0, atol=1e-10)


def test_directions_are_eigenvectors_of_the_update() -> None:
    A, V, U, values = setting()
    W = V @ A
    theta, mixing = torch.linalg.eigh(V @ W.T)
    theta, mixing = theta.flip(0), mixing.flip(1)
    R = (mixing.T @ W - theta[:, None] * (mixing.T @ V))[:1] * 1e-3  # any length
    coefficients = prediction(A, V, U, values).directions([0], U @ R.T, W @ R.T, R @ R.T)
    found = coefficients @ torch.cat([U, R])
    span = torch.linalg.qr(torch.cat([V, U, R]).T)[0].T
    vector = torch.linalg.eigh(span @ updated(A, V, U, values) @ span.T)[1][:, -1] @ span
    P = torch.eye(30, dtype=torch.float64) - V.T @ V
    a, b = found[0] @ P, vector @ P
    assert float((a @ b).abs() / (a.norm() * b.norm())) == pytest.approx(1.0, abs=1e-9)


def test_right_memory_saves_products_and_a_wrong_one_does_no_harm() -> None:
    values = torch.tensor([5.0, 4.9, 4.8, 4.7, 4.6, *torch.linspace(-0.5, 0.5, 295).tolist()], dtype=torch.float64)
    matrix, basis = with_spectrum(values), random_basis(300).T
    mixed = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    near = SpectralMemory(mixed @ basis[:5], torch.full((5,), 4.8, dtype=torch.float64))
    wrong = SpectralMemory(basis[100:112], torch.linspace(9, 8, 12, dtype=torch.float64))
    for memory, most in [(near, 6), (wrong, 60)]:
        found = top_eigenpairs(MatrixOperator(matrix), 1, start=memory, tolerance=1e-4)
        assert found.values.tolist() == pytest.approx([5.0], rel=1e-4)
        assert found.products <= most


def test_from_a_memory_the_other_ends_are_found_as_well_as_the_largest() -> None:
    values = torch.tensor([5.0, 4.9, 4.8, 4.7, *torch.linspace(-0.5, 0.5, 196).tolist()], dtype=torch.float64)
    turn = 0.01 * torch.randn(200, 200, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    turn = torch.linalg.matrix_exp((turn - turn.T) / 2)
    matrix = with_spectrum(values)
    near = turn @ matrix @ turn.T
    expected = top_eigenpairs(MatrixOperator(near), 2, start=top_eigenpairs(MatrixOperator(matrix), 2).memory)
    assert expected.converged
    for which, sign in [("smallest", -1), ("magnitude", -1), ("magnitude", 1)]:
        memory = top_eigenpairs(MatrixOperator(sign * matrix), 2, which=which).memory
        found = top_eigenpairs(MatrixOperator(sign * near), 2, which=which, start=memory)
        torch.testing.assert_close(found.values, sign * expected.values)
        assert found.products == expected.products
        assert (sign * found.memory.values[:4]).tolist() == pytest.approx(values[:4].tolist(), rel=1e-2)


@pytest.mark.parametrize(("k", "most"), [(1, 8), (3, 17), (5, 25)])
def test_a_turning_cluster_is_followed_at_few_products(k: int, most: int) -> None:
    values = torch.cat([torch.linspace(5, 3, 12), torch.linspace(1, -1, 388)]).double()
    basis, generator = random_basis(400), torch.Generator().manual_seed(3)
    turn = 0.01 * torch.randn(400, 400, generator=generator, dtype=torch.float64)
    turn = torch.linalg.matrix_exp((turn - turn.T) / 2)
    tracker, products = CurvatureTracker(k=k, tolerance=1e-3), []
    for _ in range(8):
        basis = turn @ basis
        found = tracker.probe(MatrixOperator(basis * values @ basis.T))
        assert found.values.tolist() == pytest.approx(values[:k].tolist(), rel=1e-3)
        products.append(found.products)
    assert max(products[1:]) <= most


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 1023, 1024, 9000])
def test_inner_products_are_accumulated_in_float64(dtype, size) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, size, generator=generator).to(dtype), torch.randn(3, size, generator=generator).to(dtype)
    exact = a.double() @ b.double().T
    scale = torch.outer(a.double().norm(dim=1), b.double().norm(dim=1))
    assert bool(((inner(a, b) - exact).abs() <= 3e-8 * scale).all())


def test_the_blocks_of_a_long_inner_product_are_summed_in_float64() -> None:
    for seed in range(3):
        long = torch.randn(1, 1 << 20, generator=torch.Generator().manual_seed(seed))
        assert float(inner(long, long)) == pytest.approx(float(long.double().square().sum()), rel=8e-9)


def test_orthonormalization_of_nearly_dependent_vectors() -> None:
    basis = random_basis(500).T[:5].float()
    noise = torch.randn(1, 500, generator=torch.Generator().manual_seed(2))
    for part in (1e-3, 2e-5):
        vector = basis[:1] + part * noise
        given = vector.clone()
        unit = orthonormalized(vector, basis)
        assert float((unit @ basis.T).abs().max()) < 1e-6
        assert float(unit.norm()) == pytest.approx(1.0, abs=1e-6)
        assert torch.equal(vector, given)
    assert len(orthonormalized(basis[:1] + 1e-5 * noise, basis)) == 0  # 2e-4, below the root of float32's precision
    assert len(orthonormalized(basis[:1] + basis[3], basis)) == 0
    assert len(orthonormalized(torch.zeros(1, 500), basis)) == 0


@pytest.mark.parametrize("m", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthonormalization_of_several_vectors_at_once(m, dtype) -> None:
    """Rows close to the basis, to each other, dependent, zero or of odd lengths: what is left is orthonormal."""
    basis = random_basis(500).T[:m].to(dtype)
    draws = torch.randn(4, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).to(dtype)
    near = draws[0] + 1e-3 * draws[1]
    inside = basis.sum(0) + 1e-3 * draws[2]  # of what the basis lacks, the third draw alone
    zero = torch.zeros(500, dtype=dtype)
    given = torch.stack([1e-20 * draws[0], zero, near, draws[0] + near, inside, 1e4 * draws[3]])
    found = orthonormalized(given, basis)
    assert len(found) == 4
    both = torch.cat([basis, found]).double()
    assert float((both @ both.T - torch.eye(m + 4, dtype=torch.float64)).abs().max()) < 20 * torch.finfo(dtype).eps
    expected, _ = torch.linalg.qr(torch.cat([basis, draws]).double().T)
    missing = expected - both.T @ (both @ expected)
    assert float(missing.norm(dim=0).max()) < 2e4 * torch.finfo(dtype).eps  # the same span, through differences of 1e-3
    assert abs(float(found[0].double() @ expected[:, m])) == pytest.approx(1, abs=1e-5)  # the most wanted first


def test_random_vectors_are_the_same_in_either_precision() -> None:
    single, double = (
        random_vector(100, torch.Generator().manual_seed(1), torch.empty(0, dtype=dtype))
        for dtype in (torch.float32, torch.float64)
    )
    assert torch.equal(single, double.float())
    assert not torch.equal(single.double(), double)


def test_rows_grow_and_keep_their_values() -> None:
    rows, data = Rows(3, torch.empty(0)), torch.arange(60.0).reshape(20, 3)
    for row in data:
        rows.append(row[None])
    assert torch.equal(rows.matrix, data)
    rows.replace(data[:2] * 2)
    assert torch.equal(rows.matrix, data[:2] * 2)


@pytest.mark.parametrize("size", [1, 100, 8192, 20000])
def test_a_combination_in_pieces_is_the_combination(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    rows, others = (torch.randn(count, size, generator=generator) for count in (3, 5))
    a, b = (torch.randn(4, count, dtype=torch.float64, generator=generator) for count in (3, 5))
    expected = a @ rows.double() + b @ others.double()
    found = combined(a, rows, b, others)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.allclose(combined(a, rows.double(), b, others.double()), expected, rtol=1e-12)
