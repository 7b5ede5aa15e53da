"""Hessian products: closed forms, dense Hessians, chunks, and that nothing is disturbed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynamics.curvature.problems import dense_hessian, mse, network, small_problem, with_spectrum
from eoc.dynamics.curvature import HessianOperator, NonFiniteCurvature, top_eigenpairs
from eoc.errors import InvalidInput

FACTORS = (0.4, 0.6, 0.5)
METRIC = (0.5, 2.0, 7.0)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(outputs, targets.argmax(1))


def dense(operator: HessianOperator) -> Tensor:
    return operator(torch.eye(operator.size, dtype=operator.dtype))


def quadratic(matrix: Tensor, theta: Tensor) -> HessianOperator:
    zeros = torch.zeros(1, 1)
    return HessianOperator(lambda *_: 0.5 * theta @ matrix @ theta, [theta], [(zeros, zeros)])


def test_quadratic_loss_gives_its_matrix() -> None:
    matrix = with_spectrum([3.0, 1.0, -2.0, 0.0])
    theta = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    torch.testing.assert_close(dense(quadratic(matrix, theta)), matrix)


@pytest.mark.parametrize("loss", [mse, cross_entropy])
@pytest.mark.parametrize("activation", [torch.relu, torch.abs, torch.tanh])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_small_networks_against_dense_hessians(loss, activation, dtype) -> None:
    weights, x, y = small_problem(dtype=dtype)
    forward = network(activation, FACTORS)
    operator = HessianOperator(lambda a, b: loss(forward(weights, a), b), weights, [(x, y)], METRIC)
    exact = dense_hessian(
        lambda w: loss(forward(w, x.double()), y.double()), [w.detach().double() for w in weights], METRIC
    )
    bound = 1e-12 if dtype == torch.float64 else 2e-6
    assert (dense(operator).double() - exact).norm() <= bound * exact.norm()


def test_two_layer_network_with_its_hessian_written_out() -> None:
    # f = sum_j a_j tanh(w_j x): one input, one output, L = (f - y)^2 / 2 for a single example.
    generator = torch.Generator().manual_seed(3)
    w, a = (torch.randn(4, dtype=torch.float64, generator=generator) for _ in range(2))
    x, y = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[0.2]], dtype=torch.float64)
    t = torch.tanh(w * x[0, 0])
    slope, curve = x[0, 0] * (1 - t**2), -2 * x[0, 0] ** 2 * t * (1 - t**2)
    error = a @ t - y[0, 0]
    jacobian = torch.cat([a * slope, t])
    expected = torch.outer(jacobian, jacobian)
    expected[:4, :4] += error * torch.diag(a * curve)
    expected[:4, 4:] += error * torch.diag(slope)
    expected[4:, :4] += error * torch.diag(slope)
    weights = [w[:, None].requires_grad_(), a[None].requires_grad_()]
    forward = network(torch.tanh, (1.0, 1.0))
    operator = HessianOperator(lambda p, q: mse(forward(weights, p), q), weights, [(x, y)])
    torch.testing.assert_close(dense(operator), expected)


@pytest.mark.parametrize("sizes", [(23,), (10, 13), (9, 9, 5), (1,) * 23])
def test_chunks_average_exactly(sizes) -> None:
    weights, x, y = small_problem()
    forward = network(torch.tanh, FACTORS)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return cross_entropy(forward(weights, a), b)

    whole = HessianOperator(loss, weights, [(x, y)], METRIC)
    parts = HessianOperator(loss, weights, list(zip(x.split(sizes), y.split(sizes), strict=True)), METRIC)
    torch.testing.assert_close(dense(parts), dense(whole), rtol=1e-12, atol=1e-14)


def test_subset_of_parameters_gives_its_block() -> None:
    weights, x, y = small_problem()
    forward = network(torch.tanh, FACTORS)
    whole = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)], METRIC)
    block = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights[1:2], [(x, y)], METRIC[1:2])
    first = weights[0].numel()
    rows = slice(first, first + weights[1].numel())
    torch.testing.assert_close(dense(block), dense(whole)[rows, rows])


def test_metric_may_be_any_positive_diagonal() -> None:
    weights, x, y = small_problem()
    forward = network(torch.tanh, FACTORS)
    generator = torch.Generator().manual_seed(2)
    metric = [torch.rand(w.shape, dtype=w.dtype, generator=generator) + 0.1 for w in weights]
    plain = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)])
    scaled = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)], metric)
    roots = torch.cat([g.reshape(-1) for g in metric]).sqrt()
    torch.testing.assert_close(dense(scaled), roots[:, None] * dense(plain) * roots)


def test_products_are_taken_at_the_present_weights() -> None:
    theta = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(1, 1)
    operator = HessianOperator(lambda *_: (theta**4).sum() / 12, [theta], [(zeros, zeros)])
    torch.testing.assert_close(dense(operator).diagonal(), theta.detach() ** 2)
    with torch.no_grad():
        theta += 1.0
    torch.testing.assert_close(dense(operator).diagonal(), theta.detach() ** 2)


@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize(
    "step",
    [
        lambda ps: torch.optim.SGD(ps, lr=0.3, fused=True).step(),
        lambda ps: torch.optim.AdamW(ps, lr=0.3, fused=True).step(),
        lambda ps: [p.data.sub_(0.3 * p.grad) for p in ps],
        lambda ps: [setattr(p, "data", p.data - 0.3 * p.grad) for p in ps],
        lambda ps: torch.nn.utils.vector_to_parameters(torch.nn.utils.parameters_to_vector(ps) - 0.3, ps),
    ],
    ids=["fused SGD", "fused AdamW", "data in place", "data replaced", "vector_to_parameters"],
)
def test_steps_that_leave_no_trace_in_the_versions_are_seen(step, module) -> None:
    """Also those of the module's other layers, which a block of one layer holds fixed while it multiplies."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    x, y = torch.randn(7, 5), torch.randn(7, 2)
    chosen = list(net[2].parameters() if module else net.parameters())
    moved = list(net[0].parameters() if module else net.parameters())

    def fresh() -> HessianOperator:
        return HessianOperator(lambda a, b: mse(net(a), b), chosen, [(x, y)], module=net)

    kept = fresh()
    before = dense(kept)
    mse(net(x), y).backward()
    with torch.no_grad():
        step(moved)
    assert torch.equal(dense(kept), dense(fresh()))
    assert not torch.equal(dense(kept), before)
    assert all(torch.equal(a, b) for a, b in zip(kept.gradient(), fresh().gradient(), strict=True))


