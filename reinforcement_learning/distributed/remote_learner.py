"""A learner in an actor, as the training sees it."""

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from reinforcement_learning.distributed.answers import ActorsError, Answers, RayEndedError, reason_of
from reinforcement_learning.distributed.placement import Place
from reinforcement_learning.learning.hosted_learner import HostedLearner, LearnerReport
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.learner import Learner, LocalLearner
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.settings.config import TrainingConfig
from utils.observation.feature_sets import FeatureSet

MAX_ENDED = 3  # actors in a row, none of which has learned anything


class RemoteLearner(Learner):
    """Learns in an actor of its own.

    Here is a copy of the policy as it was at the last ``fetch``, which is what evaluations play and checkpoints hold.
    An actor that ends is replaced by one that goes on from there.

    Attributes:
        is_ready: whether the actor has started.
        given_up: it is not asked any more, and the training ends.
        waiting: rounds that it was given and has not learned from.
        lags: learning steps between playing and learning, of rounds since they were last cleared.
        report: the actor's newest.
        on_progress: is called with each report on what the actor has learned.
    """

    buffer: "RemoteBuffer"

    def __init__(
        self,
        config: TrainingConfig,
        feature_set: FeatureSet,
        index: int,
        place: Place,
        answers: Answers,
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
        self.on_progress: Callable[[LearnerReport], None] = lambda report: None
        self._config, self._index, self._place = config, index, place
        self._answers, self._warn = answers, warn
        self._hyperparameters = Hyperparameters.of(config)
        self._state = beginning.state_dict()  # as of the last fetch
        self.buffer = RemoteBuffer(self)
        self.given_up = False
        self._ended = 0  # in a row
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
        actor = self.actor

        def begin(report: LearnerReport) -> None:
            if actor is self.actor:
                self.is_ready = True

        self._answers.expect(actor.report.remote(), begin, lambda error: self._failed(actor, error))

    # --- learning ------------------------------------------------------------------------------------------------

    def take(self, rows: "ray.ObjectRef", played_with: int) -> None:
        """Has the actor learn from rows, wherever they are; ``played_with`` is the age of the weights."""
        self.waiting += 1
        actor = self.actor

        def done(report: LearnerReport) -> None:
            if actor is self.actor:
                self._learned(report, played_with)

        answer = self.actor.learn_from.remote(rows, self.progress)
        self._answers.expect(answer, done, lambda error: self._failed(actor, error))

    def _learned(self, report: LearnerReport, played_with: int) -> None:
        self.waiting -= 1
        self._ended = 0
        self.report = report
        self.lags.append(max(0, report.learning_steps - len(report.losses) - played_with))
        self.losses.extend(torch.tensor(report.losses))
        self.on_progress(report)
        if report.learning_steps - self._broadcast_at >= self._config.broadcast_every:
            self._broadcast_at = report.learning_steps
            self._ask_for_weights()

    def _ask_for_weights(self) -> None:
        """Has the actor put its weights where rollout actors find them."""
        actor = self.actor
        steps, weights = actor.weights.options(num_returns=2).remote()

        def done(learning_steps: int) -> None:
            if actor is self.actor:
                self._newest_weights = (learning_steps, weights)

        self._answers.expect(steps, done, lambda error: self._failed(actor, error))

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
        self._call(self.actor.tune.remote(self._hyperparameters))
        self._load()
        if self.buffer.saved is not None:
            self._call(self.actor.restore_buffer.remote(self.buffer.saved))

    def lost_weights(self, weights: "ray.ObjectRef") -> None:
        """Takes note that these are nowhere any more: until there are newer ones, those known here are played with."""
        if weights is self._newest_weights[1]:
            self._newest_weights = (self.policy.learning_steps, ray.put(self.policy.acting_weights()))

    # --- what the training sees ----------------------------------------------------------------------------------

    @property
    def learning_steps(self) -> int:
        return self.report.learning_steps

    @property
    def newest_weights(self) -> tuple[int, "ray.ObjectRef"]:
        return self._newest_weights

    @property
    def replay_ratio(self) -> float:
        return self.report.replay_ratio

    @property
    def hyperparameters(self) -> Hyperparameters:
        return self._hyperparameters

    @hyperparameters.setter
    def hyperparameters(self, values: Hyperparameters) -> None:
        self._hyperparameters = values
        self._call(self.actor.tune.remote(values))

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
        self._call(self.actor.take_over_buffer.remote(other.actor.buffer_content.remote()))

    def state_dict(self) -> dict[str, Any]:
        """As of the last ``fetch``."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = state
        self.policy.load_state_dict(state)
        self.report = LearnerReport(self.policy.learning_steps)
        self._load()

    def close(self) -> None:
        ray.kill(self.actor)

    def _load(self) -> None:
        """Has the actor go on from what is known here."""
        self._broadcast_at = self.policy.learning_steps
        self._newest_weights = (self.policy.learning_steps, ray.put(self.policy.acting_weights()))
        self._call(self.actor.load.remote(self._state))

    def _call(self, answer: "ray.ObjectRef") -> None:
        """Has the actor do something that nobody waits for."""
        actor = self.actor
        self._answers.expect(answer, lambda nothing: None, lambda error: self._failed(actor, error))

    def _value(self, method: str, *arguments: Any) -> Any:
        """What a method of the actor gives; see ``Answers.wait_for`` for what is raised."""
        self._answers.check()
        return self._answers.wait_for(getattr(self.actor, method).remote(*arguments))


class RemoteBuffer:
    """The replay buffer of a learner in an actor; its files are on the actor's machine.

    Attributes:
        saved: the file that a new actor can go on with, if there is one.
    """

    def __init__(self, learner: RemoteLearner) -> None:
        self._learner = learner
        self.saved: str | None = None

    @property
    def n_added(self) -> int:
        """Transitions added over its whole life."""
        return self._learner.report.n_added

    def __len__(self) -> int:
        return self._learner.report.n_stored

    def save(self, path: str | Path) -> None:
        """Writes a file on the actor's machine.

        Raises:
            OSError: the file cannot be written, or the actor has ended.
        """
        try:
            if self._learner.given_up:
                raise RayEndedError
            self._learner._value("save_buffer", str(path))
        except (RayError, RayEndedError) as error:
            raise OSError(errno.EIO, f"{self._learner.name} does not answer") from error
        self.saved = str(path)

    def restore(self, path: str | Path) -> None:
        """Takes over the transitions of a file on the actor's machine."""
        self._learner.report = self._learner._value("restore_buffer", str(path))
        self.saved = str(path)
