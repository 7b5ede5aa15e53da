"""What a measured time depends on, beside the program."""

from __future__ import annotations

import platform

import torch


def environment() -> dict[str, object]:
    """Return torch's version, its threads, the processor and the GPU, as they are printed with each result."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
