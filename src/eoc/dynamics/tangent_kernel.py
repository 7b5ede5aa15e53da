"""The neural tangent kernel of an MLP, and its limit of infinite width."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.errors import InvalidInput
from eoc.model import MLP

NORM_TOLERANCE = 1e-3  # relative, of ‖x‖² = m_0


@torch.inference_mode(False)
@torch.enable_grad()
def tangent_kernel(network: MLP, inputs: Float[Tensor, "examples inputs"]) -> Float[Tensor, "rows rows"]:
    """K = J·D·Jᵀ in the learning-rate metric D = diag(g_k), float64, rows ordered by example, then output.

    Layer by layer from the backward signals δ_k = ∂f/∂h_k,

        K[(i,a),(j,b)] = Σ_k g_k·c_k²·⟨x_{k−1}^i, x_{k−1}^j⟩·⟨δ_k^{i,a}, δ_k^{j,b}⟩,

    so that no Jacobian in the weights is ever held. The weights' ``.grad`` and the inputs are left alone.

    Source: Jacot, Gabriel, Hongler 2018, arXiv:1806.07572.
    """
    # Copies, which tensors made under inference_mode cannot do without.
    weights = [weight.detach().to(torch.float64, copy=True) for weight in network.weights]
    x = inputs.detach().to(torch.float64, copy=True).requires_grad_()
    hidden = network.preactivations(x, weights)
    columns = hidden[-1].unbind(dim=1)
    backward = [torch.autograd.grad(column.sum(), hidden, retain_graph=True) for column in columns]
    features = [x, *(network.phi(h) for h in hidden[:-1])]
    rows = hidden[-1].numel()
    kernel = torch.zeros(rows, rows, dtype=torch.float64, device=inputs.device)
    for k, (at, factor, rate) in enumerate(zip(features, network.forward_factors, network.rates, strict=True)):
        delta = torch.stack([gradients[k] for gradients in backward], dim=1)
        gram = rate * factor**2 * (at @ at.T).detach()
        kernel += (delta.flatten(0, 1) @ delta.flatten(0, 1).T) * _by_outputs(gram, len(columns))
    return kernel


def infinite_tangent_kernel(network: MLP, inputs: Float[Tensor, "examples inputs"]) -> Float[Tensor, "examples _"]:
    """K^∞, the limit of one output's kernel at initialization as all widths grow, for the network's own rule.

    With ρ_1 = ⟨x, x'⟩/m_0 and for φ(s) = a·s + b·|s| at the Edge of Chaos

        ρ_{k+1} = σ²·(a²·ρ_k + b²·(2/π)·(√(1 − ρ_k²) + ρ_k·asin ρ_k)),
        ρ'_k = σ²·(a² + b²·(2/π)·asin ρ_k),
        K^∞ = Σ_k s_k·ρ_k·Π_{j=k}^{l−1} ρ'_j,   s_k = g_k·q_k·Π_{j>k} q_j,   q_k = c_k²·m_{k−1}/σ_k²,

    σ_k the layer's gain: s_k = 1 for ntp. A readout that starts at zero sends no gradient back: its own term, k = l, is
    all there is. Different outputs are independent: K^∞ ⊗ 1 is the whole kernel.

    Args:
        network: whose rule, widths and activation they are.
        inputs: one example a row, with ‖x‖² = m_0 as `eoc.data` makes them, or x = 0, whose kernel is 0.

    Raises:
        InvalidInput: if ‖x‖² is neither m_0, to within a thousandth, nor 0.

    Source: the arc-cosine kernels of Cho and Saul 2009 for this family of activations; derived, see docs/theory.md.
    """
    x = inputs.double()
    squares = x.square().sum(dim=1) / x.shape[1]
    zero = squares == 0
    wrong = ~(zero | ((squares - 1).abs() <= NORM_TOLERANCE))
    if wrong.any():
        seen = f"‖x‖² = {squares[wrong][0].item():.4g}·m_0"
        rule = f"the limit is that of inputs with ‖x‖² = m_0, which is {x.shape[1]}, or x = 0; scale every example"
        raise InvalidInput("inputs", seen, rule)
    a, b, gain = network.phi.a, network.phi.b, network.phi.gain
    rho = (x @ x.T / x.shape[1]).clamp(-1.0, 1.0)
    fan_in = network.widths[:-1]
    gains = [1.0, *[gain] * (network.depth - 1)]
    q = [c**2 * m / sigma**2 for c, m, sigma in zip(network.forward_factors, fan_in, gains, strict=True)]
    kernel = torch.zeros_like(rho)
    for k, rate in enumerate(network.rates):
        if k:
            asin = torch.asin(rho)
            kernel = kernel * gain**2 * (a**2 + b**2 * 2 / math.pi * asin)
            rho = gain**2 * (a**2 * rho + b**2 * 2 / math.pi * ((1 - rho**2).clamp_min(0).sqrt() + rho * asin))
            rho = rho.clamp(-1.0, 1.0)
        kernel = kernel + rate * math.prod(q[k:]) * rho
    kernel = network.rates[-1] * q[-1] * rho if network.readout_init == "zero" else kernel
    return kernel.masked_fill(zero[:, None] | zero, 0.0)


def kernel_deviation(
    kernel: Float[Tensor, "rows rows"], network: MLP, inputs: Float[Tensor, "examples inputs"]
) -> Float[Tensor, ""]:
    """‖K − K^∞ ⊗ 1‖/‖K^∞ ⊗ 1‖ in Frobenius norm: how far the tangent kernel is from its limit of infinite width.

    Args:
        kernel: K, as `tangent_kernel` returns it.
        network: whose kernel it is.
        inputs: one example a row, those of K, as for `infinite_tangent_kernel`.

    Source: the quantity that arXiv:2501.14724 bounds, here relative and in Frobenius norm.
    """
    limit = torch.kron(
        infinite_tangent_kernel(network, inputs),
        torch.eye(network.widths[-1], dtype=torch.float64, device=inputs.device),
    )
    return (kernel - limit).norm() / limit.norm()


def _by_outputs(gram: Tensor, outputs: int) -> Tensor:
    return gram.repeat_interleave(outputs, dim=0).repeat_interleave(outputs, dim=1)
