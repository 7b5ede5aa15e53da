"""Measures on a real network, layer by layer, what the scaling table of docs/theory.md predicts.

How K_k is measured. With J_k the Jacobian of all n·p outputs with respect to A_k, a step of gradient descent in layer
k alone moves the outputs by −η·(g_k/n)·J_k·J_kᵀ·(f − y): K_k is η times the top eigenvalue of (g_k/n)·J_k·J_kᵀ, the
layer's part of the Gauss-Newton matrix in the learning-rate metric. The parts of all layers add up to that matrix.
Here J_k·J_kᵀ comes from gradients with respect to the preactivations, [(i,a),(j,b)] entry
c_k²·⟨x_{k−1}^i, x_{k−1}^j⟩·⟨∂f_a^i/∂h_k, ∂f_b^j/∂h_k⟩; a test compares it with the Jacobian in the weights.

How r_k is measured. The residual f − y is set to a given matrix, layer k alone takes a gradient step of the loss
1/(2n)·Σ_i ‖f(x_i) − y_i‖², and r_k is ‖h_k after − h_k before‖/‖h_k before‖, divided by η.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eoc.model import MLP

STEP = 1e-3  # η of the single-layer steps; h_k is linear in A_k, so that its size does not matter


def sphere(examples: int, features: int, seed: int = 0) -> Tensor:
    """Random inputs with ‖x‖² = m_0, float64."""
    inputs = torch.randn(examples, features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return inputs * (features / inputs.square().sum(dim=1, keepdim=True)).sqrt()


def loss_at(net: MLP, inputs: Tensor, residual: Tensor) -> Tensor:
    """1/(2n)·Σ‖f − y‖² with targets such that f − y is ``residual``."""
    outputs = net(inputs)
    return (outputs - (outputs - residual).detach()).square().sum() / (2 * len(inputs))


def relative_changes(net: MLP, inputs: Tensor, residual: Tensor) -> Tensor:
    """r_k/η for k = 1 … l, from one gradient step in each layer alone."""
    gradients = torch.autograd.grad(loss_at(net, inputs, residual), list(net.weights))
    changes = []
    with torch.no_grad():
        before = net.preactivations(inputs)
        for k, (weight, gradient, rate) in enumerate(zip(net.weights, gradients, net.rates, strict=True)):
            start = weight.clone()
            weight -= STEP * rate * gradient
            changes.append((net.preactivations(inputs)[k] - before[k]).norm() / before[k].norm() / STEP)
            weight.copy_(start)
    return torch.stack(changes)


def curvature_parts(net: MLP, inputs: Tensor) -> Tensor:
    """(g_k/n)·J_k·J_kᵀ for k = 1 … l, of shape (l, n·p, n·p), outputs ordered by example, then class."""
    hidden = net.preactivations(inputs)
    by_class = [torch.autograd.grad(column.sum(), hidden, retain_graph=True) for column in hidden[-1].unbind(dim=1)]
    features = [inputs, *(net.phi(h) for h in hidden[:-1])]
    size = hidden[-1].numel()
    parts = []
    for k, (x, factor, rate) in enumerate(zip(features, net.forward_factors, net.rates, strict=True)):
        backward = torch.stack([gradients[k] for gradients in by_class], dim=1)
        kernel = torch.einsum("ij,iam,jbm->iajb", factor**2 * (x @ x.T), backward, backward)
        parts.append(kernel.reshape(size, size) * rate / len(inputs))
    return torch.stack(parts).detach()


def top(matrices: Tensor) -> Tensor:
    """Largest eigenvalue of symmetric matrices."""
    return torch.linalg.eigvalsh(matrices)[..., -1]
