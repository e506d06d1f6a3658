"""One writer, several sinks: a row of metrics goes to the console, TensorBoard, W&B and a file of JSON lines.

Rows are keyed by episode. A training row comes with each episode, an evaluation row every now and then; a sink takes
both as they come. Metrics are plain floats; fractions (completion, epsilon, action shares) are 0 to 1.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.system.console import complain


def of_policy(policy: int, name: str) -> str:
    """The name of a metric that belongs to one of several policies."""
    return f"policy_{policy:02d}/{name}"


ENVIRONMENT_ADDED = "curriculum/"
"""What the name of a metric begins with that says from which level on an environment is trained on."""


class Sink:
    """A place that metrics go to. A sink overrides what it can show; the rest it passes over.

    Any method may raise: the writer then drops the sink and training goes on.

    Attributes:
        shows_messages: whether people see at once what :meth:`message` takes.
        keeps: what of the training is incomplete once the sink fails, in words; empty where nothing is.
    """

    shows_messages = False
    keeps = ""

    @property
    def run_id(self) -> str | None:
        """What a resumed training needs to go on with the same run on a server; None where there is no server."""
        return None

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one episode; NaN and infinity may be among them."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Takes numbers that describe the whole run, such as the best score."""

    def message(self, text: str) -> None:
        """Takes a line meant for people."""

    def picture(self, name: str, path: Path, episode: int) -> None:
        """Takes a film, a finished GIF file."""

    def close(self, exit_code: int = 0) -> None:
        """Flushes and lets go; ``exit_code`` is 0 unless training failed."""


class MetricsWriter:
    """Hands every row to every sink that still works.

    Attributes:
        run_id: the run on a server, if one of the sinks has one.
        unsaved: what sinks that have failed should have kept.
    """

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks: list[Sink] = []
        self._closed = False
        self.unsaved: list[str] = []
        self.run_id: str | None = None
        self.add(sinks)

    def add(self, sinks: Sequence[Sink]) -> None:
        """From now on these sinks get everything, too."""
        self._sinks += sinks
        self.run_id = next((sink.run_id for sink in sinks if sink.run_id), self.run_id)

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
        """Shows a film, a finished GIF file, wherever a sink can show one."""
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
            self.unsaved += [sink.keeps] if sink.keeps else []
            self._warn(
                f"warning: {type(sink).__name__} failed and is switched off: {type(failure).__name__}: {failure}. "
                "Training goes on without it."
            )
            if method != "close":
                with contextlib.suppress(Exception):
                    sink.close(1)

    def _warn(self, text: str) -> None:
        if any(sink.shows_messages for sink in self._sinks):
            self.message(text)
        else:
            complain(text)
