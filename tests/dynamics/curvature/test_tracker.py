"""Tracking along a path of matrices and along training."""

from __future__ import annotations

import io

import pytest
import torch

from dynamics.curvature.problems import (
    MatrixOperator,
    mse,
    network,
    random_basis,
    small_problem,
    with_spectrum,
)
from eoc.dynamics.curvature import CurvatureTracker, Eigenpairs, HessianOperator, NonFiniteCurvature, top_eigenpairs
from eoc.dynamics.curvature import tracker as tracker_room
from eoc.errors import InvalidInput


def path(steps: int, size: int = 120):
    """Two top eigenvalues that cross half-way, in a slowly turning basis."""
    basis = random_basis(size)
    turn = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    turn = torch.linalg.matrix_exp(0.002 * (turn - turn.T))
    bulk = torch.linspace(-0.3, 0.5, size - 3, dtype=torch.float64).tolist()
    for step in range(steps):
        first, second = 10.0 - 0.05 * step, 9.0 + 0.05 * step
        spectrum = torch.tensor([first, second, 5.0, *bulk], dtype=torch.float64)
        yield basis @ torch.diag(spectrum) @ basis.T, max(first, second)
        basis = basis @ turn


def test_every_step_through_a_crossing_is_right_and_cheaper_than_a_cold_start() -> None:
    tracker, costs = CurvatureTracker(tolerance=1e-3), []
    for matrix, top in path(20):
        found = tracker.probe(MatrixOperator(matrix))
        assert found.converged
        assert abs(float(found.values[0]) - top) <= 1e-3 * top
        costs.append(found.products)
    assert max(costs[1:]) < costs[0]


