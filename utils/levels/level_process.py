"""A process that makes training levels, as the training process sees it. What runs inside is ``level_worker``."""

import pickle
import queue
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from utils.levels.mixtures import TrainingEnvironment
from utils.simulator.rail_state import RailState
from utils.system.child_process import ChildProcess

Planning = Callable[[RailState], None]
"""Fills ``plan_ahead`` of a level at its beginning; pickled by its name."""

Level = tuple[int, int]
"""A level by its number and the stage of the environment that it is made of, see ``Mixture``."""


class Kind(Enum):
    """What an answer is."""

    READY = "everything is imported and compiled"
    LEVEL = "what pack_level gives, or the UnsupportedLevel that says why the compiled simulator cannot play it"
    FAILED = "the level could not be made or packed; the sentence that says why"
    ENDED = "put in by the parent when the process is no more"


class Answer(NamedTuple):
    """What has come from a process."""

    process: "LevelProcess"
    kind: Kind
    level: Level = (-1, -1)
    content: Any = None


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
        self, config: TrainingEnvironment, seed: int, plan: Planning | None, answers: "queue.SimpleQueue[Answer]"
    ) -> None:
        self.is_ready = False
        self.asked: deque[Level] = deque()
        self._answers = answers
        self._child = ChildProcess("utils.levels.level_worker", self._received)
        self._child.send(pickle.dumps((config, seed, plan)))

    def ask(self, level: Level) -> None:
        """Asks for a level; never waits."""
        self.asked.append(level)
        self._child.send(pickle.dumps(level))

    def end(self, patience: float = 0) -> int:
        """Ends the process and returns its exit code; see ``ChildProcess.end``."""
        return self._child.end(patience)

    def _received(self, message: bytes | None) -> None:
        answer = (Kind.ENDED,) if message is None else pickle.loads(message)
        self._answers.put(Answer(self, *answer))
