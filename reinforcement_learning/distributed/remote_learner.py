"""A learner in an actor, as the training sees it."""

import dataclasses
import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from reinforcement_learning.distributed.answers import ActorsError, Answers, RayEndedError, reason_of
from reinforcement_learning.distributed.placement import Place
from reinforcement_learning.learning.hosted_learner import (
    BufferElsewhere,
    HostedLearner,
    LearnerElsewhere,
    LearnerReport,
)
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.learner import Learner, LocalLearner
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.settings.config import TrainingConfig
from utils.observation.feature_sets import FeatureSet
from utils.system.stopwatch import Stopwatch

MAX_ENDED = 3  # actors in a row, none of which has learned anything
SECONDS_WITHOUT_PROGRESS = 60.0


class RemoteLearner(LearnerElsewhere):
    """Learns in an actor of its own.

    Here is a copy of the policy as it was at the last ``fetch``, which is what evaluations play and checkpoints hold.
    An actor that ends is replaced by one that goes on from there.

    Attributes:
        is_ready: whether the actor has started.
        given_up: it is not asked any more, and the training ends.
        waiting: rounds that it was given and has not learned from.
        lags: learning steps between playing and learning, of rounds since they were last cleared.
        report: the actor's newest.
    """

    def __init__(
        self,
        config: TrainingConfig,
        feature_set: FeatureSet,
        index: int,
        place: Place,
        answers: Answers,
        stopwatch: Stopwatch,
        warn: Callable[[str], None],
    ) -> None:
        # it never learns, so its replay buffer may be small
        small = dataclasses.replace(config, buffer_size=config.batch_size, buffer_min_size=0)
        beginning = LocalLearner(small, feature_set, index, "cpu")
        self.policy = beginning.policy
        self.losses: list[torch.Tensor] = []
        self.progress = 0.0
        self.name = f"the learner of policy {index}"
        self.lags: list[int] = []
        self._config, self._index, self._place = config, index, place
        self._answers, self._stopwatch, self._warn = answers, stopwatch, warn
        self._hyperparameters = Hyperparameters.of(config)
        self._state = beginning.state_dict()  # as of the last fetch
        self.buffer = BufferElsewhere(self)
        self._saved_buffer: str | None = None  # the file that a new actor can go on with, if there is one
        self.given_up = False
        self._ended = 0  # in a row
        self._learned_at, self._has_warned = time.monotonic(), False
        self._start()

    def _start(self) -> None:
        options = self._place.options | {"max_restarts": 0}
        self.actor = ray.remote(HostedLearner).options(**options).remote(self._config, self._index, self._place.device)
        self.is_ready = False
        self.waiting = 0
        self.report = LearnerReport(self.policy.learning_steps)
        # what rollout actors play with until the actor has learned something
        self._newest_weights = (self.policy.learning_steps, ray.put(self.policy.acting_weights()))
        self._broadcast_at = self.policy.learning_steps
        self.tell("report", done=self._begin)

    def _begin(self, report: LearnerReport) -> None:
        self.is_ready = True

    # --- learning ------------------------------------------------------------------------------------------------

    def take(self, rows: "ray.ObjectRef", played_with: int) -> None:
        """Has the actor learn from rows, wherever they are; ``played_with`` is the age of the weights."""
        self.waiting += 1
        self.tell("learn_from", rows, self.progress, done=partial(self._learned, played_with))

    def _learned(self, played_with: int, report: LearnerReport) -> None:
        self.waiting -= 1
        self._ended = 0
        self._learned_at, self._has_warned = time.monotonic(), False
        self.report = report
        self.lags.append(max(0, report.learning_steps - len(report.losses) - played_with))
        self.losses.extend(torch.tensor(report.losses))
        self._stopwatch.seconds["learn"] += report.seconds
        if report.learning_steps - self._broadcast_at >= self._config.broadcast_every:
            self._broadcast_at = report.learning_steps
            self._ask_for_weights()

    def _ask_for_weights(self) -> None:
        """Has the actor put its weights where rollout actors find them."""
        steps, weights = self.actor.weights.options(num_returns=2).remote()

        def done(learning_steps: int) -> None:
            self._newest_weights = (learning_steps, weights)

        self._expect(steps, done)

    def _failed(self, actor: Any, error: Exception) -> None:
        """The actor has ended, unless what it was to learn from was lost on its way."""
        if actor is not self.actor:
            return  # it was replaced already
        if isinstance(error, ray.exceptions.ObjectLostError):
            self.waiting -= 1
        else:
            self._replace(error)

    def _replace(self, error: Exception) -> None:
        self._ended += 1
        if self._ended >= MAX_ENDED:
            self.given_up = True
            raise ActorsError(f"{self.name} ends again and again ({reason_of(error)}).") from error
        ray.kill(self.actor)
        self._warn(
            f"{self.name} has ended; another goes on from the last checkpoint, "
            f"after {self.policy.learning_steps} learning steps."
        )
        self._start()
        self.tell("tune", self._hyperparameters)
        self._load()
        if self._saved_buffer is not None:
            self.tell("restore_buffer", self._saved_buffer)

    def warn_without_progress(self, reason: str) -> None:
        """Warns once where it has learned nothing for a minute, and again if it went on and stopped again.

        Args:
            reason: why it learns nothing where it has started and got all that it was given.
        """
        seconds = time.monotonic() - self._learned_at
        if seconds < SECONDS_WITHOUT_PROGRESS or self._has_warned:
            return
        self._has_warned = True
        if not self.is_ready:
            reason = "it has not started yet"
        elif self.waiting:
            reason = f"{self.waiting} rounds wait for it"
        self._warn(f"{self.name} has made no progress for {seconds:.0f} seconds: {reason}.")

    def lost_weights(self, weights: "ray.ObjectRef") -> None:
        """Takes note that these are nowhere any more: until there are newer ones, those known here are played with."""
        if weights is self._newest_weights[1]:
            self._newest_weights = (self.policy.learning_steps, ray.put(self.policy.acting_weights()))

    # --- what the training sees ----------------------------------------------------------------------------------

    @property
    def newest_weights(self) -> tuple[int, "ray.ObjectRef"]:
        return self._newest_weights

    def add(self, rows: EpisodeRows) -> None:
        self.take(ray.put(rows), self.learning_steps)

    def learn(self) -> None:
        """Does nothing: the actor learns from whatever it gets."""

    def fetch(self) -> None:
        """Waits until the actor has learned what it was given; where Ray has ended the last state has to do."""
        if self.given_up or not self.is_ready:
            return  # nothing has changed
        actor = self.actor
        try:
            self._state = self._value("state")
            self._answers.take(0)  # the reports of what it has learned meanwhile
        except RayEndedError:
            self.given_up = True
        except RayError as error:
            if self._answers.stop_requested():
                self.given_up = True
                self._warn(
                    f"{self.name} does not answer ({reason_of(error)}); it is saved as it was after "
                    f"{self.policy.learning_steps} learning steps."
                )
            else:
                self._failed(actor, error)
        self.policy.load_state_dict(self._state)

    def take_over(self, other: Learner) -> None:
        assert isinstance(other, RemoteLearner)
        self.policy.take_over(other.policy)
        self._state = self._state | self.policy.state_dict()
        self._state.pop("acting", None)  # of what it had learned itself
        self._load()
        self.tell("take_over_buffer", other.actor.buffer_content.remote())

    def state_dict(self) -> dict[str, Any]:
        """As of the last ``fetch``."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = state
        self.policy.load_state_dict(state)
        self.report = LearnerReport(self.policy.learning_steps)
        self._load()

    def save_buffer(self, path: str) -> None:
        try:
            if self.given_up:
                raise RayEndedError
            self._value("save_buffer", path)
        except (RayError, RayEndedError) as error:
            raise OSError(errno.EIO, f"{self.name} does not answer") from error
        self._saved_buffer = path

    def restore_buffer(self, path: str) -> None:
        self.report = self._value("restore_buffer", path)
        self._saved_buffer = path

    def close(self) -> None:
        ray.kill(self.actor)

    def _load(self) -> None:
        """Has the actor go on from what is known here."""
        self._broadcast_at = self.policy.learning_steps
        self._newest_weights = (self.policy.learning_steps, ray.put(self.policy.acting_weights()))
        self.tell("load_state_dict", self._state)

    def tell(self, method: str, *arguments: Any, done: Callable[[Any], None] = lambda value: None) -> None:
        self._expect(getattr(self.actor, method).remote(*arguments), done)

    def _expect(self, answer: "ray.ObjectRef", done: Callable[[Any], None]) -> None:
        """Has ``done`` called with an answer of the actor, unless another one has taken its place by then."""
        actor = self.actor

        def came(value: Any) -> None:
            if actor is self.actor:
                done(value)

        self._answers.expect(answer, came, lambda error: self._failed(actor, error))

    def _value(self, method: str, *arguments: Any) -> Any:
        """What a method of the actor gives; see ``Answers.wait_for`` for what is raised."""
        self._answers.check()
        return self._answers.wait_for(getattr(self.actor, method).remote(*arguments))