def test_what_a_scout_of_a_wrong_matrix_finds_is_put_right_and_judged_by_the_operator() -> None:
    noise = torch.randn(120, 120, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    noise = 0.1 * (noise + noise.T) / (noise + noise.T).norm(2)  # a per cent of the top, as of products in bfloat16
    tracker, alone, costs, errors = CurvatureTracker(tolerance=1e-2), CurvatureTracker(tolerance=1e-2), [], []
    for step, (matrix, top) in enumerate(path(20)):
        exact, scout = MatrixOperator(matrix), MatrixOperator(1.01 * matrix + noise)
        found = tracker.probe(exact, scout)
        assert found.converged
        assert found.products == exact.products + scout.products
        residual = float((found.vectors @ matrix - found.values[:, None] * found.vectors).norm())
        assert float(found.residuals[0]) == pytest.approx(residual, rel=1e-9)
        assert abs(float(found.values[0]) - top) <= min(residual, 1e-3 * top)
        errors.append(abs(float(alone.probe(MatrixOperator(1.01 * matrix + noise)).values[0]) - top) / top)
        if step == 0:
            assert scout.products == 0  # there is nothing to start from
        else:
            costs.append(exact.products)
        # Nothing of what the scout saw is forgotten, but what the operator multiplied too is remembered as it is.
        assert len(found.memory.values) == 12
        remembered = (found.vectors @ found.memory.vectors.T).square() @ found.memory.values
        assert float(remembered) == pytest.approx(float(found.values[0]), rel=1e-4)
    assert min(errors) > 5e-3  # the scout's own values are not as right
    assert max(costs) <= 2


def test_bouncing_with_period_two_starts_from_the_probe_before_the_last() -> None:
    def at(step: int) -> torch.Tensor:
        # Two sides of a valley with different eigenvectors, both drifting slowly.
        basis = random_basis(150, seed=step % 2)
        turn = torch.randn(150, 150, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        basis = basis @ torch.matrix_exp(0.0005 * (step // 2) * (turn - turn.T))
        top = [3.0 + 0.01 * step, 2.8, 2.6, 2.5]
        spectrum = torch.tensor([*top, *torch.linspace(-0.5, 1.5, 146).tolist()], dtype=torch.float64)
        return basis @ torch.diag(spectrum) @ basis.T

    tracker, costs = CurvatureTracker(), []
    for step in range(16):
        found = tracker.probe(MatrixOperator(at(step)))
        assert float(found.values[0]) == pytest.approx(3.0 + 0.01 * step, rel=1e-3)
        costs.append(found.products)
    assert tracker.state_dict()["lag"] == 2
    assert max(costs[4:]) <= 4 < min(costs[1:2])


def test_resumed_tracker_continues_bit_for_bit() -> None:
    matrices = [m for m, _ in path(8)]
    whole = CurvatureTracker(k=2)
    expected = [whole.probe(MatrixOperator(m)) for m in matrices]
    first = CurvatureTracker(k=2)
    for m in matrices[:4]:
        first.probe(MatrixOperator(m))
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = CurvatureTracker(k=2, seed=77)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    for m, reference in zip(matrices[4:], expected[4:], strict=True):
        found = second.probe(MatrixOperator(m))
        assert torch.equal(found.values, reference.values)
        assert torch.equal(found.vectors, reference.vectors)
        assert found.products == reference.products


def test_training_is_bitwise_the_same_with_and_without_probes() -> None:
    def train(probed: bool) -> list[torch.Tensor]:
        weights, x, y = small_problem(dtype=torch.float32)
        forward = network(torch.relu, (0.4, 0.6, 0.5))
        optimizer = torch.optim.SGD(weights, lr=0.1)
        tracker = CurvatureTracker()
        operator = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)])
        for _ in range(5):
            optimizer.zero_grad()
            mse(forward(weights, x), y).backward()
            if probed:
                tracker.probe(operator)
            optimizer.step()
        return [w.detach() for w in weights]

    assert all(torch.equal(a, b) for a, b in zip(train(True), train(False), strict=True))


@pytest.mark.parametrize("warm", [False, True])
def test_failed_probe_leaves_the_tracker_as_it_was(warm: bool) -> None:
    tracker = CurvatureTracker()
    if warm:
        tracker.probe(MatrixOperator(with_spectrum([3.0, 2.0, 1.0, 0.5, 0.1])))
    before = tracker.state_dict()
    theta = torch.full((5,), float("inf"), dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(1, 1)
    with pytest.raises(NonFiniteCurvature):
        tracker.probe(HessianOperator(lambda *_: (theta**3).sum(), [theta], [(zeros, zeros)]))
    after = tracker.state_dict()
    assert torch.equal(after.pop("generator"), before.pop("generator"))
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("largest", [1e20, 1e22], ids=["inner products of products", "their squares"])
def test_curvature_that_grows_out_of_range_between_two_probes_is_an_error(largest: float) -> None:
    # Found by a network about to diverge: products are finite, their inner products with residuals are not.
    theta, zeros = torch.ones(20_000, requires_grad=True), torch.zeros(1, 1)

    def operator(halves: torch.Tensor) -> HessianOperator:
        return HessianOperator(lambda *_: (halves * theta.square()).sum(), [theta], [(zeros, zeros)])

    ramp = torch.linspace(0.1, 1.0, len(theta)) / 2
    tracker = CurvatureTracker(tolerance=1e-2)
    tracker.probe(operator(ramp))
    with pytest.raises(NonFiniteCurvature, match=r"too large for torch\.float32"):
        tracker.probe(operator(largest * ramp.flip(0)))
    assert float(tracker.probe(operator(1e12 * ramp.flip(0))).values[0]) == pytest.approx(1e12, rel=1e-2)


def test_state_of_another_shape_is_refused() -> None:
    tracker = CurvatureTracker()
    tracker.probe(MatrixOperator(torch.eye(4)))
    with pytest.raises(InvalidInput, match="follows 4 parameters"):
        tracker.probe(MatrixOperator(torch.eye(5)))
    good = tracker.state_dict()
    for state in [{}, good | {"values": []}, good | {"lag": 3}, good | {"vectors": [torch.ones(4)]}]:
        with pytest.raises(InvalidInput, match="state"):
            CurvatureTracker().load_state_dict(state)
    with pytest.raises(InvalidInput, match="at most two blocks"):
        CurvatureTracker().load_state_dict(good | {name: 3 * good[name] for name in ("vectors", "values")})


@pytest.mark.parametrize(
    "arguments", [{"k": 0}, {"tolerance": -1.0}, {"guards": -1}, {"caution": -1.0}, {"max_products": 1}, {"seed": -1}]
)
def test_bad_arguments_are_refused(arguments) -> None:
    with pytest.raises(InvalidInput):
        CurvatureTracker(**arguments)


def test_a_resumed_tracker_knows_the_period_and_the_random_state() -> None:
    spectrum = [10.0, 9.0, 8.0, *torch.linspace(0, 7, 117).tolist()]
    sides = [MatrixOperator(with_spectrum(spectrum, seed=seed)) for seed in (1, 2)]
    tracker = CurvatureTracker()
    for step in range(7):
        tracker.probe(sides[step % 2])
    state = tracker.state_dict()
    assert state["lag"] == 2
    resumed = CurvatureTracker(seed=5)
    resumed.load_state_dict(state)
    found, expected = resumed.probe(sides[1]), tracker.probe(sides[1])
    assert found.products == expected.products < 6
    assert torch.equal(found.vectors, expected.vectors)
    away = MatrixOperator(-sides[0].matrix)  # nothing remembered helps: it starts cold, from random vectors
    assert torch.equal(resumed.probe(away).vectors, tracker.probe(away).vectors)
    assert torch.equal(resumed.state_dict()["generator"], tracker.state_dict()["generator"])


def test_a_probe_and_a_scout_search_as_the_tracker_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, matrix = [], MatrixOperator(with_spectrum([3.0, 2.0, 1.0, *torch.linspace(0, 0.5, 30).tolist()]))
    names = ("tolerance", "guards", "capacity", "caution")

    def search(operator: MatrixOperator, k: int, **settings: object) -> Eigenpairs:
        asked.append((k, *(settings.get(name) for name in names)))
        return top_eigenpairs(operator, k, **settings)

    monkeypatch.setattr(tracker_room, "top_eigenpairs", search)
    for caution, scouts in ((1.5, 4.0), (6.0, 6.0)):
        tracker = CurvatureTracker(2, 1e-4, guards=3, capacity=5, caution=caution)
        tracker.probe(matrix)
        tracker.probe(matrix, matrix)
        assert asked == [(2, 1e-4, 3, 5, caution), (2, 1e-2, 3, 5, scouts), (2, 1e-4, 0, 8, None)]
        asked.clear()


def test_a_scouted_probe_stays_within_its_budget() -> None:
    matrix = with_spectrum(torch.linspace(0, 1, 200))
    tracker = CurvatureTracker(tolerance=1e-9, max_products=20)
    for step in range(3):
        noise = with_spectrum(torch.linspace(-0.05, 0.05, 200), seed=9 + step)
        found = tracker.probe(MatrixOperator(matrix + noise), MatrixOperator(matrix))
        assert found.products <= 20 + tracker.k
        assert not found.converged
