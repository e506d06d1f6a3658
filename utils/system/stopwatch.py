"""Where the time goes."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Seconds spent, by part of the work; of the wall clock unless another clock is given."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    clock: Callable[[], float] = time.perf_counter
    _last: float = 0.0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """From here on time counts."""
        self._last = self.clock()

    def lap(self, part: str) -> None:
        """Books the time since the last lap or start."""
        now = self.clock()
        self.seconds[part] += now - self._last
        self._last = now
