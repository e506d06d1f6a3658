"""Warns of learners that make no progress."""

import time
from collections.abc import Callable, Sequence

SECONDS_WITHOUT_PROGRESS = 60.0


class ProgressWatch:
    """Warns once of each learner that has made no progress for a minute, and again if it went on and stopped again."""

    def __init__(
        self, names: Sequence[str], warn: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._names, self._warn, self._clock = names, warn, clock
        self._since = [clock()] * len(names)
        self._told = [False] * len(names)

    def progress(self, index: int) -> None:
        """A learner has learned something."""
        self._since[index] = self._clock()
        self._told[index] = False

    def check(self, reason: Callable[[int], str]) -> None:
        """Warns where it is time to; ``reason`` tells what a learner seems to wait for."""
        now = self._clock()
        for index, since in enumerate(self._since):
            if now - since >= SECONDS_WITHOUT_PROGRESS and not self._told[index]:
                self._told[index] = True
                self._warn(f"{self._names[index]} has made no progress for {now - since:.0f} seconds: {reason(index)}.")
