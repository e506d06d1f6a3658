"""One writer, several sinks: a row of metrics goes to the console, TensorBoard, W&B and a file of JSON lines.

Rows are keyed by episode. A training row comes with each episode, an evaluation row every now and then; a sink takes
both as they come. Metrics are plain floats; fractions (completion, epsilon, action shares) are 0 to 1.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from reinforcement_learning.tracking.wandb_sink import TensorBoardSink, WandbSink
from utils.system.files import atomic_write

__all__ = ["ConsoleSink", "JsonLinesSink", "MetricsWriter", "Sink", "Smoothed", "TensorBoardSink", "WandbSink"]

_SECONDS_BETWEEN_LINES = 20.0  # of training on the console, where there is no bar
_WEIGHT_OF_THE_PAST = 0.9  # in smoothed values


def of_policy(policy: int, name: str) -> str:
    """The name of a metric that belongs to one of several policies."""
    return f"policy_{policy:02d}/{name}"


def alone_score(policy: int) -> str:
    """The name of the mean score of a policy's evaluation without the others."""
    return of_policy(policy, "evaluation/scores_mean")


class Sink(Protocol):
    """A place that metrics go to. Any method may raise: the writer then drops the sink and training goes on."""

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one episode; NaN and infinity may be among them."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Takes numbers that describe the whole run, such as the best score."""

    def message(self, text: str) -> None:
        """Takes a line meant for people."""

    def picture(self, name: str, path: Path, episode: int) -> None:
        """Takes a finished PNG, GIF or MP4 file."""

    def close(self, exit_code: int) -> None:
        """Flushes and lets go; ``exit_code`` is 0 unless training failed."""


class MetricsWriter:
    """Hands every row to every sink that still works.

    Args:
        sinks: any number of sinks, none included.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self._closed = False

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        """Logs one row. Values are anything that ``float()`` takes (numpy scalars, one-element tensors).

        Raises:
            TypeError, ValueError: a value is no number; this is an error of the caller, not of a sink.
        """
        row = {name: float(value) for name, value in metrics.items()}
        self._each("log", episode, row)

    def summary(self, values: Mapping[str, float]) -> None:
        """Sets numbers that describe the whole run; a later value replaces an earlier one."""
        self._each("summary", {name: float(value) for name, value in values.items()})

    def message(self, text: str) -> None:
        """Prints a line without destroying the progress bar."""
        self._each("message", text)

    def picture(self, name: str, path: str | Path, episode: int) -> None:
        """Shows a finished picture or film file wherever a sink can show one."""
        self._each("picture", name, Path(path), episode)

    def close(self, exit_code: int = 0) -> None:
        """Closes every sink; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._each("close", exit_code)
            self._sinks.clear()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        failed = kind is not None and not (isinstance(error, SystemExit) and error.code in (0, None))
        self.close(exit_code=1 if failed else 0)

    def _each(self, method: str, *arguments: Any) -> None:
        failures: list[tuple[Sink, Exception]] = []
        for sink in self._sinks:
            try:
                getattr(sink, method)(*arguments)
            # A full disk or a server that went away must not cost a training of many hours, whatever it raises.
            except Exception as error:
                failures.append((sink, error))
        for sink, failure in failures:
            self._sinks.remove(sink)
            self._warn(
                f"warning: {type(sink).__name__} failed and is switched off: {type(failure).__name__}: {failure}. "
                "Training goes on without it."
            )
            if method != "close":
                with contextlib.suppress(Exception):
                    sink.close(1)

    def _warn(self, text: str) -> None:
        if any(isinstance(sink, ConsoleSink) for sink in self._sinks):
            self.message(text)
        else:
            with contextlib.suppress(OSError, ValueError):
                print(text, file=sys.stderr, flush=True)


class JsonLinesSink:
    """Appends one JSON object a line: ``{"episode": 12, "training/score": -0.4, ...}``, flushed each line.

    NaN and infinity become null, which every JSON reader takes. Summary values are not written here.

    Args:
        path: the file; folders above it are made.
        resume_episode: the last episode that the resumed checkpoint has seen. Rows of later episodes, which the
            resumed training is about to write again, and a line torn by a kill are dropped. None starts a new file.
    """

    def __init__(self, path: str | Path, resume_episode: int | None = None) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if resume_episode is None:
            self._file = self.path.open("w", encoding="utf-8")
        else:
            if self.path.exists():
                drop_rows_after(self.path, resume_episode)
            self._file = self.path.open("a", encoding="utf-8")

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        """Writes one line.

        Raises:
            OSError: the disk is full or gone.
        """
        row: dict[str, float | None] = {"episode": int(episode)}
        row.update((name, value if math.isfinite(value) else None) for name, value in metrics.items())
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def summary(self, values: Mapping[str, float]) -> None:
        """Does nothing: the file holds rows only."""

    def message(self, text: str) -> None:
        """Does nothing: the file holds rows only."""

    def picture(self, name: str, path: Path, episode: int) -> None:
        """Does nothing: the file holds rows only."""

    def close(self, exit_code: int = 0) -> None:
        """Closes the file."""
        self._file.close()


