"""Hessian products of an MLP written out: dense Hessians, PyTorch's graphs, and what the general operator promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynamics.curvature.problems import dense_hessian
from eoc.dynamics.curvature import HessianOperator, NonFiniteCurvature, PerceptronHessian, top_eigenpairs
from eoc.errors import InvalidInput
from eoc.model import MLP
from eoc.model.loss import LOSSES

EVERY_RULE = ["nup", "mup", "mup_inverse_depth", "ntp", "sp"]
Loss = Callable[[Tensor, Tensor], Tensor]
LEAKY, NEITHER = [0.6, 0.4], [-0.3, 1.2]


def problem(
    rule: str = "nup", activation: object = "relu", dtype: torch.dtype = torch.float64, **options: object
) -> tuple[MLP, Tensor, Tensor]:
    """Return a small network, whose layers differ in width, with inputs and one-hot targets."""
    arguments = {"parameterization": rule, "depth": 4, "width": 3, "growth": 1, "seed": 5, **options}
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(17, 6, generator=generator)
    y = torch.eye(3)[torch.randint(3, (17,), generator=generator)]
    return MLP(6, 3, activation=activation, **arguments).to(dtype), x.to(dtype), y.to(dtype)


def dense(operator: HessianOperator) -> Tensor:
    return operator(torch.eye(operator.size, dtype=operator.dtype))


def general(network: MLP, loss: Loss, batches: list, **options: object) -> HessianOperator:
    return HessianOperator(lambda a, b: loss(network(a), b), list(network.weights), batches, network.rates, **options)


def exactly(network: MLP, loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    """The Hessian entry by entry, in float64."""

    def of(weights: list[Tensor]) -> Tensor:
        return loss(network.preactivations(x.double(), weights)[-1], y.double())

    return dense_hessian(of, [w.detach().double() for w in network.weights], network.rates)


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("activation", ["relu", "abs", "leaky_relu", LEAKY, NEITHER], ids=str)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_it_is_the_dense_hessian(loss, activation, dtype, bound) -> None:
    for rule in EVERY_RULE:
        network, x, y = problem(rule, activation, dtype)
        found = dense(PerceptronHessian(network, LOSSES[loss], [(x, y)], network.rates)).double()
        exact = exactly(network, LOSSES[loss], x, y)
        assert (found - exact).norm() <= bound * exact.norm(), rule


@pytest.mark.parametrize("depth", [2, 3, 7])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_it_agrees_with_pytorchs_graphs_at_every_depth(depth, loss) -> None:
    network, x, y = problem(depth=depth)
    ours = PerceptronHessian(network, LOSSES[loss], [(x, y)], network.rates)
    theirs = general(network, LOSSES[loss], [(x, y)])
    torch.testing.assert_close(dense(ours), dense(theirs), rtol=1e-12, atol=1e-14)
    for mine, other in zip(ours.gradient(), theirs.gradient(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


def test_a_deep_linear_network_has_the_hessian_of_its_formula() -> None:
    # f = c_1 c_2 a b x with phi(s) = s: one unit a layer, one input, one output, L = (f - y)^2 / 2.
    network = MLP(1, 1, parameterization="mup", depth=2, width=1, growth=0, activation=[1.0, 0.0]).double()
    x, y = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[0.2]], dtype=torch.float64)
    a, b = (w.item() for w in network.weights)
    c = math.prod(network.forward_factors) * 0.7
    error = c * a * b - 0.2
    mixed = c * c * a * b + c * error
    expected = torch.tensor([[c * c * b * b, mixed], [mixed, c * c * a * a]], dtype=torch.float64)
    found = dense(PerceptronHessian(network, LOSSES["mse"], [(x, y)]))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_chunks_average_exactly_and_vectors_in_one_pass_are_those_one_by_one(monkeypatch) -> None:
    network, x, y = problem("mup", "abs")
    for loss in LOSSES.values():
        whole = PerceptronHessian(network, loss, [(x, y)], network.rates)
        ragged = PerceptronHessian(network, loss, [(x[:5], y[:5]), (x[5:], y[5:])], network.rates)
        single = dense(whole)
        torch.testing.assert_close(dense(ragged), single, rtol=1e-12, atol=1e-14)
        with monkeypatch.context() as patch:
            passes = []
            one = PerceptronHessian._apply

            def counted(self, graph, direction, *, together=False, one=one, passes=passes):
                passes.append(together)
                return one(self, graph, direction, together=together)

            patch.setattr(PerceptronHessian, "_waits", lambda _: True)
            patch.setattr(PerceptronHessian, "_apply", counted)
            torch.testing.assert_close(dense(whole), single, rtol=1e-12, atol=1e-14)
        assert len(passes) == -(-whole.size // 8)
        assert all(passes[:-1])


def test_a_block_is_that_of_the_whole() -> None:
    network, x, y = problem()
    operator = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates)
    first, second = (w.numel() for w in network.weights[:2])
    part = slice(first, first + second)
    torch.testing.assert_close(dense(operator.block([1])), dense(operator)[part, part], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_follows_the_weights_and_disturbs_nothing(mode) -> None:
    network, x, y = problem("sp")
    operator = PerceptronHessian(network, LOSSES["cross_entropy"], [(x, y)], network.rates)
    before = dense(operator)
    with torch.no_grad():
        for weight in network.weights:
            weight *= 0.9
            weight.grad = torch.full_like(weight, 0.5)
    held = [w.detach().clone() for w in network.weights]
    state = torch.get_rng_state()
    with mode():
        after = dense(operator)
        fresh = PerceptronHessian(network, LOSSES["cross_entropy"], [(x, y)], network.rates)
        assert torch.equal(after, dense(fresh))
    assert not torch.allclose(after, before)
    assert not after.requires_grad
    assert all(torch.equal(w, h) for w, h in zip(network.weights, held, strict=True))
    assert all(torch.equal(w.grad, torch.full_like(w, 0.5)) for w in network.weights)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_without_curvature_leaves_the_networks_own() -> None:
    network, x, y = problem()

    def linear(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * targets).sum() / len(outputs)

    found = dense(PerceptronHessian(network, linear, [(x, y)], network.rates))
    torch.testing.assert_close(found, dense(general(network, linear, [(x, y)])), rtol=1e-12, atol=1e-14)
    assert float(found.norm()) > 0


def test_a_readout_of_zero_and_a_dead_network() -> None:
    network, x, y = problem("mup", readout_init="zero")
    operator = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates)
    theirs = general(network, LOSSES["mse"], [(x, y)])
    assert top_eigenpairs(operator).values.tolist() == pytest.approx(top_eigenpairs(theirs).values.tolist())
    with torch.no_grad():
        network.weights[1].copy_(-network.weights[1].abs())  # features of layer 1 are positive: ReLU gives 0
    assert torch.equal(dense(operator), torch.zeros(operator.size, operator.size, dtype=operator.dtype))


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("layer", [0, 3])
def test_weights_that_are_no_longer_finite_are_an_error(poison, layer) -> None:
    network, x, y = problem()
    with torch.no_grad():
        network.weights[layer][0, 0] = poison
    operator = PerceptronHessian(network, LOSSES["mse"], [(x, y)], network.rates)
    with pytest.raises(NonFiniteCurvature, match="NaN or infinity"):
        operator(torch.ones(1, operator.size, dtype=operator.dtype))


def test_bad_input_is_refused() -> None:
    network, x, y = problem()
    ones = torch.ones(1, sum(w.numel() for w in network.weights), dtype=torch.float64)

    class Other(MLP):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs).square()

    other = Other(6, 3, parameterization="nup", depth=2, width=3, growth=0)
    with pytest.raises(InvalidInput, match=r"network=Other.*HessianOperator takes any module"):
        PerceptronHessian(other, LOSSES["mse"], [(x, y)])
    with pytest.raises(InvalidInput, match="the mean over the examples"):
        PerceptronHessian(network, lambda a, b: (a - b).square().sum(1), [(x, y)])(ones)
    with pytest.raises(InvalidInput, match="nothing depends on them"):
        PerceptronHessian(network, lambda _, b: b.sum(), [(x, y)])(ones)


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("together", [False, True])
def test_bfloat16_products_are_right_to_a_per_cent_and_give_the_same_eigenvalue(loss, together, monkeypatch) -> None:
    network, x, y = problem("mup", dtype=torch.float32, width=32, growth=0)
    monkeypatch.setattr(PerceptronHessian, "_waits", lambda _: together)
    exact = PerceptronHessian(network, LOSSES[loss], [(x, y)], network.rates)
    coarse = PerceptronHessian(network, LOSSES[loss], [(x, y)], network.rates, autocast=torch.bfloat16)
    graphs = general(network, LOSSES[loss], [(x, y)], autocast=torch.bfloat16)
    rows = torch.randn(3, exact.size, generator=torch.Generator().manual_seed(4))
    scale = float(top_eigenpairs(exact, which="magnitude").values[0].abs()) * rows.norm()
    assert coarse(rows).dtype == torch.float32
    assert 1e-6 * scale < (coarse(rows) - exact(rows)).norm() < 1e-2 * scale
    assert (coarse(rows) - graphs(rows)).norm() < 1e-2 * scale
    best = float(top_eigenpairs(exact, tolerance=1e-5).values[0])
    assert float(top_eigenpairs(coarse, tolerance=1e-2).values[0]) == pytest.approx(best, rel=1e-2)
    with pytest.raises(InvalidInput, match=r"autocast=torch\.bfloat16 is not possible: its gradient is not that of a"):
        coarse.gradient()
