"""Activations φ(s) = a·s + b·|s| and their Edge-of-Chaos gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eoc.errors import InvalidInput, real

SIZES = 1e-20, 1e20  # of √(a² + b²), far from where numbers end
NONZERO = "two numbers [a, b], not both zero, for φ(s) = a·s + b·|s|, with √(a² + b²) from 1e-20 to 1e20"


@dataclass(frozen=True)
class Activation:
    """φ(s) = a·s + b·|s|, elementwise and positively homogeneous.

    Args:
        a: coefficient of the linear part, dimensionless.
        b: coefficient of the absolute value, dimensionless.

    Raises:
        InvalidInput: if both are zero, or √(a² + b²) is not from 1e-20 to 1e20.

    Source: the companion paper arXiv:2501.14724 (the family), arXiv:2502.13110 (the EOC).
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if not SIZES[0] <= math.hypot(self.a, self.b) <= SIZES[1]:
            raise InvalidInput("activation", [self.a, self.b], f"it must be {NONZERO}")

    @property
    def gain(self) -> float:
        """σ = 1/√(a² + b²): with forward factor σ/√fan_in, E φ(h)² σ² = E h², the Edge of Chaos."""
        return 1.0 / math.hypot(self.a, self.b)

    @property
    def delta(self) -> float:
        """Δφ = b²/(a² + b²), which sets how fast the NTK's condition number converges with depth (arXiv:2501.13225)."""
        return self.b**2 / (self.a**2 + self.b**2)

    def __call__(self, preactivations: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply φ elementwise; the derivative at 0 is torch's: a, but 0 for ReLU."""
        if self.a == self.b == 0.5:
            return torch.relu(preactivations)
        if self.a == 0.0:
            return self.b * preactivations.abs() if self.b != 1.0 else preactivations.abs()
        return self.a * preactivations + self.b * preactivations.abs()

    def derivative(self, preactivations: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return φ' elementwise, at 0 what PyTorch takes for it: a, but 0 for ReLU."""
        if self.a == self.b == 0.5:
            return (preactivations > 0).to(preactivations.dtype)
        return self.a + self.b * preactivations.sign()


NAMED = {
    "relu": Activation(0.5, 0.5),
    "abs": Activation(0.0, 1.0),
    "leaky_relu": Activation(0.505, 0.495),  # slope 0.01 below zero, torch's default
}


def parse_activation(choice: str | Sequence[float] | Activation) -> Activation:
    """Return the activation called ``choice``, or φ(s) = a·s + b·|s| for a pair [a, b].

    Args:
        choice: ``relu``, ``abs``, ``leaky_relu`` (slope 0.01), or two numbers [a, b], not both zero;
            leaky ReLU of slope α is [(1+α)/2, (1−α)/2].

    Raises:
        InvalidInput: for any other value.
    """
    if isinstance(choice, Activation):
        return choice
    if isinstance(choice, str) and choice in NAMED:
        return NAMED[choice]
    rule = f"it must be {', '.join(NAMED)}, or {NONZERO}"
    if isinstance(choice, str) or not isinstance(choice, Sequence) or len(choice) != 2:
        raise InvalidInput("activation", choice, rule)
    try:
        return Activation(*(real("activation", each) for each in choice))
    except InvalidInput as error:
        raise InvalidInput("activation", list(choice), rule) from error
