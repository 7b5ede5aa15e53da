"""What a measured time depends on, beside the program."""

from __future__ import annotations

import platform

import torch


def environment() -> dict[str, object]:
    """Return torch's version, its threads and the processor, as they are printed with each result."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
    }
