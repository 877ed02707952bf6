"""What one user may take of a server."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from BrainGenLib.service.refusal import Refusal

# Uploads, downloads and event streams of one user at a time.
OPEN_AT_ONCE = 32


@dataclass(frozen=True)
class Limits:
    """Limits of a server; all but ``upload_bytes`` and ``minutes`` are per user.

    Attributes:
        upload_bytes: size of one submission with all its files.
        waiting: jobs that wait or are being uploaded.
        per_minute: HTTP requests.
        kept: finished jobs; the oldest give way.
        days: age at which a finished job is removed.
        minutes: that one job may run.
    """

    upload_bytes: int = 512 * 2**20
    waiting: int = 20
    per_minute: int = 300
    kept: int = 50
    days: float = 7.0
    minutes: float = 120.0


class Traffic:
    """Counts what users do at the moment; a restart forgets it.

    The rate is a token bucket: ``per_minute`` requests at once, refilled evenly.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._open: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()

    def count(self, user: str) -> None:
        """Count a request.

        Raises:
            Refusal: it is one too many.
        """
        now = self._clock()
        left, last = self._buckets.get(user, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - last) * self._per_minute / 60)
        if left < 1:
            self._buckets[user] = (left, now)
            raise Refusal(
                429,
                f"More than {self._per_minute} requests in a minute.",
                "Wait a moment, then try again.",
                retry_after=math.ceil((1 - left) * 60 / self._per_minute),
            )
        self._buckets[user] = (left - 1, now)

    @contextmanager
    def long_request(self, user: str) -> Iterator[None]:
        """Count an upload, download or stream while the context lasts.

        Raises:
            Refusal: too many are open.
        """
        if self._open[user] >= OPEN_AT_ONCE:
            raise Refusal(
                429, f"{OPEN_AT_ONCE} transfers of yours are open.", "Wait until one has ended.", retry_after=5
            )
        with _counted(self._open, user):
            yield

    def upload(self, user: str) -> AbstractContextManager[None]:
        """Count a job in ``uploads`` while the context lasts."""
        return _counted(self.uploads, user)


@contextmanager
def _counted(counter: Counter[str], user: str) -> Iterator[None]:
    counter[user] += 1
    try:
        yield
    finally:
        counter[user] -= 1
