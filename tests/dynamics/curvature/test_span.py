"""The coordinates of the inputs' span: known ranks, the Hessian's own eigenvalues, and the same without them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynamics.curvature.test_perceptron import EVERY_RULE, dense, problem
from eoc.dynamics.curvature import (
    CurvatureTracker,
    InputSpan,
    NonFiniteCurvature,
    PerceptronHessian,
    input_span,
    top_eigenpairs,
)
from eoc.errors import InvalidInput
from eoc.model import MLP
from eoc.model.loss import LOSSES


def of_rank(examples: int, features: int, rank: int, dtype: torch.dtype = torch.float64, least: float = 1.0) -> Tensor:
    """Random inputs whose singular values fall from 1 to ``least``, and then to 0."""
    generator = torch.Generator().manual_seed(features)
    left = torch.linalg.qr(torch.randn(examples, rank, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(features, rank, generator=generator, dtype=torch.float64)).Q
    return (left * torch.logspace(0, torch.tensor(least).log10().item(), rank) @ right.T).to(dtype)


def spanned(x: Tensor) -> InputSpan:
    span = input_span(x)
    assert span is not None
    return span


def rank_deficient(rule: str = "nup", dtype: torch.dtype = torch.float64, **options: object) -> tuple:
    """A small network on inputs of rank 4 in 6 features, of which one is the same in all."""
    network, x, y = problem(rule, dtype=dtype, **options)
    x = x.clone()
    x[:, 2], x[:, 5] = 0, x[:, 0] - 2 * x[:, 1]
    return network, x, y, spanned(x)


@pytest.mark.parametrize(
    ("dtype", "least", "bound"), [(torch.float64, 1e-12, 1e-14), (torch.float32, 1e-4, 1e-6), (torch.float64, 1, 1e-14)]
)
@pytest.mark.parametrize(("examples", "features", "rank"), [(40, 30, 20), (12, 30, 12), (30, 30, 27), (3000, 8, 1)])
def test_it_has_the_rank_of_the_inputs_and_holds_them(dtype, least, bound, examples, features, rank) -> None:
    x = of_rank(examples, features, rank, dtype, least)
    span = spanned(x)
    assert (span.basis.shape, span.inputs.shape) == ((rank, features), (examples, rank))
    assert span.basis.dtype == span.inputs.dtype == dtype
    eye = torch.eye(rank, dtype=torch.float64)
    torch.testing.assert_close(span.basis.double() @ span.basis.double().T, eye, rtol=0, atol=10 * bound)
    assert (span.inputs @ span.basis - x).norm() <= 5 * bound * x.norm()


def test_many_features_are_spanned_by_the_examples() -> None:
    x = torch.randn(50, 1100, generator=torch.Generator().manual_seed(0))
    span = spanned(x)
    assert span.basis.shape == (50, 1100)
    assert (span.inputs @ span.basis - x).norm() <= 1e-6 * x.norm()


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(40, 30, generator=torch.Generator().manual_seed(0)),
        of_rank(40, 30, 28),
        torch.randn(1000, 1100, generator=torch.Generator().manual_seed(0)),
        torch.ones(2000, 1100),
        torch.zeros(4, 5),
    ],
    ids=["full rank", "nearly full", "as many as features", "dear to find", "nothing"],
)
def test_where_nothing_is_to_be_gained_there_is_none(x: Tensor) -> None:
    assert input_span(x) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_basis_depends_on_the_space_alone(dtype) -> None:
    # All singular values alike: any rotation of the axes is as good, and another order of the examples another one.
    x = of_rank(40, 30, 20, dtype)
    mixing = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    basis = spanned(x).basis
    for same in (x.flip(0), (mixing @ x.double()).to(dtype), 3 * x):
        torch.testing.assert_close(spanned(same).basis, basis, rtol=0, atol=1e3 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("rule", EVERY_RULE)
def test_products_and_eigenvalues_are_those_in_all_coordinates(rule, loss) -> None:
    network, x, y, span = rank_deficient(rule)
    whole = PerceptronHessian(network, LOSSES[loss], [(x, y)], network.rates)
    inside = PerceptronHessian(network, LOSSES[loss], [(x, y)], network.rates, span=span)
    assert whole.size - inside.size == 2 * network.widths[1]
    lift = inside.expanded(torch.eye(inside.size, dtype=torch.float64))
    exact = dense(whole)
    scale = exact.abs().max().item()
    torch.testing.assert_close(lift @ lift.T, torch.eye(inside.size, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(lift.T @ dense(inside) @ lift, exact, rtol=0, atol=1e-13 * scale)
    values = torch.cat([torch.linalg.eigvalsh(dense(inside)), torch.zeros(whole.size - inside.size)])
    torch.testing.assert_close(values.sort().values, torch.linalg.eigvalsh(exact), rtol=0, atol=1e-12 * scale)
    for mine, other in zip(inside.gradient(), whole.gradient(), strict=True):
        assert torch.equal(mine, other)  # a training step that takes it is the same


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_eigenpairs_found_inside_are_those_of_the_whole(autocast) -> None:
    network, x, y, span = rank_deficient(dtype=torch.float32, width=12)
    whole = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates)
    inside = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates, autocast=autocast, span=span)
    tolerance = 1e-4 if autocast is None else 2e-2
    expected = top_eigenpairs(whole, 3, tolerance=1e-5)
    found = top_eigenpairs(inside, 3, tolerance=tolerance)
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=tolerance * float(expected.values[0]))
    vectors = inside.expanded(found.vectors)
    left = whole(vectors) - found.values[:, None].float() * vectors
    assert left.norm(dim=1).max() <= 2 * tolerance * expected.values[0]
    assert torch.equal(whole.expanded(expected.vectors), expected.vectors)


def test_it_follows_the_weights_and_complains_of_what_is_not_finite() -> None:
    network, x, y, span = rank_deficient()
    operator = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates, span=span)
    operator(torch.ones(1, operator.size, dtype=torch.float64))
    with torch.no_grad():
        network.weights[0].mul_(1.5)
    fresh = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates, span=span)
    assert torch.equal(dense(operator), dense(fresh))
    with torch.no_grad():
        network.weights[1].fill_(float("nan"))
    with pytest.raises(NonFiniteCurvature):
        operator(torch.ones(1, operator.size, dtype=torch.float64))


def test_a_tracker_can_change_over_to_it() -> None:
    network, x, y, span = rank_deficient()
    tracker = CurvatureTracker()
    assert tracker.size is None
    whole = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates)
    inside = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates, span=span)
    expected = tracker.probe(whole).values
    assert tracker.size == whole.size
    with pytest.raises(InvalidInput, match=rf"follows {whole.size} parameters; .* let it forget"):
        tracker.probe(inside)
    tracker.forget()
    assert tracker.size is None
    torch.testing.assert_close(tracker.probe(inside).values, expected, rtol=1e-3, atol=0)
    assert tracker.size == inside.size


def test_what_it_is_not_for_is_refused() -> None:
    network, x, y, span = rank_deficient()
    loss, rates = LOSSES["mse"], network.rates
    for key, arguments in (
        ("span", {"batches": [(x[:5], y[:5]), (x[5:], y[5:])]}),
        ("span", {"batches": [(x, y)], "reduce": lambda _: None}),
        ("span", {"batches": [(x[:5], y[:5])]}),
        ("metric", {"batches": [(x, y)], "metric": [torch.ones(6), *rates[1:]]}),
    ):
        with pytest.raises(InvalidInput) as error:
            PerceptronHessian(network, loss, **({"metric": rates} | arguments), span=span)
        assert error.value.key == key
    fitting = MLP(5, 3, parameterization="mup", depth=2, width=3, growth=0).double()
    with pytest.raises(InvalidInput, match="of other inputs"):
        PerceptronHessian(fitting, loss, [(x[:, :5], y)], span=span)
