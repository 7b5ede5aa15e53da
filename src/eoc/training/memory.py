"""Memory that the next step takes again."""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path

_SETTINGS = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: give memory back to the system when so many bytes are free at the heap's end
    -2: 2**26,  # M_TOP_PAD: what is asked for beyond the need of the moment
    -3: 2**31 - 1,  # M_MMAP_THRESHOLD: map blocks from here on anew every time
}


_floor = 0  # bytes that this process held when nothing could be given back
_is_apart = False


def set_apart() -> None:
    """Let the garbage collector pass over what this process holds so far: imports, which stay. Done once a process.

    Half a million objects: to look through them takes 0.3 s, when W&B starts, and several times where Python ends.
    """
    global _is_apart
    if not _is_apart:
        gc.freeze()
        _is_apart = True


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed instead of giving it back to the system at every step.

    A step of a large network on a CPU frees and takes the same vectors of all weights many times; to map and clear
    them each time took a fifth of the time at 20 million weights, a twelfth at 0.8 million. Nothing computed changes.

    Returns:
        Whether it could be done: the C library is glibc.
    """
    global _floor
    _floor = _floor or held()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) == 1 for setting in _SETTINGS.items())


def give_memory_back(growth: int = 100 * 2**20) -> bool:
    """Free what runs have left in cycles and give back what is kept, if this process has grown by so many bytes.

    A worker that grows from job to job would be taken for one that leaks, and replaced (joblib: at 300 MB).

    Returns:
        Whether it was done.
    """
    global _floor
    if held() < _floor + growth:
        return False
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    done = trim is not None and trim(0) == 1
    _floor = held()
    return done


def held() -> int:
    """Return the bytes of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
