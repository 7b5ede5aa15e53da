"""Folders of data files: checking them and filling them from the network, silently and all or nothing."""

from __future__ import annotations

import io
import logging
import os
import socket
import ssl
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError

from eoc.errors import InvalidInput, RunFailure

log = logging.getLogger(__name__)

# RuntimeError is torchvision's word for a file that arrived with another checksum
_NETWORK_ERRORS = (URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException, RuntimeError)
_SECONDS = 30.0  # of silence before a connection counts as lost; the default is to wait for ever


def data_folder(root: str | os.PathLike[str], *, must_exist: bool = False) -> Path:
    """Return ``root`` as a path, or raise `InvalidInput` if it is a file (on request: or missing)."""
    if not isinstance(root, (str, os.PathLike)) or not os.fspath(root):
        raise InvalidInput("root", root, "it must be the path of a folder")
    path = Path(root).expanduser()
    if os.path.exists(path) and not path.is_dir():
        raise InvalidInput("root", str(root), "it is a file: give the folder of the data")
    if must_exist and not path.is_dir():
        raise InvalidInput("root", str(root), "there is no such folder: give the folder of the data")
    return path


def fetch(
    name: str,
    root: Path,
    folder: Path,
    filename: str,
    md5: str,
    urls: Sequence[str],
    remedy: str,
    damaged: Sequence[Path] = (),
) -> None:
    """Unpack the archive ``folder/filename`` into ``folder``, downloading it if it is not there.

    Everything is prepared in a temporary folder beside the goal and moved when complete, so that an
    interrupted or concurrent run leaves no half-written file.

    Args:
        name: of the data set, for messages.
        root: the setting that ``folder`` was derived from, for messages.
        folder: where the unpacked files go; created if needed.
        filename: of the archive, which tells its format.
        md5: checksum of the archive.
        urls: of the archive, tried in turn.
        remedy: what to do without a network, in words that complete "connect to a network, ...".
        damaged: unpacked files that are there and not what they should be, for messages.

    Raises:
        RunFailure: if the archive cannot be downloaded.
        InvalidInput: if ``folder`` cannot be written.
    """
    from torchvision.datasets.utils import check_integrity, extract_archive

    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".incoming-") as staging, _quiet():
            archive = folder / filename
            if not check_integrity(archive, md5):
                wrong = [file.name for file in (*damaged, archive) if file.exists()]
                what = "are damaged or other files" if len(wrong) > 1 else "is damaged or another file"
                where = f"{root} ({', '.join(wrong)} there {what})" if wrong else str(root)
                archive = Path(staging, filename)
                _download(name, where, archive, md5, urls, remedy)
            unpacked = Path(staging, "unpacked")
            unpacked.mkdir()
            extract_archive(archive, unpacked)
            for file in [path for path in unpacked.rglob("*") if path.is_file()]:
                goal = folder / file.relative_to(unpacked)
                goal.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, goal)
    except RunFailure:
        with suppress(OSError):  # up to the first that is not empty
            for each in new:
                each.rmdir()
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        rule = f"{name} cannot be stored there ({reason}): choose a folder that is writable and has room"
        raise InvalidInput("root", str(root), rule) from error


def _download(name: str, where: str, archive: Path, md5: str, urls: Sequence[str], remedy: str) -> None:
    log.info("downloading %s (%s)", name, archive.name)
    failure = None
    for url in urls:
        failure = _attempt(url, archive, md5)
        if failure is None:
            return
    raise RunFailure(
        f"{name} is not complete in {where} and cannot be downloaded ({failure}): connect to a network, {remedy}, or "
        "name another folder with dataset.root."
    )


def _attempt(url: str, archive: Path, md5: str) -> str | None:
    from torchvision.datasets.utils import download_url

    try:
        download_url(url, archive.parent, archive.name, md5)
    except _NETWORK_ERRORS as error:
        reason = getattr(error, "reason", error)  # urllib wraps what the socket said
        return str(reason).strip().rstrip(".") or type(error).__name__
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    # torchvision prints progress bars, and archives of old make newer Pythons warn
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        socket.setdefaulttimeout(timeout)
