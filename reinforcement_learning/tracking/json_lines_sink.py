"""The sink that keeps metrics in a file of JSON lines."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from reinforcement_learning.tracking.metrics import Sink
from utils.system.files import atomic_write

METRICS_FILE, MAPPING_FILE = "metrics.jsonl", "policy_mapping.jsonl"


class JsonLinesSink(Sink):
    """Appends one JSON object a line: ``{"episode": 12, "training/score": -0.4, ...}``, flushed each line.

    NaN and infinity become null, which every JSON reader takes. Summary values are not written here.

    Args:
        resume_episode: the last episode that the resumed checkpoint has seen; None starts a new file. With the first
            row, later ones go, which the resumed training writes again, and so does a line torn by a kill. A
            training that was resumed and writes no row leaves the file as it is.
        evaluated_episode: the last one that the checkpoint has seen the evaluation of.
    """

    keeps = METRICS_FILE

    def __init__(
        self, path: str | Path, resume_episode: int | None = None, evaluated_episode: int | None = None
    ) -> None:
        self.path = Path(path)
        self._resumed_from = resume_episode, evaluated_episode
        self._file: TextIO | None = None
        if resume_episode is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")

    def log(self, episode: int, metrics: Mapping[str, float]) -> None:
        """Writes one line."""
        row: dict[str, float | None] = {"episode": int(episode)}
        row.update((name, value if math.isfinite(value) else None) for name, value in metrics.items())
        self.write(row)

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes a line of whatever JSON holds; ``episode`` is among it.

        Raises:
            OSError: the disk is full or gone.
        """
        file = self._file = self._file or self._go_on()
        file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()

    def close(self, exit_code: int = 0) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _go_on(self) -> TextIO:
        episode, evaluated = self._resumed_from
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if episode is not None and self.path.exists():
            drop_rows_after(self.path, episode, evaluated)
        return self.path.open("a", encoding="utf-8")


def drop_rows_after(path: Path, episode: int, evaluated: int | None = None) -> None:
    """Rewrites a file of JSON lines without rows that come again, and without lines that are no whole row.

    Args:
        episode: rows after it go.
        evaluated: so do rows after this one that are not of a training episode, but of an evaluation or of what came
            with it; None: no others.

    Raises:
        OSError: the file cannot be read or written; then it is as it was.
    """
    with atomic_write(path) as new, path.open("rb") as old:  # Windows replaces no file that is still open
        for line in old:
            # A line without its end was torn by a kill, even where what is left of it happens to parse.
            if line.endswith(b"\n") and _stays(line, episode, episode if evaluated is None else evaluated):
                new.write(line)


def _stays(line: bytes, episode: int, evaluated: int) -> bool:
    try:
        row = json.loads(line)
        of_training = any(name.startswith("training/") for name in row)
        return bool(row["episode"] <= (episode if of_training else evaluated))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
