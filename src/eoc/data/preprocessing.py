"""From pixels and labels to the inputs and targets of the theory: ‖x‖² = dim, coded classes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from eoc.errors import choice

# name: (value at the example's class, value at the others), for C classes
TARGETS = {
    "one_hot": lambda classes: (1.0, 0.0),  # noqa: ARG005 (one signature for every row)
    "centered": lambda classes: (1.0 - 1.0 / classes, -1.0 / classes),
    "plus_minus": lambda classes: (1.0, -1.0),  # noqa: ARG005
}

_ROWS = 4096  # rows in float64 at a time: CIFAR-10 as a whole would take 1.2 GB per temporary


def normalize(
    train: Num[Tensor, "n_train dim"], test: Num[Tensor, "n_test dim"]
) -> tuple[Float[Tensor, "n_train dim"], Float[Tensor, "n_test dim"]]:
    """Centre every feature with its training mean, then scale every example to squared norm ``dim``.

    x = √dim · (p − p̄)/‖p − p̄‖, with p̄ the mean of ``train`` alone; an example with p = p̄ stays zero.

    Args:
        train: pixels of the training examples, in any unit (the result does not depend on it).
        test: pixels of the test examples, in the same unit.

    Returns:
        The training and the test inputs, computed in float64 and stored in float32, dimensionless.

    Source: ‖x‖² = dim is the theory's input normalization; centring is this project's, see docs/theory.md.
    """
    total = sum(rows.double().sum(0) for rows in train.split(_ROWS))
    mean = torch.as_tensor(total / len(train))
    return _centre_and_scale(train, mean), _centre_and_scale(test, mean)


def encode(labels: Int[Tensor, " n"], classes: int, target: str) -> Float[Tensor, "n classes"]:
    """Code class labels as regression targets, in float32.

    Args:
        labels: class indices from 0 to ``classes`` − 1.
        classes: C, the number of classes.
        target: ``one_hot`` (1 and 0), ``centered`` (1 − 1/C and −1/C) or ``plus_minus`` (+1 and −1).

    Raises:
        InvalidInput: if ``target`` is none of these.
    """
    hot, cold = TARGETS[choice("target", target, TARGETS)](classes)
    targets = torch.full((len(labels), classes), cold, dtype=torch.float32)
    return targets.scatter_(1, labels.long()[:, None], hot)


def _centre_and_scale(pixels: Num[Tensor, "n dim"], mean: Float[Tensor, " dim"]) -> Float[Tensor, "n dim"]:
    inputs = torch.empty(pixels.shape, dtype=torch.float32)
    for source, result in zip(pixels.split(_ROWS), inputs.split(_ROWS), strict=True):
        centred = source.double() - mean
        norm = centred.norm(dim=1, keepdim=True)
        result.copy_(centred * (pixels.shape[1] ** 0.5 / norm.masked_fill(norm == 0.0, 1.0)))
    return inputs
