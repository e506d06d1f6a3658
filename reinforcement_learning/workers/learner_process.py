"""A process on this machine that holds the learners of a device, as the training sees it."""

import pickle
import queue
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reinforcement_learning.playing.experience import ExperienceError
from reinforcement_learning.settings.config import TrainingConfig
from utils.system.child_process import ChildProcess

SECONDS_FOR_AN_ANSWER = 600  # a process that takes longer is taken for dead: on a GPU that hangs it would never answer


class LearnerProcessError(ExperienceError):
    """A process that learns cannot go on; the message is one sentence."""


@dataclass(frozen=True)
class LearnerTask:
    """What a process that learns is told at its start."""

    config: TrainingConfig
    device: str
    policies: Sequence[int]  # the numbers of those that learn there


def _nothing(value: Any) -> None:
    pass


class LearnerProcess:
    """Has a :class:`~.hosted_learner.HostedLearner` for each policy of a device; it answers one call after the other.

    Sending never waits, so several processes work side by side. Answers come in the order of the calls. What has failed
    there is kept until :meth:`check` raises it.

    Attributes:
        has_failed: whether :meth:`check` is known to raise something.
        is_closed: whether it was ended from here.

    Raises:
        LearnerProcessError: it cannot be started.
    """

    def __init__(self, task: LearnerTask) -> None:
        self._task = task
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._due: deque[Callable[[Any], None]] = deque([_nothing])  # the first tells that it has begun
        self._errors: list[Exception] = []
        self._end: str | None = None  # how it has ended, other than by ``close``
        self.is_closed = False
        try:
            self._process = ChildProcess("reinforcement_learning.workers.learner_main", self._answers.put)
        except OSError as error:
            raise LearnerProcessError(f"{self} cannot be started: {error}.") from error
        # what users put in place is found there where this process has found it
        self._process.send(pickle.dumps((sys.path, task)))

    def __str__(self) -> str:
        return f"the learner process of {self._task.device} (policies {', '.join(map(str, self._task.policies))})"

    @property
    def has_failed(self) -> bool:
        return bool(self._errors) or self._end is not None

    def tell(self, policy: int, method: str, *arguments: Any, done: Callable[[Any], None] = _nothing) -> None:
        """Has a method of a policy's learner called; ``done`` gets what it gives, once somebody waits for that."""
        if not self._has_ended:
            self._process.send(pickle.dumps((policy, method, arguments), protocol=5))
            self._due.append(done)

    def ask(self, policy: int, method: str, *arguments: Any) -> Any:
        """What a method of a policy's learner gives; see :meth:`check` for what is raised."""
        answers: list[Any] = []
        self.tell(policy, method, *arguments, done=answers.append)
        self.check()
        return answers[0]

    def wait(self) -> None:
        """Takes all answers that are due; raises nothing."""
        while self._due and not self._has_ended:
            try:
                message = self._answers.get(timeout=SECONDS_FOR_AN_ANSWER)
            except queue.Empty:
                self._process.end()
                self._end = f"has not answered for {SECONDS_FOR_AN_ANSWER} seconds and was ended"
                return
            if message is None:
                self._end = f"has ended with exit code {self._process.end(patience=1)}"
                return
            done = self._due.popleft()
            value, error = pickle.loads(message)
            if error is None:
                done(value)
            else:
                self._errors.append(error)

    def check(self) -> None:
        """Waits for all answers that are due.

        Raises:
            LearnerProcessError: the process has ended.
            Exception: what has failed there first since the last call; others hardly tell more.
        """
        self.wait()
        if self._errors:
            first = self._errors[0]
            self._errors.clear()
            raise first
        if self._has_ended:
            how = self._end or "has ended"
            raise LearnerProcessError(f"{self} {how}; what was learned since the newest checkpoint is lost.")

    def forget_errors(self) -> None:
        """Takes all answers that are due, and does not raise what has failed until now."""
        self.wait()
        self._errors.clear()

    def close(self) -> None:
        """Ends the process; what was sent and not waited for is lost."""
        if not self._has_ended:
            self.is_closed = True
            self._process.end()

    @property
    def _has_ended(self) -> bool:
        return self.is_closed or self._end is not None
