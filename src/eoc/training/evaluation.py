"""Loss and accuracy over a whole part of the data."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor, nn

from eoc.data import Dataset

CHUNK = 8192  # examples in one forward pass: bounds memory, changes no value beyond rounding


@torch.no_grad()
def evaluated(
    network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], data: Dataset, part: str
) -> dict[str, Tensor]:
    """Return ``<part>/loss`` and ``<part>/accuracy`` at the present weights, means of sums in float64.

    Where the loss is NaN, outputs are, and the accuracy is NaN too: it is undefined.

    Args:
        network: maps inputs to outputs.
        loss: mean loss of (outputs, targets).
        data: where the network's weights are.
        part: ``train`` or ``test``.
    """
    inputs, targets, labels = (getattr(data, f"{part}_{kind}") for kind in ("inputs", "targets", "labels"))
    total = inputs.new_zeros((), dtype=torch.float64)
    hits = total.clone()
    for x, y, label in zip(*(tensor.split(CHUNK) for tensor in (inputs, targets, labels)), strict=True):
        outputs = network(x)
        total += loss(outputs, y).double() * len(x)
        hits += (outputs.argmax(dim=1) == label).sum()
    return {f"{part}/loss": total / len(inputs), f"{part}/accuracy": accuracy_of(hits / len(inputs), total)}


def accuracy_of(share: Tensor, loss: Tensor) -> Tensor:
    """Return the share of examples whose largest output is the right one; NaN where the loss, and so an output, is."""
    return share.where(loss == loss, math.nan)  # one operation less than isnan


def over_ranks(
    strategy: Strategy, world_size: int, examples: int, loss: Tensor, accuracy: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the loss weighted so that the mean over ranks is that over examples; with it these means, detached.

    Args:
        strategy: Lightning's, of the ranks.
        world_size: number of ranks.
        examples: this rank's.
        loss: this rank's, mean over its examples.
        accuracy: this rank's.
    """
    if world_size == 1:
        return loss, (loss.detach(), accuracy)
    total = strategy.reduce(torch.tensor(float(examples), device=loss.device), reduce_op="sum")
    share = examples * world_size / total
    loss = loss * share
    means = strategy.reduce(torch.stack([loss.detach().double(), accuracy * share]), reduce_op="mean")
    return loss, (means[0], means[1])