@pytest.mark.parametrize("chunks", [1, 3])
def test_nothing_is_disturbed(chunks) -> None:
    weights, x, y = small_problem()
    forward = network(torch.relu, FACTORS)
    for w in weights:
        w.grad = torch.full_like(w, 0.5)
    before = [w.detach().clone() for w in weights]
    random_state = torch.get_rng_state()
    operator = HessianOperator(
        lambda a, b: mse(forward(weights, a), b),
        weights,
        list(zip(x.chunk(chunks), y.chunk(chunks), strict=True)),
    )
    operator(torch.eye(operator.size, dtype=operator.dtype)[:2])
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))
    assert all(torch.equal(w.grad, torch.full_like(w, 0.5)) for w in weights)
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode) -> None:
    weights, x, y = small_problem()
    forward = network(torch.tanh, FACTORS)
    operator = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)])
    v = torch.ones(1, operator.size, dtype=operator.dtype)
    expected = operator(v)
    with mode():
        fresh = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)])
        inside = fresh(v)
        gradient = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)]).gradient()
    assert torch.equal(inside, expected)
    assert all(torch.equal(a, b) for a, b in zip(gradient, operator.gradient(), strict=True))


def test_linear_and_unused_parts_have_no_curvature() -> None:
    zeros = torch.zeros(1, 1)
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    linear = HessianOperator(lambda *_: used.sum(), [used, unused], [(zeros, zeros)])
    partial = HessianOperator(lambda *_: (used**2).sum(), [used, unused], [(zeros, zeros)])
    assert torch.equal(dense(linear), torch.zeros(5, 5))
    assert torch.equal(dense(partial), torch.diag(torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0])))
    assert [g.tolist() for g in partial.gradient()] == [[2.0, 2.0], [0.0, 0.0, 0.0]]


