"""Operators and networks whose curvature is known otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


class MatrixOperator:
    """Products with a dense symmetric matrix."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.size, self.dtype, self.device = len(matrix), matrix.dtype, matrix.device
        self.products = 0

    def __call__(self, vectors: Tensor) -> Tensor:
        self.products += len(vectors)
        return vectors @ self.matrix


def with_spectrum(values: Sequence[float] | Tensor, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a symmetric matrix with exactly this spectrum, in the basis `random_basis`."""
    spectrum = torch.as_tensor(values, dtype=torch.float64)
    basis = random_basis(len(spectrum), seed)
    return (basis @ torch.diag(spectrum) @ basis.T).to(dtype)


def random_basis(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum() / len(outputs)


def network(
    activation: Callable[[Tensor], Tensor], factors: Sequence[float]
) -> Callable[[list[Tensor], Tensor], Tensor]:
    """Return f(weights, x) of a bias-free MLP with forward factors c_k."""

    def forward(weights: list[Tensor], x: Tensor) -> Tensor:
        for k, (weight, factor) in enumerate(zip(weights, factors, strict=True)):
            x = factor * x @ weight.T
            if k + 1 < len(weights):
                x = activation(x)
        return x

    return forward


def small_problem(
    seed: int = 0, dtype: torch.dtype = torch.float64, n: int = 23, widths: Sequence[int] = (6, 5, 4, 3)
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return the weights of a small MLP, inputs of squared norm m_0, and one-hot targets."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, widths[0], dtype=dtype, generator=generator)
    x = x * widths[0] ** 0.5 / x.norm(dim=1, keepdim=True)
    labels = torch.randint(widths[-1], (n,), generator=generator)
    weights = [torch.randn(b, a, dtype=dtype, generator=generator).requires_grad_() for a, b in pairwise(widths)]
    return weights, x, torch.nn.functional.one_hot(labels, widths[-1]).to(dtype)


def dense_hessian(loss: Callable[[list[Tensor]], Tensor], weights: list[Tensor], metric: Sequence[float]) -> Tensor:
    """Return D^(1/2) H D^(1/2) entry by entry, by differentiating twice with torch.func."""
    everything = tuple(range(len(weights)))
    gradient = torch.func.jacrev(lambda *w: loss(list(w)), argnums=everything)
    blocks = torch.func.jacrev(gradient, argnums=everything)(*[w.detach() for w in weights])
    rows = [
        torch.cat([blocks[i][j].reshape(weights[i].numel(), -1) for j in range(len(weights))], dim=1)
        for i in range(len(weights))
    ]
    roots = torch.cat([torch.full((w.numel(),), g, dtype=w.dtype).sqrt() for w, g in zip(weights, metric, strict=True)])
    return roots[:, None] * torch.cat(rows) * roots
