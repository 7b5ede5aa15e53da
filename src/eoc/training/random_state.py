"""The global random states, as what a checkpoint may hold."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int) -> None:
    """Begin the global random states of torch, numpy and Python; nothing here draws from the last two, a user may."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def random_state() -> dict[str, Any]:
    """The global random states of torch, numpy and Python as tensors and plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, pending = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), pending],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Take back what `random_state` returned; CUDA states only where as many devices are there."""
    torch.set_rng_state(state["torch"])
    cuda: Sequence[Tensor] = state["cuda"]
    if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(list(cuda))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    version, internal, pending = state["python"]
    random.setstate((version, tuple(internal), pending))
