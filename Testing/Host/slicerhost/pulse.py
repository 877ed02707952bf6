"""How long the GUI thread was busy without letting the event loop run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """A stopwatch that runs while the GUI thread works and starts anew whenever events are processed."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.longest_work_s = 0.0
        self.longest_in = ""
        self._since = 0.0
        self._worked = 0.0
        self._depth = 0

    def reset(self) -> None:
        """Forget the longest block."""
        self.longest_s, self.longest_work_s, self.longest_in = 0.0, 0.0, ""

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """The GUI thread works on ``what``; inside another ``busy`` it only lends its name."""
        if self._depth == 0:
            self._start()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            # An inner end is no end of the block, but it is where the time went.
            self._note(what)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What only the stand-in has to do takes no time."""
        since, worked = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self._since += time.perf_counter() - since
            self._worked += time.thread_time() - worked

    def beat(self, what: str) -> None:
        """Events are about to be processed, or have been: what comes next is a new block."""
        if self._depth:
            self._note(what)
            self._start()

    def _start(self) -> None:
        self._since, self._worked = time.perf_counter(), time.thread_time()

    def _note(self, what: str) -> None:
        block = time.perf_counter() - self._since
        self.longest_work_s = max(self.longest_work_s, time.thread_time() - self._worked)
        # The one inside is named, unless the one around it took longer by itself.
        if block > self.longest_s:
            if block > 1.2 * self.longest_s:
                self.longest_in = what
            self.longest_s = block


pulse = Pulse()
