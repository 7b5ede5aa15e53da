"""Stochastic estimates of the whole spectrum: the trace (Hutch++) and the density (Lanczos quadrature)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.dynamics.curvature.derivatives import exact_arithmetic
from eoc.dynamics.curvature.operator import SymmetricOperator
from eoc.dynamics.curvature.subspace import Rows, exactly, inner, norm, orthonormalized, random_vector, representable
from eoc.errors import integer, real


@dataclass(frozen=True)
class Trace:
    """An estimate of the trace.

    Attributes:
        value: the estimate.
        standard_error: of the estimate, from the spread of its samples; 0 where the whole space was multiplied.
        products: number of products spent.
    """

    value: float
    standard_error: float
    products: int


def trace(operator: SymmetricOperator, products: int = 30, generator: torch.Generator | None = None) -> Trace:
    """Return an estimate of the trace of A.

    Hutch++: with Q an orthonormal basis of the images A s of normal vectors s, and random signs g,

        tr A ~ tr(Q A Q^T) + mean_g g^T P A P g,   P = 1 - Q^T Q,

    a third of the products each for s, Q and g. The error falls like 1/products, not like its
    square root, as the large eigenvalues are in Q.

    Args:
        operator: products with A.
        products: budget, at least 6.
        generator: private source (CPU) of the random vectors; None is one seeded with 0.

    Returns:
        The estimate, unbiased.

    Raises:
        InvalidInput: the budget is too small.
        NonFiniteCurvature: from the operator, or inner products overflow.

    Source: Meyer, Musco, Musco, Woodruff, "Hutch++: optimal stochastic trace estimation" (2021), arXiv:2010.09649.
    """
    third = min(integer("products", products, minimum=6) // 3, operator.size)
    generator = torch.Generator("cpu").manual_seed(0) if generator is None else generator
    like = torch.empty(0, dtype=operator.dtype, device=operator.device)
    before = operator.products
    with torch.inference_mode(False), torch.no_grad(), exact_arithmetic(operator.device):
        draws = [random_vector(operator.size, generator, like) for _ in range(third)]
        basis = orthonormalized(operator(torch.stack(draws)), like.new_empty(0, operator.size))
        exact = 0.0
        if len(basis):
            exact = float(exactly(basis, operator(basis)).diagonal().sum())
        if len(basis) == operator.size:
            return Trace(exact, 0.0, operator.products - before)
        samples = (torch.randint(2, (third, operator.size), generator=generator, device="cpu") * 2 - 1).to(like)
        if len(basis):
            samples = samples - inner(samples, basis).to(like) @ basis
        images = operator(samples)
        rest = torch.stack([inner(s[None], i[None])[0, 0] for s, i in zip(samples, images, strict=True)]).cpu()
        representable(rest, operator.dtype)
        error = float(rest.std(correction=min(1, len(rest) - 1))) / math.sqrt(len(rest))
        return Trace(exact + float(rest.mean()), error, operator.products - before)


@dataclass(frozen=True)
class SpectralDensity:
    """A discrete approximation of the density of eigenvalues, normalized to 1.

    Attributes:
        nodes: (runs, steps) float64 on the CPU, the Ritz values of each run.
        weights: (runs, steps), non-negative, of sum 1 in each run.
        size: number of eigenvalues.
    """

    nodes: Float[Tensor, "runs steps"]
    weights: Float[Tensor, "runs steps"]
    size: int

    def moment(self, power: int) -> float:
        """Return the mean of eigenvalue^power; exact in expectation for powers below 2 * steps."""
        return float((self.weights * self.nodes**power).sum(1).mean())

    def smoothed(self, grid: Float[Tensor, " points"], width: float) -> Float[Tensor, " points"]:
        """Return the density on a grid of eigenvalues, each node drawn as a Gaussian.

        Args:
            grid: (points,) eigenvalues.
            width: standard deviation of the Gaussians, in units of eigenvalues.

        Returns:
            (points,) density per unit of eigenvalue.
        """
        real("width", width, above=0)
        bell = torch.exp(-0.5 * ((grid.double()[:, None, None] - self.nodes) / width) ** 2)
        return (bell * self.weights).sum(2).mean(1) / (width * math.sqrt(2 * math.pi))


def spectral_density(
    operator: SymmetricOperator, steps: int = 40, runs: int = 2, generator: torch.Generator | None = None
) -> SpectralDensity:
    """Return the density of A's eigenvalues by stochastic Lanczos quadrature, for ``steps * runs`` products.

    Each run takes ``steps`` Lanczos steps, re-orthogonalized in full, from a random vector. The eigenvalues of its
    tridiagonal matrix are the nodes, the squared first entries of its eigenvectors the weights of Gauss quadrature
    for the vector's spectral measure, whose mean is the density.

    Args:
        operator: products with A.
        steps: Lanczos steps in each run, at most ``operator.size``; memory of as many copies of the parameters.
        runs: number of random vectors.
        generator: private source (CPU) of the random vectors; None is one seeded with 0.

    Returns:
        Nodes and weights. A run that has exhausted its space early is filled up with nodes of weight 0.

    Raises:
        InvalidInput: an argument is out of range.
        NonFiniteCurvature: from the operator, or inner products overflow.

    Source: Ghorbani, Krishnan, Xiao, "An investigation into neural net optimization via Hessian eigenvalue density"
    (2019), arXiv:1901.10159.
    """
    integer("steps", steps, minimum=1, maximum=operator.size)
    integer("runs", runs, minimum=1)
    generator = torch.Generator("cpu").manual_seed(0) if generator is None else generator
    with torch.inference_mode(False), torch.no_grad(), exact_arithmetic(operator.device):
        nodes = torch.zeros(runs, steps, dtype=torch.float64, device="cpu")
        weights = torch.zeros_like(nodes)
        like = torch.empty(0, dtype=operator.dtype, device=operator.device)
        for run in range(runs):
            start = random_vector(operator.size, generator, like)
            basis, matrix = Rows(operator.size, like), torch.zeros(steps, steps, dtype=torch.float64, device="cpu")
            new = start[None] / norm(start)
            while len(new) and len(basis) < steps:
                basis.append(new)
                image = operator(new)
                column = representable(inner(basis.matrix, image)[:, 0].cpu(), operator.dtype)
                # Rayleigh-Ritz in the Krylov basis: the full column, so that rounding is not amplified.
                matrix[: len(basis), len(basis) - 1] = matrix[len(basis) - 1, : len(basis)] = column
                new = orthonormalized(image, basis.matrix)
            count = len(basis)
            values, mixing = torch.linalg.eigh(matrix[:count, :count])
            nodes[run, :count], weights[run, :count] = values, mixing[0].square()
    return SpectralDensity(nodes, weights, operator.size)
