"""A process that makes training levels, as the training process sees it. What runs inside is ``level_worker``."""

import pickle
import queue
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from utils.levels.mixtures import TrainingEnvironment
from utils.simulator.rail_state import RailState
from utils.system.child_process import ChildProcess

# The worker is told what levels to make first, and what to plan; then each request is a level.
REQUEST = struct.Struct("<qq")
ANSWER = struct.Struct("<bqq")  # what it is and the level; its content follows

Planning = Callable[[RailState], None]
"""Fills ``plan_ahead`` of a level at its beginning; pickled by its name."""

Level = tuple[int, int]
"""A level by its number and the stage of the environment that it is made of, see ``Mixture``."""

NO_LEVEL: Level = (-1, -1)


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
    level: Level = NO_LEVEL
    content: bytes = b""


class LevelProcess:
    """A process that makes the levels it is asked for, one after the other. It ends with this process.

    Args:
        config: what levels to make.
        seed: see ``TrainingLevels``.
        plan: plans the levels; None: nobody does.
        answers: where all its answers are put.

    Attributes:
        is_ready: whether it has said so; until then it is better not to ask.
        asked: the levels it has been asked for and has not answered, oldest first.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        config: TrainingEnvironment,
        seed: int,
        plan: Planning | None,
        answers: "queue.SimpleQueue[Answer]",
    ) -> None:
        self.is_ready = False
        self.asked: deque[Level] = deque()
        self._answers = answers
        self._child = ChildProcess("utils.levels.level_worker", self._received)
        self._child.send(pickle.dumps((config, seed, plan)))

    def ask(self, level: Level) -> None:
        """Asks for a level; never waits."""
        self.asked.append(level)
        self._child.send(REQUEST.pack(*level))

    def end(self, patience: float = 0) -> int:
        """Ends the process and returns its exit code; see ``ChildProcess.end``."""
        return self._child.end(patience)

    def _received(self, message: bytes | None) -> None:
        if message is None:
            self._answers.put(Answer(self, Kind.ENDED))
            return
        kind, *level = ANSWER.unpack_from(message)
        self._answers.put(Answer(self, Kind(kind), (level[0], level[1]), message[ANSWER.size :]))
