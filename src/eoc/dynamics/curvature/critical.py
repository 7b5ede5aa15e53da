"""Critical sharpness: the step size at which the loss along the update starts to rise, from forward passes alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eoc.dynamics.curvature.arguments import Batch, checked_batches, distinct
from eoc.dynamics.curvature.derivatives import exact_arithmetic, undisturbed
from eoc.dynamics.curvature.hessian import Loss
from eoc.dynamics.curvature.operator import NonFiniteCurvature
from eoc.errors import InvalidInput, integer, real


@dataclass(frozen=True)
class CriticalSharpness:
    """The critical step size eta_c between two bounds, and lambda_c = 2 / eta_c.

    Attributes:
        lower: a step size at which the loss has not risen; 0 where none was found.
        upper: a step size at which it has; infinity where none was found.
        evaluations: forward passes over the data that were spent.
        converged: whether upper / lower is at most 1 + tolerance.
    """

    lower: float
    upper: float
    evaluations: int
    converged: bool

    @property
    def rate(self) -> float:
        """The geometric mean of the bounds, an estimate of eta_c."""
        return math.sqrt(self.lower) * math.sqrt(self.upper)

    @property
    def value(self) -> float:
        """The critical sharpness 2 / eta_c; 0 where the loss never rises, infinity where it rises at once."""
        return math.inf if self.lower == 0 else 2 / self.rate


def critical_sharpness(
    loss: Loss,
    parameters: Iterable[Tensor],
    direction: Iterable[Tensor],
    batches: Iterable[Batch],
    guess: float,
    *,
    tolerance: float = 0.05,
    max_evaluations: int = 30,
    module: nn.Module | None = None,
) -> CriticalSharpness:
    """Return the critical sharpness lambda_c = 2 / eta_c along an update direction.

        eta_c = min {eta > 0 : L(theta - eta * direction) > L(theta)}

    found by doubling or halving a guess until it is bracketed, and bisection. On a quadratic loss with
    direction = D g, g the gradient, lambda_c = d^T H d / (d^T g): a mean of the eigenvalues of D^(1/2) H D^(1/2)
    weighted by the gradient, at most the sharpness lambda and close to it where the gradient lies along the top
    eigenvector, as at the edge of stability. The loss is assumed to cross its starting value once.

    Args:
        loss: ``loss(inputs, targets)``, the scalar mean loss over a chunk.
        parameters: the tensors that are moved (and put back).
        direction: what a step of size 1 subtracts from them: D g for gradient descent in the metric D.
        batches: chunks of (inputs, targets).
        guess: step size to start from, as the last eta_c, > 0.
        tolerance: upper / lower - 1 at which to stop, > 0.
        max_evaluations: budget of passes over the data.
        module: the module evaluated, if it has buffers to be put back.

    Returns:
        The bounds, and what they cost.

    Raises:
        InvalidInput: an argument is out of range, see `ParameterOperator` for parameters and batches.
        NonFiniteCurvature: the loss at the present weights or the direction is not finite.

    Source: Kalra et al., "A scalable measure of loss landscape curvature" (2026), arXiv:2601.16979.
    """
    real("guess", guess, above=0)
    real("tolerance", tolerance, above=0)
    integer("max_evaluations", max_evaluations, minimum=2)
    moved, steps = distinct(parameters), list(direction)
    if [d.shape for d in steps] != [p.shape for p in moved]:
        raise InvalidInput("direction", len(steps), "it needs one tensor of the same shape for each parameter")
    chunks, sizes = checked_batches(batches)
    device = moved[0].device

    def at(rate: float) -> float:
        with torch.no_grad(), _moved(moved, steps, rate), undisturbed(module, device), exact_arithmetic(device):
            values = [float(loss(*batch)) * size for batch, size in zip(chunks, sizes, strict=True)]
        return sum(values) / sum(sizes)

    start, evaluations = at(0.0), 1
    if not math.isfinite(start):  # nor is it where the direction is not: 0 times that is NaN
        raise NonFiniteCurvature("the loss, or the direction of the update, is not finite")
    lower, upper, rate = 0.0, math.inf, guess
    while evaluations < max_evaluations and upper > (1 + tolerance) * lower and 0 < rate < math.inf:
        # NaN counts as risen: the step has left the finite.
        if at(rate) <= start:
            lower = rate
        else:
            upper = rate
        evaluations += 1
        bracketed = lower > 0 and upper < math.inf
        rate = math.sqrt(lower * upper) if bracketed else 2 * lower if upper == math.inf else upper / 2
    return CriticalSharpness(lower, upper, evaluations, upper <= (1 + tolerance) * lower)


@contextmanager
def _moved(parameters: Sequence[Tensor], direction: Sequence[Tensor], rate: float) -> Iterator[None]:
    # The parameters' memory is exchanged, not written: graphs that hold it stay valid, and it comes back bit for bit.
    originals = [p.data for p in parameters]
    for p, d in zip(parameters, direction, strict=True):
        p.data = p.data - rate * d
    try:
        yield
    finally:
        for p, original in zip(parameters, originals, strict=True):
            p.data = original