def drop_rows_after(path: Path, episode: int) -> None:
    """Rewrites a file of JSON lines without rows after ``episode`` and without lines that are no whole row."""
    with path.open("rb") as old, atomic_write(path) as new:
        for line in old:
            try:
                keep = json.loads(line)["episode"] <= episode
            except (ValueError, KeyError, TypeError):
                keep = False
            # A line without its end was torn by a kill, even where what is left of it happens to parse.
            if keep and line.endswith(b"\n"):
                new.write(line)


class ConsoleSink:
    """A progress bar where standard error is a terminal, plain lines now and then where it is not.

    Evaluations and messages are printed as lines in both cases, to standard output.

    Args:
        total_episodes: the episode number at which training ends.
        start_episode: the episodes already behind us when resuming; they do not count towards the rate.
        progress_bar: False prints plain lines on a terminal, too.
    """

    def __init__(self, total_episodes: int, start_episode: int = 0, progress_bar: bool = True) -> None:
        self._total = total_episodes
        self._start = start_episode
        self._started_at = time.monotonic()
        self._last_line_at = self._started_at
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
            return
        if self._bar is not None:
            # tqdm draws ten times a second at most, whatever the number of updates.
            self._bar.set_postfix_str(format_training(metrics), refresh=False)
            self._bar.update(max(0, episode - self._bar.n))
        elif episode >= self._total or time.monotonic() - self._last_line_at >= _SECONDS_BETWEEN_LINES:
            self._last_line_at = time.monotonic()
            self.message(f"episode {episode}/{self._total}: {format_training(metrics)}, {self._rate(episode)}")

    def summary(self, values: Mapping[str, float]) -> None:
        """Does nothing: the evaluation lines have said it."""

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()
        else:
            print(text, flush=True)

    def picture(self, name: str, path: Path, episode: int) -> None:
        """Says where the file is."""
        self.message(f"{name} of episode {episode}: {path}")

    def close(self, exit_code: int = 0) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _rate(self, episode: int) -> str:
        seconds = max(time.monotonic() - self._started_at, 1e-9)
        rate = (episode - self._start) / seconds
        if rate <= 0 or episode >= self._total:
            return f"{max(rate, 0):.1f} episodes/s"
        return f"{rate:.1f} episodes/s, {_format_duration((self._total - episode) / rate)} left"


class Smoothed:
    """The classic kit's exponential smoothing: ``0.9 * smoothed + 0.1 * value``, from the first value on."""

    def __init__(self) -> None:
        self._value: float | None = None

    @property
    def value(self) -> float:
        """The smoothed value; NaN before the first update."""
        return math.nan if self._value is None else self._value

    def update(self, value: float) -> float:
        """Takes a value and returns the smoothed one. A NaN (nothing measured) leaves the smoothed value alone."""
        if not math.isnan(value):
            past = float(value) if self._value is None else self._value
            self._value = _WEIGHT_OF_THE_PAST * past + (1.0 - _WEIGHT_OF_THE_PAST) * float(value)
        return self.value

    def state_dict(self) -> dict[str, float | None]:
        """The state for a checkpoint."""
        return {"value": self._value}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Takes up the state of a checkpoint."""
        value = state["value"]
        self._value = None if value is None else float(value)


def format_training(metrics: Mapping[str, float]) -> str:
    """The few numbers of a training row that say how it goes, as one short text."""
    parts = []
    for label, suffix, percent in (("score", "score", False), ("completion", "completion", True)):
        value = metrics.get(f"training/smoothed_{suffix}", metrics.get(f"training/{suffix}", math.nan))
        if not math.isnan(value):
            parts.append(f"{label} {value:.1%}" if percent else f"{label} {value:.3f}")
    epsilon = metrics.get("training/epsilon", math.nan)
    if not math.isnan(epsilon):
        parts.append(f"epsilon {epsilon:.3f}")
    return ", ".join(parts)


def format_evaluation(episode: int, metrics: Mapping[str, float]) -> str:
    """An evaluation row as one readable line; means with their standard deviation over the evaluation episodes."""
    parts = []
    for label, name, form in (
        ("score", "scores", ".3f"),
        ("completion", "completions", ".1%"),
        ("steps", "nb_steps", ".1f"),
    ):
        mean = metrics.get(f"evaluation/{name}_mean", math.nan)
        if math.isnan(mean):
            continue
        spread = metrics.get(f"evaluation/{name}_std", math.nan)
        parts.append(f"{label} {mean:{form}}" + ("" if math.isnan(spread) else f" ± {spread:{form}}"))
    for label, name in (("deadlocked", "deadlocked"), ("never departed", "never_departed")):
        value = metrics.get(f"evaluation/{name}", math.nan)
        if not math.isnan(value):
            parts.append(f"{label} {value:.1%}")
    return f"evaluation at episode {episode}: " + ", ".join(parts)


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
