"""How many threads of a CPU a run takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 20_000_000  # examples times parameters: below it a second thread saves less than a quarter of a step
CHOSEN_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def few_threads(examples: int, parameters: int) -> Iterator[None]:
    """Take one thread for a small network: a step is then many operations of microseconds.

    Several threads would meet at the end of each, and wait there for the one whose core another process has: beside a
    single busy process the main job took 400 s on two cores, and takes 7 s on one. The environment's OMP_NUM_THREADS
    or MKL_NUM_THREADS is left to say otherwise.

    Args:
        examples: of the training part.
        parameters: of the network.
    """
    before = torch.get_num_threads()
    if examples * parameters <= SMALL and not any(name in os.environ for name in CHOSEN_BY):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
