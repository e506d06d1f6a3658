"""A process that makes training levels, as the training process sees it. What runs inside is ``level_worker``.

It is started as a fresh Python rather than by ``multiprocessing``: a fork would copy a process with PyTorch's and
numba's threads in whatever state they are, and multiprocessing's other ways import the training's main module again,
and with it PyTorch, and keep helper processes and semaphores of their own. Here are two pipes and nothing else.
"""

import contextlib
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import IO

from utils.env_configs import EnvConfig, SavedEnv

# A request is the number of a level. The worker is told with what configuration and seed first, behind its length.
REQUEST = struct.Struct("<q")
ANSWER = struct.Struct("<bqI")  # what it is, the number of the level, bytes that follow

# Ctrl-C reaches a worker only if it is sent to it: it has a session of its own. Even then the parent decides.
_BOOTSTRAP = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path.insert(0, sys.argv[1])
from utils.level_worker import main
main()
"""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
_PROJECT_ROOT = str(Path(__file__).resolve().parent.parent)


class Kind(IntEnum):
    """What an answer is."""

    READY = 0  # everything is imported and compiled
    LEVEL = 1  # as ``pack_level`` gives it
    UNSUPPORTED = 2  # the compiled simulator cannot play the level; the sentence that says why
    FAILED = 3  # the level could not be made or packed; the sentence that says why
    ENDED = 4  # put in by the parent when the process is no more


@dataclass(frozen=True)
class Answer:
    """What has come from a process."""

    process: "LevelProcess"
    kind: Kind
    number: int = -1
    content: bytes = b""


class LevelProcess:
    """A process that makes the levels it is asked for, one after the other.

    It ends with this process, whatever ends that: its pipe comes to an end, and on Linux the kernel kills it too.

    Args:
        config: what levels to make.
        seed: see ``TrainingLevels``.
        answers: where all its answers are put, by a thread that does nothing else.

    Attributes:
        is_ready: whether it has said so; until then it is better not to ask.
        asked: numbers of the levels it has been asked for and has not answered, oldest first.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, config: EnvConfig | SavedEnv, seed: int, answers: "queue.SimpleQueue[Answer]") -> None:
        self.is_ready = False
        self.asked: deque[int] = deque()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, _PROJECT_ROOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._reading = threading.Thread(target=_pass_on, args=(self, self._process.stdout, answers), daemon=True)
        self._reading.start()
        task = pickle.dumps((config, seed))
        self._send(REQUEST.pack(len(task)) + task)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def ask(self, number: int) -> None:
        """Asks for a level; never waits."""
        self.asked.append(number)
        self._send(REQUEST.pack(number))

    def end(self, patience: float = 0) -> int:
        """Ends the process, whatever it is doing: it has nothing to lose.

        Args:
            patience: seconds in which it may end by itself, for the sake of its exit code.

        Returns:
            The exit code, negative for a signal.
        """
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            self._requests.close()
        self._reading.join()
        return self._process.returncode

    def _send(self, message: bytes) -> None:
        # Where the process is no more, the reading thread notices as well, and reports it.
        with contextlib.suppress(OSError):
            self._requests.write(message)
            self._requests.flush()


def _pass_on(process: LevelProcess, reader: IO[bytes], answers: "queue.SimpleQueue[Answer]") -> None:
    """Puts what a process answers into a queue until the process ends."""
    with reader:
        while len(header := reader.read(ANSWER.size)) == ANSWER.size:
            kind, number, size = ANSWER.unpack(header)
            content = reader.read(size)
            if len(content) < size:
                break
            answers.put(Answer(process, Kind(kind), number, content))
    answers.put(Answer(process, Kind.ENDED))