def test_products_are_counted_and_reduced_in_place() -> None:
    calls = []

    def halve(product: Tensor) -> None:
        calls.append(product.shape)
        product.mul_(0.5)

    theta = torch.ones(3, requires_grad=True)
    zeros = torch.zeros(1, 1)
    operator = HessianOperator(lambda *_: (theta**2).sum(), [theta], [(zeros, zeros)] * 2, reduce=halve)
    assert torch.equal(dense(operator), torch.eye(3))
    assert (operator.products, calls) == (3, [torch.Size([3, 3])])


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_non_finite_products_are_an_error(poison) -> None:
    theta = torch.ones(3, requires_grad=True)
    data = torch.tensor([[poison]])
    operator = HessianOperator(lambda a, _: (a * theta**2).sum(), [theta], [(data, data)])
    with pytest.raises(NonFiniteCurvature, match="NaN or infinity"):
        operator(torch.ones(1, 3))


def test_products_whose_sum_alone_overflows_are_finite() -> None:
    theta, zeros = torch.zeros(3, requires_grad=True), torch.zeros(1, 1)
    operator = HessianOperator(lambda *_: (1.5e38 * theta.square()).sum(), [theta], [(zeros, zeros)])
    assert torch.equal(operator(torch.ones(1, 3)), torch.full((1, 3), 3e38))


def test_bad_input_is_refused() -> None:
    theta, zeros = torch.ones(3, requires_grad=True), torch.zeros(1, 1)
    good = [(zeros, zeros)]

    def loss(*_: Tensor) -> Tensor:
        return theta.sum()

    for parameters, batches, metric in [
        ([], good, None),
        ([theta], [], None),
        ([theta], [(zeros[:0], zeros[:0])], None),
        ([theta, theta.detach().double().requires_grad_()], good, None),
        ([torch.ones(3)], good, None),
        ([theta, torch.ones(3)], good, None),
        ([torch.ones(3, dtype=torch.bfloat16, requires_grad=True)], good, None),
        ([theta], good, [1.0, 1.0]),
        ([theta], good, [0.0]),
        ([theta], good, [float("nan")]),
        ([theta], good, [torch.tensor([1.0, -1.0, 1.0])]),
        ([theta], good, [torch.tensor([1.0, float("inf"), 1.0])]),
    ]:
        with pytest.raises(InvalidInput):
            HessianOperator(loss, parameters, batches, metric)


@pytest.mark.parametrize("loss", [mse, cross_entropy])
def test_bfloat16_products_are_right_to_a_per_cent_and_give_the_same_eigenvalue(loss) -> None:
    weights, x, y = small_problem(dtype=torch.float32, n=200, widths=(20, 40, 40, 10))
    forward = network(torch.relu, (20**-0.5, 20**-0.5, 1 / 40))
    arguments = (lambda a, b: loss(forward(weights, a), b), weights, [(x[:150], y[:150]), (x[150:], y[150:])], METRIC)
    exact, coarse = HessianOperator(*arguments), HessianOperator(*arguments, autocast=torch.bfloat16)
    rows = torch.randn(8, exact.size, generator=torch.Generator().manual_seed(5))
    sharpness = top_eigenpairs(exact, tolerance=1e-5)
    top = float(sharpness.values[0])
    for vectors in (rows, sharpness.vectors):
        wrong = (coarse(vectors) - exact(vectors)).norm(dim=1) / (top * vectors.norm(dim=1))
        assert 1e-4 < wrong.max() < 2e-2
    assert coarse(rows).dtype == torch.float32
    torch.testing.assert_close(coarse.block([1])(rows[:, : weights[1].numel()]), coarse_block(arguments, 1, rows))
    found = top_eigenpairs(coarse, tolerance=1e-2)
    assert found.converged
    assert float(found.values[0]) == pytest.approx(top, rel=4e-3)


