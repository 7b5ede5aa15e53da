"""Seeded, stratified subsets: which examples of a data set are used."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from eoc.errors import integer

LARGEST_SEED = 2**63 - 1


def stratified(labels: Int[Tensor, " n"], count: int | None, seed: int) -> Int[Tensor, " count"]:
    """Choose ``count`` examples whose class counts follow the whole's.

    One permutation of all examples is drawn from ``seed`` and the first ⌊count·n_c/n⌋ of every class c are
    taken, plus one more in the classes with the largest remainders (the lower class first in a tie) until
    ``count`` are together: every class differs from its share by less than one, and a smaller subset lies
    within a larger one wherever its class counts do.

    Args:
        labels: class indices, from 0.
        count: how many examples, from 0 to n; None takes all of them.
        seed: of a private generator, at least 0.

    Returns:
        Positions in ``labels``, in the order of the permutation.

    Raises:
        InvalidInput: if ``count`` or ``seed`` is outside its range.
    """
    total = len(labels)
    wanted = total if count is None else integer("count", count, 0, total)
    generator = torch.Generator().manual_seed(integer("subset_seed", seed, 0, LARGEST_SEED))
    order = torch.randperm(total, generator=generator)
    if wanted == total:
        return order
    shares = wanted * torch.bincount(labels)  # in units of 1/total of an example: exact in integers
    counts = shares // total
    by_remainder = torch.argsort(shares % total, descending=True, stable=True)
    counts[by_remainder[: wanted - int(counts.sum())]] += 1
    shuffled = labels[order]
    taken = torch.zeros(total, dtype=torch.bool)
    for label, share in enumerate(counts.tolist()):
        taken[(shuffled == label).nonzero()[:share, 0]] = True
    return order[taken]
