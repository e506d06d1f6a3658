"""Experience from processes on this machine, which play beside the learners and send them whole episodes.

Each process plays a round of some hundred decisions with the weights it was sent last, sends what it has collected
in one message, and waits for the next request. Rounds are taken in a fixed order, whichever is ready first, so a
training with workers gives the same results each time; and no worker is ever more than a round ahead of the learners.
All policies play in every process: which of them drives which train follows from the number of the episode.
"""

import pickle
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.experience import Experience, ExperienceError, FinishedEpisode, UnfinishedEpisode
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.workers.broadcast import Broadcast, Listener
from reinforcement_learning.workers.level_queue import LevelQueue
from reinforcement_learning.workers.round_player import Round, RoundRequest, Task
from utils.levels.playable_levels import PlayableLevels
from utils.system.child_process import ChildProcess
from utils.system.stopwatch import Stopwatch
from utils.system.users_code import UsersCodeError

MAX_ENDED_WORKERS = 3  # in a row, without a round between them
SECONDS_FOR_A_ROUND = 300  # for each policy; a worker that takes longer is taken for dead
_SECONDS_TO_WAIT = 0.1  # before the training may ask again whether it should stop


class RolloutWorkerError(ExperienceError):
    """The processes that play cannot go on; the message is one sentence."""


class RolloutWorkers(Experience):
    """Experience from ``config.num_workers`` processes.

    ``play`` takes one round of one process, or nothing where that is not ready soon. Unfinished episodes are resumed
    from their beginnings. A process that ends is replaced, and its episodes are begun again.

    Args:
        population: the policies that the processes play with; each gets the rows of the trains it has driven.
    """

    def __init__(
        self,
        config: TrainingConfig,
        levels: PlayableLevels,
        population: Population,
        *,
        stopwatch: Stopwatch,
        warn: Callable[[str], None],
    ) -> None:
        self._config, self._levels, self._population = config, levels, population
        self._broadcast = Broadcast(population.learners, population.past_selves)
        self._stopwatch = stopwatch
        self._warn = warn
        self._queue = LevelQueue(config.n_episodes, config.num_workers)
        self._turns: deque[_Worker] = deque()  # those that have been asked for a round, in the order of asking
        self._answers: queue.SimpleQueue[tuple[_Worker, bytes | None]] = queue.SimpleQueue()
        self._n_started = 0
        self._ended = 0  # in a row

    @property
    def next_level(self) -> int:
        return self._queue.next_level

    def play(self) -> list[FinishedEpisode]:
        """Takes one round of the process whose turn it is; returns the episodes that have ended in it.

        Raises:
            RolloutWorkerError: the processes cannot be started, or end again and again.
            UsersCodeError: a user's network, features, reward or mapping gives something that cannot be used.
        """
        if not self._turns:
            self._start()
        worker = self._turns[0]
        done = self._round_of(worker)
        if done is None:
            return []
        self._ended = 0
        for episode in done.finished:
            worker.levels.remove(episode.level_number)
        self._turns.popleft()
        if worker.levels or self._queue.n_left:
            self._ask(worker)  # at once: it plays on while the learner learns from what it has sent
            self._turns.append(worker)
        else:
            worker.process.end()
        if done.rows is not None:
            self._population.add(done.rows)
        for part, seconds in done.seconds.items():
            self._stopwatch.seconds[part] += seconds
        return list(done.finished)

    def unfinished(self) -> list[UnfinishedEpisode]:
        # without their actions, which are not known here
        levels = sorted([*self._queue.lost, *(number for worker in self._turns for number in worker.levels)])
        return [UnfinishedEpisode(slot, level_number) for slot, level_number in enumerate(levels)]

    def resume(self, next_level: int, unfinished: Sequence[UnfinishedEpisode]) -> None:
        self._queue.resume(next_level, (episode.level_number for episode in unfinished))

    def close(self) -> None:
        for worker in self._turns:
            worker.process.end()

    def _start(self) -> None:
        for _ in range(min(self._config.num_workers, self._queue.n_left)):
            self._turns.append(self._new_worker())

    def _new_worker(self) -> "_Worker":
        # a resumed training counts on from its level, or its workers would draw the same random numbers again
        self._n_started += 1
        task = Task(self._config, self._levels.n_trains, self.next_level + self._n_started)
        try:
            worker = _Worker(task, Listener(self._broadcast), self._answers)
        except OSError as error:
            raise RolloutWorkerError(f"a process that plays (--num_workers) cannot be started: {error}.") from error
        self._ask(worker)
        return worker

    def _ask(self, worker: "_Worker") -> None:
        """Asks for a round, with more levels and what is new."""
        n_envs, n_policies = self._config.num_envs, self._config.num_policies
        # enough for a round, which is the longer the more policies there are
        levels = self._queue.take(n_envs + n_policies * (n_envs // 2 + 1) - len(worker.levels))
        worker.levels += levels
        packed = [(level_number, self._levels.packed(level_number)) for level_number in levels]
        worker.ask(packed, self._levels.opened)

    def _round_of(self, worker: "_Worker") -> Round | None:
        """The round that a process was asked for; None where it has not come soon, or where a process has ended."""
        while worker.answer is None:
            try:
                sender, message = self._answers.get(timeout=_SECONDS_TO_WAIT)
            except queue.Empty:
                if time.monotonic() - worker.asked > SECONDS_FOR_A_ROUND * self._config.num_policies:
                    self._replace(worker)
                return None
            if message is not None:
                sender.answer = message
            elif sender in self._turns:  # the others were ended here
                self._replace(sender)
                return None
        done: Round | UsersCodeError = pickle.loads(worker.answer)
        if isinstance(done, UsersCodeError):
            raise done
        worker.answer = None
        return done

    def _replace(self, worker: "_Worker") -> None:
        """Another process takes a process's turn, and begins its episodes again."""
        code = worker.process.end(patience=1)
        turn = self._turns.index(worker)
        del self._turns[turn]
        self._queue.give_back(worker.levels)
        self._ended += 1
        if self._ended >= MAX_ENDED_WORKERS:
            raise RolloutWorkerError(
                f"the processes that play (--num_workers) end again and again, the last one with exit code {code}."
            )
        self._warn(
            f"a process that plays has ended with exit code {code}; another takes its place and begins its "
            f"{len(worker.levels)} episodes again."
        )
        self._turns.insert(turn, self._new_worker())


class _Worker:
    """A process that plays, as the learner sees it.

    Attributes:
        levels: those it was given and has not finished.
        asked: when it was asked for a round.
        answer: the round, as it has come.
    """

    def __init__(
        self, task: Task, listener: Listener, answers: "queue.SimpleQueue[tuple[_Worker, bytes | None]]"
    ) -> None:
        self.levels: list[int] = []
        self._listener = listener
        self.asked = time.monotonic()
        self.answer: bytes | None = None
        self.process = ChildProcess(
            "reinforcement_learning.workers.worker_main", lambda message: answers.put((self, message))
        )
        # what users put in place is found there where this process has found it
        self.process.send(pickle.dumps((sys.path, task)))

    def ask(self, levels: Sequence[tuple[int, bytes | None]], opened: tuple[int, ...]) -> None:
        """Asks for a round, with more levels and what is new to it; never waits."""
        self.asked = time.monotonic()
        self.process.send(pickle.dumps(RoundRequest(levels, self._listener.news(), opened), protocol=5))
