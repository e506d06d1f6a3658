"""The sink that keeps metrics in a file of JSON lines."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from reinforcement_learning.tracking.metrics import Sink
from utils.system.files import atomic_write

METRICS_FILE = "metrics.jsonl"


class JsonLinesSink(Sink):
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
