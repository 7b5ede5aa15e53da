"""Errands that nobody waits for: a slow, hanging or failing service costs the run that uses it nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

Errand = tuple[Callable[[], object], float]


class Courier:
    """Runs errands one behind the other in a thread of its own, until one of them fails or takes too long.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self.failure: BaseException | None = None  # of the first errand that failed, or had no answer in time
        self._errands: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        self._deadline: float | None = None  # of the present errand, on the monotonic clock
        self._allowed = 0.0  # s that the present errand may take
        self._closes = False  # whether it is the last
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def send(self, errand: Callable[[], object], seconds: float) -> None:
        """Hand over an errand that may take so long, and return at once; dropped where one has failed or hangs."""
        if not self._hangs() and self.failure is None:
            self._errands.put((errand, seconds))

    def finish(self, last: Callable[[], object], seconds: float, closing: float = 0.0) -> bool:
        """Wait for what was handed over, as long as nothing hangs, and for a last errand, which no failure stops.

        Args:
            last: the last errand.
            seconds: to wait for all that was handed over; what is left then is dropped. Errands that may take longer
                each (a service that starts) are waited for besides.
            closing: further seconds for the last errand.

        Returns:
            Whether the last errand came back; false if one hangs.
        """
        self._errands.put(None)
        self._errands.put((last, seconds + closing))
        begun = time.monotonic()
        while self._thread.is_alive():
            if self._allowed > seconds + closing:
                begun = time.monotonic()
            waited = time.monotonic() - begun
            if waited > seconds and not self._closes:
                self.failure = self.failure or TimeoutError("it is too slow")
            if self._hangs() or waited > seconds + closing:
                self.failure = self.failure or TimeoutError("it does not answer")
                return False
            self._thread.join(0.01)
        return True

    def _hangs(self) -> bool:
        deadline = self._deadline
        if deadline is None or time.monotonic() <= deadline:
            return False
        self.failure = self.failure or TimeoutError("it does not answer")
        return True

    def _work(self) -> None:
        while (handed := self._errands.get()) is not None:
            if self.failure is None:
                self._run(*handed)
        last = self._errands.get()
        if last is not None:
            self._closes = True
            self._run(*last)

    def _run(self, errand: Callable[[], object], seconds: float) -> None:
        self._allowed, self._deadline = seconds, time.monotonic() + seconds
        try:
            errand()
        except BaseException as failure:  # an errand that asks this thread to exit has failed too
            self.failure = self.failure or failure
        self._allowed, self._deadline = 0.0, None
