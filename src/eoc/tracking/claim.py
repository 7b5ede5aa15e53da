"""One process at a time in a run folder, by a lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eoc.errors import RunFailure
from eoc.tracking.run_folder import LOCK

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
PATIENCE = 1.0  # s to wait for one who only looks whether the folder is taken


class FolderTaken(RunFailure):
    """Another process is at work in the run folder."""


@contextmanager
def claimed(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold ``folder`` for this process, after having waited for another one for ``patience`` seconds at most.

    The kernel keeps the lock (flock) and takes it back when the process ends, by SIGKILL too: no stale lock is left.
    The file says who holds it, for people.

    Raises:
        FolderTaken: if another process holds it.
    """
    with (folder / LOCK).open("a+") as file:
        deadline = time.monotonic() + patience
        while not _locked(file.fileno(), folder):
            if time.monotonic() > deadline:
                file.seek(0)
                raise FolderTaken(f"Another process ({file.read().strip()}) is at work in {folder}; let it finish.")
            time.sleep(0.02)
        file.truncate(0)
        file.write(f"{socket.gethostname()}, process {os.getpid()}\n")
        file.flush()
        yield


def is_claimed(folder: Path) -> bool:
    """Whether a process is at work in ``folder``."""
    try:
        with (folder / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        warnings.warn(f"the file system of {folder} has no locks: let no two sweeps use it at once", stacklevel=3)
    return True
