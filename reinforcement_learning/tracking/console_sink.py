"""The sink that shows a training in the terminal."""

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from reinforcement_learning.tracking.metrics import Sink
from utils.system.console import give_up_on

_EPISODES_SHOWN = 50  # the last ones, whose means are told
_SECONDS_BETWEEN_LINES = 20.0  # of training, where there is no bar


class ConsoleSink(Sink):
    """A progress bar where standard error is a terminal, plain lines now and then where it is not.

    Evaluations and messages are printed as lines in both cases, to standard output.

    Args:
        start_episode: the episodes already behind us when resuming; they do not count towards the rate.
    """

    shows_messages = True

    def __init__(self, total_episodes: int, start_episode: int = 0, progress_bar: bool = True) -> None:
        self._total = total_episodes
        self._start = start_episode
        self._started_at = self._last_line_at = time.monotonic()
        self._recent: deque[Mapping[str, float]] = deque(maxlen=_EPISODES_SHOWN)
        self._bar: Any = None
        if progress_bar and _is_terminal(sys.stderr):
            from tqdm import tqdm

            self._bar = tqdm(
                total=total_episodes, initial=start_episode, unit="episode", dynamic_ncols=True, smoothing=0.05
            )

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar (or prints a line when it is time) and prints evaluations."""
        if any(name.startswith("evaluation/") for name in metrics):
            self.message(format_evaluation(episode, metrics))
        if not any(name.startswith("training/") for name in metrics):
            if not self._recent:
                self._restart_clock()
            return
        self._recent.append(metrics)
        if self._bar is not None:
            # tqdm draws ten times a second at most, whatever the number of updates.
            self._bar.set_postfix_str(format_training(self._recent), refresh=False)
            self._bar.update(max(0, episode - self._bar.n))
        elif episode >= self._total or time.monotonic() - self._last_line_at >= _SECONDS_BETWEEN_LINES:
            self._last_line_at = time.monotonic()
            self.message(f"episode {episode}/{self._total}: {format_training(self._recent)}, {self._rate(episode)}")

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        if sys.stdout is None:  # it was closed before Python began; the bar may still be seen
            return
        try:
            if self._bar is not None:
                self._bar.write(text, file=sys.stdout)
                sys.stdout.flush()
            else:
                print(text, flush=True)
        except OSError:
            give_up_on(sys.stdout)
            raise

    def picture(self, name: str, path: Path, episode: int) -> None:
        """Says where the file is."""
        self.message(f"{name} of episode {episode}: {path}")

    def close(self, exit_code: int = 0) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _restart_clock(self) -> None:
        """What came before the first episode, compiling for example, says nothing about the rate."""
        self._started_at = self._last_line_at = time.monotonic()
        if self._bar is not None:
            self._bar.unpause()

    def _rate(self, episode: int) -> str:
        seconds = max(time.monotonic() - self._started_at, 1e-9)
        rate = (episode - self._start) / seconds
        if rate <= 0 or episode >= self._total:
            return f"{max(rate, 0):.1f} episodes/s"
        return f"{rate:.1f} episodes/s, {_format_duration((self._total - episode) / rate)} left"


def format_training(rows: Sequence[Mapping[str, float]]) -> str:
    """The few numbers of training rows that say how it goes, as one short text: means, and the last epsilon."""
    score, completion = (fmean(row[f"training/{name}"] for row in rows) for name in ("score", "completion"))
    return f"score {score:.3f}, completion {completion:.1%}, epsilon {rows[-1]['training/epsilon']:.3f}"


def format_evaluation(episode: int, metrics: Mapping[str, float]) -> str:
    """An evaluation row as one readable line; means with their standard deviation over the evaluation episodes."""
    measured = [
        f"{label} {metrics[f'evaluation/{name}_mean']:{form}} ± {metrics[f'evaluation/{name}_std']:{form}}"
        for label, name, form in (
            ("score", "scores", ".3f"),
            ("completion", "completions", ".1%"),
            ("steps", "nb_steps", ".1f"),
        )
    ]
    deadlocked, never_departed = (metrics[f"evaluation/{name}"] for name in ("deadlocked", "never_departed"))
    shares = f"deadlocked {deadlocked:.1%}, never departed {never_departed:.1%}"
    return f"evaluation at episode {episode}: {', '.join(measured)}, {shares}"


def _format_duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def _is_terminal(stream: Any) -> bool:
    # Standard error is None under pythonw and may be closed under a job scheduler.
    try:
        if not stream.isatty():
            return False
    except (AttributeError, ValueError):
        return False
    # A terminal that does not know its width, as in some containers, shows no bar at all.
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns > 0
    return True
