"""The scaling table of docs/theory.md, measured on real networks (how: see layerwise.py)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from eoc.model import MLP, PARAMETERIZATIONS, inverse_width_sum
from layerwise import curvature_parts, loss_at, relative_changes, sphere, top

INPUTS = 16


def network(name: str, growth: float, depth: int, width: int, seed: int, outputs: int = 1, **changes) -> MLP:
    settings = {"parameterization": name, "growth": growth, "depth": depth, "width": width, "seed": seed} | changes
    return MLP(INPUTS, outputs, **settings).double()


def normal(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- the measurement itself ---------------------------------------------------------------------------------------


def test_curvature_parts_come_from_the_jacobian_in_the_weights():
    net, inputs = network("nup", 1.0, depth=4, width=5, seed=0, outputs=2), sphere(3, INPUTS)
    names = [f"weights.{k}" for k in range(4)]
    jacobians = torch.func.jacrev(lambda weights: torch.func.functional_call(net, weights, (inputs,)))(
        {name: weight.detach() for name, weight in zip(names, net.weights, strict=True)}
    )
    for part, name, rate in zip(curvature_parts(net, inputs), names, net.rates, strict=True):
        jacobian = jacobians[name].reshape(6, -1)
        torch.testing.assert_close(part, rate / 3 * jacobian @ jacobian.T)


def test_k_is_how_far_a_step_of_one_layer_moves_the_outputs():
    # With the residual along the top eigenvector v, the step of layer k alone moves the outputs by −η·K_k·v.
    net, inputs, step = network("nup", 2.0, depth=4, width=6, seed=1, outputs=2), sphere(3, INPUTS), 1e-7
    for k, part in enumerate(curvature_parts(net, inputs)):
        values, vectors = torch.linalg.eigh(part)
        residual = vectors[:, -1].reshape(3, 2)
        (gradient,) = torch.autograd.grad(loss_at(net, inputs, residual), net.weights[k])
        with torch.no_grad():
            before = net(inputs)
            net.weights[k] -= step * net.rates[k] * gradient
            moved = (net(inputs) - before) / step
            net.weights[k] += step * net.rates[k] * gradient
        torch.testing.assert_close(moved, -values[-1] * residual, rtol=1e-4, atol=1e-6)


# --- exponents ----------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """Exponents of (m, depth, k) in r_k and K_k; depth is l−1, or l for mup_inverse_depth, as in their rates."""

    name: str
    growth: float
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    r: tuple[float, float, float]
    K: tuple[float, float, float]


FLAT, DEEP = (24, 96), (3, 8)
NUP_2 = Row("nup", 2, (8, 16), (3, 7), (0, 0, -1), (0, -1, 0))
ROWS = [
    Row("sp", 0, FLAT, DEEP, (0.5, 0, 0), (1, 0, 0)),
    Row("ntp", 0, FLAT, DEEP, (-0.5, 0, 0), (0, 0, 0)),
    Row("mup", 0, FLAT, DEEP, (0, 0, 0), (0, 0, 0)),
    Row("mup_inverse_depth", 0, FLAT, DEEP, (0, -1, 0), (0, -1, 0)),
    Row("nup", 0, FLAT, DEEP, (0, -1, 0), (0, -1, 0)),
    Row("nup", 1, (12, 48), DEEP, (0, -0.5, -0.5), (0, -1, 0)),
    NUP_2,
    Row("nup", 3, (6, 12), (3, 5), (0, 0.5, -1.5), (0, -1, 0)),
    # Not in the table, from the same formulas: mup on growing widths puts K_k = (k/(l−1))^γ, unequal shares.
    Row("mup", 1, (12, 48), DEEP, (0, -0.5, 0.5), (0, -1, 1)),
]
SEEDS = 40


@pytest.mark.parametrize(("row", "activation"), [*((row, "abs") for row in ROWS), (NUP_2, "relu")])
def test_exponents(row, activation):
    inputs, residual = sphere(1, INPUTS), torch.ones(1, 1, dtype=torch.float64)
    design, log_r, log_k = [], [], []
    for width in row.widths:
        for depth in row.depths:
            nets = [network(row.name, row.growth, depth, width, seed, activation=activation) for seed in range(SEEDS)]
            r = torch.stack([relative_changes(net, inputs, residual) for net in nets]).square().mean(0).sqrt()
            K = torch.stack([top(curvature_parts(net, inputs)) for net in nets]).mean(0)
            size = depth if row.name == "mup_inverse_depth" else depth - 1
            for k in range(2, depth):  # layer 1 has m_0 inputs and a gain of its own; the readout is tested below
                design.append([1.0, math.log(width), math.log(size), math.log(k)])
                log_r.append(r[k - 1].log().item())
                log_k.append(K[k - 1].log().item())
    exponents = np.linalg.lstsq(np.array(design), np.array([log_r, log_k]).T, rcond=None)[0][1:].T
    # Neighbouring rules differ by at least 0.5 in some exponent: a rate without its 1/l would be off by 1 in depth,
    # one of γ = 1 instead of 2 by 0.5 in k, an ntp readout under mup's rates by 1 (K) and ½ (r) in width.
    np.testing.assert_allclose(exponents[0], row.r, atol=0.2)
    np.testing.assert_allclose(exponents[1], row.K, atol=0.3)


def share(name: str, k: int, m: int, l: int) -> float:
    """K_k/η for |·| (σ = 1) at constant width m, with one input and one output."""
    if name == "sp":
        return INPUTS if k == 1 else m
    return {"ntp": 1.0, "mup": 1.0, "mup_inverse_depth": 1 / l, "nup": 1 / (l - 1)}[name]


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_every_layer_has_its_share(name):
    # Not only exponents: with one input and one output the constants are 1 in the mean, at every layer.
    m, l, inputs = 96, 5, sphere(1, INPUTS)
    nets = [network(name, 0, l, m, seed, activation="abs") for seed in range(40)]
    shares = torch.stack([top(curvature_parts(net, inputs)) for net in nets]).mean(0)
    expected = torch.tensor([share(name, k, m, l) for k in range(1, l + 1)], dtype=torch.float64)
    # Each of the l layers adds a variance of about 2/m: four standard errors of the mean are 4·√(2·5/96/40) = 0.2.
    torch.testing.assert_close(shares, expected, rtol=0.2, atol=0.0)


# --- the Edge of Chaos ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "abs", [0.8, 0.4]])
@pytest.mark.parametrize(("name", "growth", "width"), [("ntp", 0, 100), ("nup", 1, 25)])
def test_forward_and_backward_norms_do_not_depend_on_the_layer(name, growth, width, activation):
    # ‖h_k‖² = m_k, and ‖δ_k‖² = ‖δ_l‖² (readout of ntp) or ‖δ_l‖²/m_L (of nup) at every k < l, in the mean over
    # seeds. Without the gain both would fall by 2⁻⁶ over these layers for ReLU.
    depth, inputs = 8, sphere(1, INPUTS)
    forward, backward = [], []
    for seed in range(40):
        net = network(name, growth, depth, width, seed, activation=activation)
        hidden = net.preactivations(inputs)
        gradients = torch.autograd.grad(hidden[-1].sum(), hidden[:-1])
        forward.append([h.square().mean().item() for h in hidden[:-1]])
        backward.append([g.square().sum().item() for g in gradients])
    expected = 1.0 if name == "ntp" else 1 / net.widths[-2]
    np.testing.assert_allclose(np.mean(forward, axis=0), 1.0, atol=0.3)
    np.testing.assert_allclose(np.mean(backward, axis=0) / expected, 1.0, atol=0.3)


@pytest.mark.parametrize(("activation", "kappa"), [("relu", 5.0), ("abs", 2.0)])
@pytest.mark.parametrize(("growth", "width"), [(0, 60), (2, 12)])
def test_fluctuations_grow_with_the_sum_of_inverse_widths(growth, width, activation, kappa):
    # Var log‖x_L‖² ≈ κ·Σ 1/m_k, with κ = E φ⁴/(E φ²)² − 1 = 3(a⁴+6a²b²+b⁴)/(a²+b²)² − 1 for a Gaussian.
    inputs, logs = sphere(1, INPUTS), []
    for seed in range(250):
        net = network("ntp", growth, 8, width, seed, activation=activation)
        with torch.no_grad():
            logs.append(net.phi(net.preactivations(inputs)[-2]).square().sum().log().item())
    # Sampling gives ±9% (one sigma); for ReLU at 12 units the next order in 1/m adds some.
    predicted = kappa * inverse_width_sum(net.widths[1:-1])
    assert np.var(logs) == pytest.approx(predicted, rel=0.35)


# --- curvature of the whole network -----------------------------------------------------------------------------------


def hessian(net: MLP, inputs: Tensor, residual: Tensor) -> Tensor:
    """Hessian of the loss at a given residual f − y, taken whole, in the coordinates A_k/√g_k."""
    sizes = [weight.numel() for weight in net.weights]
    scale = [math.sqrt(rate) for rate in net.rates]
    start = torch.cat([weight.detach().flatten() / s for weight, s in zip(net.weights, scale, strict=True)])
    targets = net(inputs).detach() - residual

    def loss(flat: Tensor) -> Tensor:
        pieces = zip(flat.split(sizes), net.weights, scale, strict=True)
        weights = {f"weights.{k}": (piece * s).view_as(w) for k, (piece, w, s) in enumerate(pieces)}
        outputs = torch.func.functional_call(net, weights, (inputs,))
        return (outputs - targets).square().sum() / (2 * len(inputs))

    return torch.func.jacrev(torch.func.grad(loss))(start)


@pytest.mark.parametrize("activation", ["relu", "abs"])
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_the_shares_add_up_to_the_curvature(name, activation):
    # λ_0 of a sum of positive matrices is at most the sum of their λ's, and at least the largest: how close to the
    # sum is what "Σ K_k ~ λ_0" says.
    net, inputs = network(name, 0, 4, 12, seed=2, outputs=2, activation=activation), sphere(5, INPUTS)
    shares, gauss_newton = top(curvature_parts(net, inputs)), top(curvature_parts(net, inputs).sum(0))
    assert shares.max() < gauss_newton < shares.sum()
    assert gauss_newton > 0.65 * shares.sum()

    curvature = top(hessian(net, inputs, net(inputs).detach() - 0.3 * normal(5, 2)))
    assert curvature.item() == pytest.approx(shares.sum().item(), rel=0.25)


@pytest.mark.parametrize(
    ("name", "growth", "width", "slope"),
    [("sp", 0, 64, 1), ("ntp", 0, 64, 1), ("mup", 0, 64, 1), ("mup_inverse_depth", 0, 64, 0), ("nup", 2, 8, 0)],
)
def test_curvature_over_depth(name, growth, width, slope):
    # λ_0 ~ Σ K_k of a batch: grows like depth unless the rule shares out a fixed amount among the layers. The l shares
    # 1/(l−1) of nup add up to l/(l−1), which is taken out, for it bends the slope at small depths.
    inputs, depths = sphere(12, INPUTS), (3, 5, 8)
    logs = []
    for depth in depths:
        nets = [network(name, growth, depth, width, seed, outputs=3, activation="abs") for seed in range(15)]
        total = depth / (depth - 1) if name == "nup" else 1.0
        logs.append(math.log(np.mean([top(curvature_parts(net, inputs).sum(0)).item() for net in nets]) / total))
    assert np.polyfit(np.log(depths), logs, 1)[0] == pytest.approx(slope, abs=0.25)


# --- richness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("rho", [0.25, 1 / 3, 2.0])
def test_richness_moves_features_and_keeps_curvature(name, rho):
    # At the same residual. Powers of two only shift exponents, so that nothing but equality is right for them.
    inputs, residual = sphere(5, INPUTS), normal(5, 2)
    plain, rich = (network(name, 1.0, 4, 6, seed=3, outputs=2, richness=value) for value in (1.0, rho))
    exact = {"rtol": 0.0 if math.log2(rho).is_integer() else 1e-12, "atol": 0.0}
    torch.testing.assert_close(curvature_parts(rich, inputs), curvature_parts(plain, inputs), **exact)
    torch.testing.assert_close(rich(inputs), plain(inputs) / rho, **exact)
    expected = rho * relative_changes(plain, inputs, residual)
    torch.testing.assert_close(relative_changes(rich, inputs, residual), expected, rtol=1e-9, atol=0.0)


def test_richness_scales_the_residual_part_of_the_hessian():
    # The Hessian is the Gauss-Newton matrix, which stays, and a part linear in the residual, which goes with ρ.
    inputs, residual, zero = sphere(5, INPUTS), normal(5, 2), torch.zeros(5, 2, dtype=torch.float64)
    plain, rich = (network("nup", 1.0, 3, 5, seed=3, outputs=2, richness=value) for value in (1.0, 0.25))
    gauss_newton = hessian(plain, inputs, zero)
    torch.testing.assert_close(hessian(rich, inputs, zero), gauss_newton)
    residual_part = hessian(plain, inputs, residual) - gauss_newton
    assert residual_part.abs().max() > 0.01
    torch.testing.assert_close(hessian(rich, inputs, residual) - gauss_newton, 0.25 * residual_part)
