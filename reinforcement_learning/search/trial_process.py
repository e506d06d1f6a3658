"""The training of one trial: a process with folders and a console log of its own, and the metric that it writes."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from reinforcement_learning.saving.checkpointing import CheckpointError, latest_checkpoint
from reinforcement_learning.tracking.json_lines_sink import METRICS_FILE

CONSOLE_FILE = "console.log"
_MAIN = str(Path(__file__).with_name("trial_main.py"))
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def trial_name(number: int) -> str:
    """The name of a trial's run and folders."""
    return f"trial_{number:04d}"


class MetricFile:
    """Reads a metric from a file of JSON lines that grows.

    Attributes:
        values: the metric's finite values, oldest first.
        episode: of the newest row; 0 without one.
        seconds: that the training has taken so far.
        newest: the newest row that has the metric.
    """

    def __init__(self, path: Path, metric: str) -> None:
        self._path, self._metric = path, metric
        self._start_over(None)

    def _start_over(self, file: tuple[int, int] | None) -> None:
        self._file, self._position, self._torn = file, 0, b""
        self.values: list[float] = []
        self.episode = 0
        self.seconds = 0.0
        self.newest: dict[str, Any] = {}

    def read(self) -> None:
        """Takes over what has come since the last time; a file that was written anew is read from its beginning."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                if identity != self._file or status.st_size < self._position:
                    self._start_over(identity)
                file.seek(self._position)
                content = file.read()
        except FileNotFoundError:
            return
        self._position += len(content)
        *lines, self._torn = (self._torn + content).split(b"\n")
        for i, line in enumerate(lines):
            # few rows have the metric, and parsing them all would cost as much as a training step a row
            if self._metric.encode() in line or i >= len(lines) - 2:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            self.episode = int(row["episode"])
            self.seconds = float(row.get("timer/total", self.seconds))
        except (ValueError, KeyError, TypeError):
            return
        value = row.get(self._metric)
        if isinstance(value, int | float):  # null where it was not finite
            self.values.append(float(value))
            self.newest = row


class TrialProcess:
    """A training that is started as a process, with one thread unless its options say otherwise.

    It ends with this process, whatever ends that, and saves a checkpoint first. Ctrl-C reaches it only through
    :meth:`stop`: it has a session of its own.

    Args:
        study: folder of the search.
        number: of the trial.
        options: what the sweep says, as options of the training.
        metric: name of the metric to read.
        lock: an open file that it inherits, so that the file's lock lasts as long as any training.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, study: Path, number: int, options: Sequence[str], metric: str, lock: int) -> None:
        self.number = number
        self.stopped_early = False
        name = trial_name(number)
        self.console = study / name / CONSOLE_FILE
        self.metrics = MetricFile(study / name / METRICS_FILE, metric)
        self.console.parent.mkdir(parents=True, exist_ok=True)
        folders = {"output_dir": study, "checkpoint_dir": study / "checkpoints", "replay_buffer_dir": study / "buffers"}
        arguments = [*options, *(f"--{option}={folder}" for option, folder in folders.items()), f"--run_name={name}"]
        if not any(option.startswith("--wandb=") for option in options):
            arguments.append("--wandb=False")
        self.goes_on = False
        with contextlib.suppress(CheckpointError):  # it was killed before its first one
            checkpoint = latest_checkpoint(study / "checkpoints" / name, lambda text: None)
            arguments.append(f"--resume={checkpoint}")
            self.goes_on = True
        with self.console.open("ab") as log:
            log.write(f"$ multi_agent_training.py {shlex.join(arguments)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, _MAIN, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,
                pass_fds=(lock,),
            )
        assert self._process.stdin is not None
        self._lifeline: IO[bytes] = self._process.stdin

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs. Reads what the training has written."""
        code = self._process.poll()
        self.metrics.read()
        if code is not None:
            with contextlib.suppress(OSError):
                self._lifeline.close()
        return code

    def stop(self) -> None:
        """Asks for a checkpoint and an end."""
        self._process.terminate()

    def last_words(self) -> str:
        """The newest line that the training has printed, an error before all others."""
        printed = self.console.read_text(errors="replace").rpartition("\n$ ")[2].splitlines()[1:]
        lines = [line.strip() for line in printed if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or ["nothing was said"])[-1]
