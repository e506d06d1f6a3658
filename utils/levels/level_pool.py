"""Training levels, made ahead by other processes."""

import pickle
import queue
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from utils.levels.level_streams import TrainingLevels
from utils.levels.mixtures import TrainingEnvironment
from utils.levels.packed_level import pack_level, unpack_level
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_state import RailState
from utils.simulator.unsupported_level import UnsupportedLevel
from utils.system.child_process import ChildProcess

LEVELS_AHEAD = 64  # an evaluation takes long enough to make some dozens
MAX_ENDED_WORKERS = 3  # in a row, without a level between them
SECONDS_FOR_A_LEVEL = 300  # the largest official configurations take about a tenth of it

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


class LevelPool:
    """The levels of ``TrainingLevels`` in play on the compiled simulator, made ahead by background processes.

    Levels are asked for in rising order, with whatever number it begins, or in the order that ``expect`` was told.
    Each is the same, to the bit, whoever made it. While the processes start, which takes seconds, and whenever they
    cannot deliver, levels are made here, in the process that asks; nothing ever depends on them but time.

    Where ``levels.opened`` is set anew, levels that were made ahead of another environment are forgotten.

    The processes start when a level is first asked for. ``close`` ends them; a pool that is asked again afterwards
    starts new ones.

    Args:
        config: the distribution of levels; with a saved environment only the malfunctions differ.
        seed: the seed of the training, a non-negative integer.
        n_workers: how many processes; with 0 all levels are made here.
        end: levels from this number on are not made ahead.
        n_ahead: how many levels to keep ready, at least 1. They are small.
        plan: plans the levels that processes make, where they are to be planned; a level that is made here is planned
            by who plays it.
        warn: gets a sentence about what goes wrong but does not matter in the end.
    """

    def __init__(
        self,
        config: TrainingEnvironment,
        seed: int,
        n_workers: int,
        *,
        end: int | None = None,
        n_ahead: int = LEVELS_AHEAD,
        plan: Planning | None = None,
        warn: Callable[[str], None],
    ) -> None:
        self.levels = TrainingLevels(config, seed)
        self._workers = _Workers(config, seed, plan, n_workers, warn)
        self._end = end
        self._n_ahead = n_ahead
        self._ready: dict[Level, bytes | UnsupportedLevel | None] = {}  # None: it must be made here
        self._expected: list[int] | None = None  # None: those that follow

    def __enter__(self) -> "LevelPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def simulator(self, k: int) -> CompiledSimulator:
        """Level ``k``, ready to play; it belongs to the caller.

        Raises:
            UnsupportedLevel: the compiled simulator cannot play it.
        """
        packed = self._packed(k)
        return self._make_here(k) if packed is None else unpack_level(packed)

    def packed(self, k: int) -> bytes:
        """Level ``k`` as ``pack_level`` gives it, for another process.

        Raises:
            UnsupportedLevel: the compiled simulator cannot play it.
            UnpackableLevelError: it cannot be packed.
        """
        packed = self._packed(k)
        return pack_level(self._make_here(k)) if packed is None else packed

    def expect(self, levels: Sequence[int]) -> None:
        """Makes these ahead from now on, for one who plays some levels and not others."""
        self._expected = list(levels)
        self._make_ahead(self._expected)

    def close(self) -> None:
        """Ends all processes; what they have made but not handed out is forgotten."""
        self._workers.end()
        self._ready.clear()

    def _packed(self, k: int) -> bytes | None:
        """A level that was made already or is being made; None if it must be made here."""
        while answer := self._workers.next_answer(0):
            self._take(answer)
        if self._expected is not None and k in self._expected:
            self._expected.remove(k)
        level = (k, self.levels.stage(k))
        self._make_ahead(self._following(k + 1) if self._expected is None else self._expected, keep=level)
        while level not in self._ready and level in self._workers.in_the_making():
            answer = self._workers.next_answer(SECONDS_FOR_A_LEVEL)
            if answer is None:
                self._workers.give_up("do not answer")
            else:
                self._take(answer)
        found = self._ready.pop(level, None)
        if isinstance(found, UnsupportedLevel):
            raise found
        return found

    def _following(self, first: int) -> Iterable[int]:
        end = first + self._n_ahead
        return range(first, end if self._end is None else min(end, self._end))

    def _make_ahead(self, numbers: Iterable[int], keep: Level | None = None) -> None:
        """Asks for those levels that are neither here nor asked for; forgets all others but the one to keep."""
        wanted = [(k, self.levels.stage(k)) for k in numbers]
        for level in self._ready.keys() - {*wanted, keep}:
            del self._ready[level]
        for level in wanted:
            if level not in self._ready:
                self._workers.ask(level)

    def _take(self, answer: Answer) -> None:
        """Keeps the level that a process has delivered."""
        if answer.kind in (Kind.LEVEL, Kind.FAILED):
            self._ready[answer.level] = answer.content if answer.kind is Kind.LEVEL else None

    def _make_here(self, k: int) -> CompiledSimulator:
        return CompiledSimulator.from_env(self.levels.make(k))


