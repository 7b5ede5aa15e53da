"""The process that W&B works in: beside a run, on a core that it leaves free, not in it."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from select import select
from typing import Any

LEAVING = 20.0  # s that it may take to close the run of a program that has ended without doing so
IDLE = 0.3  # s without a request after which there is time for what comes later
ASKED = ("WANDB_", "HOME", "NETRC")  # how the names begin of what W&B reads from the environment


class WandbFailure(RuntimeError):
    """What W&B could not do, in one line."""


class Clerk:
    """A process that does with a `Desk` what it is told, and keeps W&B's service for the next run.

    It ends with the program that has started it, by itself: when nothing can be told to it any more.
    """

    def __init__(self) -> None:
        self.environment = _environment()
        self.service: int | None = None  # the process of W&B's service, once it has been started
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it would hold whoever waits for the end of this program's output
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for the program, which then closes its run
        )

    def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Have the desk do it, and return what that returns.

        Raises:
            WandbFailure: W&B could not, or its process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = pickle.dumps((method, args, named))  # in one piece: half of one would be half read
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            done, answer = pickle.load(self._process.stdout)
        except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise WandbFailure("its process has ended") from error
        if not done:
            raise WandbFailure(answer)
        return answer

    def has_ended(self) -> bool:
        """Whether its process is there no more."""
        return self._process.poll() is not None

    def end(self) -> None:
        """End it at once, and W&B's service with it."""
        if self.service is not None and not self.has_ended():  # the service is its child, whose number stands
            with suppress(OSError):
                os.kill(self.service, signal.SIGKILL)
        self._process.kill()
        self.leave()

    def part(self) -> None:
        """Let it end, and do not wait for that: this program ends, too."""
        self._hang_up()
        self._process.returncode = 0  # or Python would say that it is still running

    def leave(self) -> None:
        """Let it end, and wait for that."""
        self._hang_up()
        self._process.wait()

    def _hang_up(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


_idle: list[Clerk] = []  # those that have no run now


def prepare() -> None:
    """Start a process where none is idle, so that W&B is imported when its first run is opened."""
    with suppress(OSError):  # said when a run asks for it
        give_back(hire())


def hire() -> Clerk:
    """Return an idle process, or a new one."""
    while _idle:
        clerk = _idle.pop()
        if clerk.environment == _environment() and not clerk.has_ended():
            return clerk
        clerk.leave()
    return Clerk()


def give_back(clerk: Clerk) -> None:
    """Keep a process for the next run."""
    _idle.append(clerk)


def dismiss() -> None:
    """End all idle processes."""
    while _idle:
        _idle.pop().leave()


@atexit.register
def _part() -> None:
    for clerk in _idle:
        clerk.part()


def command() -> tuple[str, list[str]]:
    """Return the program that runs here and its arguments, which W&B shows for a run."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    program = f"-m {spec.name}" if spec is not None else getattr(main, "__file__", "<python with no main file>")
    return os.environ.get("WANDB_PROGRAM", program), sys.argv[1:]


def _environment() -> dict[str, str]:
    """What W&B's process is started anew for where it changes: settings, and a fork of the program."""
    asked = {name for name in os.environ if name.startswith(ASKED) or name.lower().endswith("proxy")}
    return {name: os.environ[name] for name in asked} | {"process": str(os.getpid())}


def serve(parent: int) -> None:
    """Do what is told on stdin, one pickled (method, args, named) after the other, until the program has ended."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # who stops a program and its children waits for what it has to log
        signal.signal(stop, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):  # W&B's service must not hold the pipes, and what is printed is no reply
        os.dup2(nothing, stream)
    from eoc.tracking.wandb_desk import Desk
    from eoc.tracking.wandb_service import import_for_images, import_wandb, reason

    with suppress(Exception):  # it fails again at the desk, which says so
        import_wandb()
    desk = Desk()
    with suppress(EOFError, OSError):
        while True:
            method, args, named = pickle.load(requests)
            if method == "open" and os.getppid() != parent:
                return
            try:
                reply = True, getattr(desk, method)(*args, **named)
            except BaseException as error:
                reply = False, reason(error)
            pickle.dump(reply, replies)
            replies.flush()
            if not select([requests], [], [], IDLE)[0]:
                import_for_images()
    last = threading.Timer(LEAVING, os._exit, [1])
    last.daemon = True
    last.start()
    with suppress(Exception):
        desk.abandon()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
