"""How long a job still takes, from what its stages took before."""

from __future__ import annotations

import time

# Seconds on two CPU cores: a first guess, replaced by what this process measures.
TYPICAL = {
    "loading": 8.0,
    "style": 40.0,
    "labels": 12.0,
    "rendering": 8.0,
    "segmentation": 20.0,
    "counterfactual": 20.0,
}


class Timeline:
    """The stages of one job after another; keeps what each kind of stage took last.

    A stage is named by its kind and an optional object, e.g. ``rendering FLAIR``.
    """

    def __init__(self) -> None:
        self._typical = dict(TYPICAL)
        self._coming: list[str] = []
        self._stage: str | None = None
        self._since = 0.0

    def begin(self, stages: list[str]) -> None:
        """Start a job that goes through ``stages`` in that order."""
        self._coming = list(stages)
        self._stage = None

    def seconds_left(self, stage: str, step: int, of: int) -> float:
        """Seconds until the job ends, when ``stage`` has done ``step`` of ``of`` steps."""
        now = time.monotonic()
        if stage != self._stage:
            if self._stage is not None:
                self._typical[self._stage.split()[0]] = now - self._since
            if stage in self._coming:
                del self._coming[: self._coming.index(stage) + 1]
            self._stage, self._since = stage, now
        elapsed = now - self._since
        here = max(self._expected(stage) - elapsed, elapsed * (of - step) / step if step else 0.0)
        return round(here + sum(map(self._expected, self._coming)), 1)

    def _expected(self, stage: str) -> float:
        return self._typical.get(stage.split()[0], 0.0)
