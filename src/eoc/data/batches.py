"""Batches of tensors that are already in memory: the same for every consumer, at any step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from eoc.data.subsets import LARGEST_SEED
from eoc.errors import InvalidInput, integer

Batch = tuple[Tensor, Tensor, Tensor]


class Batches:
    """The batch of every training step, as a pure function of the step.

    Step t belongs to epoch e = ⌊t / steps_per_epoch⌋, which visits every example once in the order of a
    permutation drawn from (``seed``, e); the last batch of an epoch may be smaller. With a full batch every
    step gets the very same tensors, in their own order. The global random state is neither read nor changed.

    With several processes each gets a contiguous shard of every batch; shards of a batch differ by at most
    one example, so the mean over the batch weighs each by its size.

    Args:
        inputs: x, on the device where the training happens.
        targets: coded classes.
        labels: class indices.
        batch_size: examples in a step over all processes, at least 1; None, or n and more, is the full batch.
        seed: of the epochs' permutations, at least 0.
        rank: index of this process.
        world_size: number of processes.

    Raises:
        InvalidInput: if an argument is outside its range, or a batch is too small for ``world_size`` shards.
    """

    def __init__(
        self,
        inputs: Float[Tensor, "n dim"],
        targets: Float[Tensor, "n outputs"],
        labels: Int[Tensor, " n"],
        batch_size: int | None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        n = len(inputs)
        size = n if batch_size is None else min(n, integer("batch_size", batch_size, 1))
        self.steps_per_epoch = -(-n // size)
        self.start_step = 0
        self._tensors: Batch = (inputs, targets, labels)
        self._n, self._size = n, size
        self._seed = integer("seed", seed, 0, LARGEST_SEED)
        self._world_size = integer("world_size", world_size, 1)
        self._rank = integer("rank", rank, 0, world_size - 1)
        smallest = n - (self.steps_per_epoch - 1) * size
        if smallest < world_size:
            rule = f"the smallest batch of an epoch has {smallest} examples for {world_size} processes"
            raise InvalidInput("batch_size", batch_size, f"{rule}: choose a size that leaves each at least one")
        self._epoch: int | None = None
        self._permuted = self._tensors
        self._full = self._shard(self._tensors, 0) if self.steps_per_epoch == 1 else None

    def at(self, step: int) -> Batch:
        """Return (inputs, targets, labels) of training step ``step``, counted from 0, as views.

        Only the first call in an epoch copies: it permutes the data once.
        """
        if self._full is not None:
            return self._full
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = _permutation(self._n, self._seed, epoch).to(self._tensors[0].device)
            inputs, targets, labels = self._tensors
            self._permuted = (inputs[order], targets[order], labels[order])
            self._epoch = epoch
        return self._shard(self._permuted, position * self._size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of ``start_step``, ``start_step`` + 1, ... without end."""
        return map(self.at, itertools.count(self.start_step))

    def _shard(self, tensors: Batch, first: int) -> Batch:
        size = min(self._size, self._n - first)
        start = first + size * self._rank // self._world_size
        stop = first + size * (self._rank + 1) // self._world_size
        if stop - start == self._n:
            return tensors
        inputs, targets, labels = tensors
        return inputs[start:stop], targets[start:stop], labels[start:stop]


def chunks(
    inputs: Float[Tensor, "n dim"], targets: Float[Tensor, "n outputs"], size: int | None
) -> list[tuple[Tensor, Tensor]]:
    """Cut the data into consecutive views of ``size`` examples (the last may be smaller).

    For passes over all the data that would not fit in memory at once.

    Args:
        inputs: x.
        targets: coded classes.
        size: examples in a chunk, at least 1; None is one chunk.

    Raises:
        InvalidInput: if ``size`` is below 1.
    """
    if size is None:
        return [(inputs, targets)]
    integer("size", size, 1)
    size = min(size, len(inputs))
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def _permutation(n: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    # SeedSequence mixes the pair, so that (seed, epoch + 1) and (seed + 1, epoch) are unrelated
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])
    return torch.randperm(n, generator=torch.Generator().manual_seed(mixed))
