"""What a running search prints: a line for each event, and now and then which trials run."""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from reinforcement_learning.search.parameters import Value
from reinforcement_learning.search.trial_process import TrialProcess

_SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """A bar of trials where standard error is a terminal, plain lines where it is not.

    Args:
        n_trials: of the whole search.
        n_done: before this process.
        n_episodes: of a training; None where trials differ.
    """

    def __init__(self, n_trials: int, n_done: int, n_episodes: int | None) -> None:
        self._n_trials, self._n_done, self._n_before = n_trials, n_done, n_done
        self._of_episodes = f"/{n_episodes}" if n_episodes else ""
        self._started = self._last_line = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=n_trials, initial=n_done, unit="trial", dynamic_ncols=True)

    def message(self, text: str) -> None:
        """Prints a line."""
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def done(self) -> None:
        """One more trial is done."""
        self._n_done += 1
        if self._bar is not None:
            self._bar.update()

    def running(self, processes: Sequence[TrialProcess]) -> None:
        """Says where the running trials are; may be called at any rate."""
        status = ", ".join(self._status(process) for process in processes)
        if self._bar is not None:
            self._bar.set_postfix_str(status)  # which draws ten times a second at most
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.message(f"{self._n_done}/{self._n_trials} trials done{self._left()}; running: {status}")

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _status(self, process: TrialProcess) -> str:
        metrics = process.metrics
        value = f" {metrics.values[-1]:.3f}" if metrics.values else ""
        return f"trial {process.number} episode {metrics.episode}{self._of_episodes}{value}"

    def _left(self) -> str:
        done_here = self._n_done - self._n_before
        if not done_here:
            return ""
        seconds = (time.monotonic() - self._started) / done_here * (self._n_trials - self._n_done)
        return f", about {timedelta(seconds=round(seconds))} left"


def describe(chosen: Mapping[str, Value]) -> str:
    """The values of a trial in a few words."""
    return ", ".join(
        f"{name} {value:.4g}" if type(value) is float else f"{name} {value}" for name, value in chosen.items()
    )