class LevelProcess(ChildProcess):
    """A process that makes the levels it is asked for, one after the other. It ends with this process.

    Args:
        config, seed, plan: what levels to make, see ``LevelPool``.
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
        super().__init__("utils.levels.level_worker", self._received)
        self.send(pickle.dumps((config, seed, plan)))

    def ask(self, level: Level) -> None:
        """Asks for a level; never waits."""
        self.asked.append(level)
        self.send(pickle.dumps(level))

    def _received(self, message: bytes | None) -> None:
        answer = (Kind.ENDED,) if message is None else pickle.loads(message)
        self._answers.put(Answer(self, *answer))


class _Workers:
    """The background processes of a pool: started when needed, replaced when they end, shared out evenly."""

    def __init__(
        self, config: TrainingEnvironment, seed: int, plan: Planning | None, n_workers: int, warn: Callable[[str], None]
    ) -> None:
        self._levels = config, seed, plan
        self._n_workers = n_workers
        self._warn = warn
        self._processes: list[LevelProcess] = []
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._ended = 0  # in a row
        self._told_of_failure = False

    def ask(self, level: Level) -> None:
        """Has a level made, unless it is being made; while no process is ready nothing is asked for."""
        self._start()
        ready = [process for process in self._processes if process.is_ready]
        if ready and level not in self.in_the_making():
            min(ready, key=lambda process: len(process.asked)).ask(level)

    def in_the_making(self) -> set[Level]:
        """The levels that some process has been asked for and has not delivered."""
        return {level for process in self._processes for level in process.asked}

    def next_answer(self, seconds: float) -> Answer | None:
        """The next answer, after all that it says about the processes has been done; None if none comes in time."""
        try:
            answer = self._answers.get(seconds > 0, seconds or None)
        except queue.Empty:
            return None
        process = answer.process
        if process not in self._processes:
            pass  # it has been ended meanwhile
        elif answer.kind is Kind.ENDED:
            self._replace(process)
        elif answer.kind is Kind.READY:
            process.is_ready = True
        else:
            process.asked.remove(answer.level)
            self._ended = 0
            if answer.kind is Kind.FAILED and not self._told_of_failure:
                self._told_of_failure = True
                self._warn(f"a level was not made ahead ({answer.content}).")
        return answer

    def end(self) -> None:
        """Ends all processes."""
        for process in self._processes:
            process.end()
        self._processes.clear()
        self._answers = queue.SimpleQueue()

    def give_up(self, why: str) -> None:
        """From now on no level is made ahead."""
        self._n_workers = 0
        self.end()
        self._warn(f"the processes that make levels ahead {why}: levels are made in the training process now.")

    def _start(self) -> None:
        while len(self._processes) < self._n_workers:
            try:
                self._processes.append(LevelProcess(*self._levels, self._answers))
            except OSError as error:
                self.give_up(f"cannot be started ({error})")

    def _replace(self, process: LevelProcess) -> None:
        self._processes.remove(process)
        code = process.end(patience=1)
        self._ended += 1
        if self._ended >= MAX_ENDED_WORKERS:
            self.give_up(f"end again and again (the last one with exit code {code})")
        else:
            self._warn(f"a process that makes levels ahead has ended with exit code {code}; another takes its place.")
            self._start()