def coarse_block(arguments: tuple, index: int, rows: Tensor) -> Tensor:
    """The products of one parameter's block, as a part of those with the whole."""
    loss, weights, batches, metric = arguments
    whole = HessianOperator(loss, weights, batches, metric, autocast=torch.bfloat16)
    start = sum(w.numel() for w in weights[:index])
    stop = start + weights[index].numel()
    padded = torch.zeros(len(rows), whole.size)
    padded[:, start:stop] = rows[:, : stop - start]
    return whole(padded)[:, start:stop]


def test_bfloat16_products_serve_no_training_step_and_no_float64() -> None:
    weights, x, y = small_problem(dtype=torch.float32)
    forward = network(torch.relu, FACTORS)
    loss = lambda a, b: mse(forward(weights, a), b)  # noqa: E731
    with pytest.raises(InvalidInput, match=r"autocast=torch\.bfloat16 is not possible: its gradient is not that of a"):
        HessianOperator(loss, weights, [(x, y)], autocast=torch.bfloat16).gradient()
    exact = [w.detach().double().requires_grad_() for w in weights]
    with pytest.raises(InvalidInput, match=r"it is for parameters of float32, these are of torch\.float64"):
        HessianOperator(loss, exact, [(x, y)], autocast=torch.bfloat16)


def test_the_sum_over_many_chunks_does_not_cost_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4000, 1, generator=generator) + 0.5
    theta = torch.ones(1, requires_grad=True)

    def loss(inputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return 0.5 * (theta * inputs).square().mean()

    batches = list(zip(x.split(1), x.split(1), strict=True))
    found = HessianOperator(loss, [theta], batches)(torch.ones(1, 1))
    assert float(found) == pytest.approx(float(x.double().square().mean()), rel=2e-7)


def test_a_block_is_summed_over_the_processes_too() -> None:
    weights, x, y = small_problem()
    forward = network(torch.tanh, (0.4, 0.6, 0.5))
    halved = HessianOperator(
        lambda a, b: mse(forward(weights, a), b), weights, [(x, y)], reduce=lambda products: products.mul_(0.5)
    )
    plain = HessianOperator(lambda a, b: mse(forward(weights, a), b), weights, [(x, y)])
    vectors = torch.randn(2, weights[0].numel(), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(halved.block([0])(vectors), 0.5 * plain.block([0])(vectors))


def test_a_graph_serves_until_a_weight_moves_and_also_when_it_moves_back():
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    zeros, built = torch.zeros(1, 1), []

    def loss(*_):
        built.append(1)
        return theta.exp().sum()

    operator = HessianOperator(loss, [theta], [(zeros, zeros)])
    eye = torch.eye(3, dtype=torch.float64)
    operator(eye), operator(eye)
    assert len(built) == 1
    for value in (2.0, 1.0):
        theta.data.fill_(value)
        torch.testing.assert_close(operator(eye).diagonal(), theta.detach().exp())


def test_inside_held_weights_are_looked_at_once_and_after_it_again(monkeypatch):
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    zeros, eye, looks = torch.zeros(1, 1), torch.eye(3, dtype=torch.float64), []
    operator = HessianOperator(lambda *_: theta.exp().sum(), [theta], [(zeros, zeros)])
    equal = torch.equal
    monkeypatch.setattr(torch, "equal", lambda *pair: looks.append(1) or equal(*pair))
    operator(eye)
    with operator.held():
        for _ in range(3):
            operator(eye)
        with operator.held():
            operator(eye)
        operator(eye)
    assert len(looks) == 1
    for value in (2.0, 3.0):  # outside, and at the first product inside
        theta.data.fill_(value)
        torch.testing.assert_close(operator(eye).diagonal(), theta.detach().exp())
        theta.data.fill_(-value)
        with operator.held():
            torch.testing.assert_close(operator(eye).diagonal(), theta.detach().exp())
        with pytest.raises(InvalidInput), operator.held():
            operator(eye[:, :2])
    theta.data.fill_(0.5)
    assert float(top_eigenpairs(operator).values[0]) == pytest.approx(float(theta.detach().exp()[0]))
