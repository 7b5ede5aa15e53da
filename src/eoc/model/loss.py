"""Training losses: functions of outputs and targets that return the mean over examples."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def half_squared_error(
    outputs: Float[Tensor, "examples classes"], targets: Float[Tensor, "examples classes"]
) -> Float[Tensor, ""]:
    """L = 1/(2n)·Σ_i ‖f(x_i) − y_i‖², the paper's setting (``loss=mse``)."""
    return 0.5 * (outputs - targets).square().sum() / len(outputs)


def cross_entropy(
    outputs: Float[Tensor, "examples classes"], targets: Float[Tensor, "examples classes"]
) -> Float[Tensor, ""]:
    """L = −1/n·Σ_i ⟨y_i, log softmax f(x_i)⟩ in nats, for one-hot y (``loss=cross_entropy``)."""
    return F.cross_entropy(outputs, targets)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": half_squared_error, "cross_entropy": cross_entropy}
