"""One policy with all that its learning needs: a replay buffer, counters, hyper-parameters."""

import dataclasses
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.dddqn_policy import DEMONSTRATION_MARGIN, DDDQNPolicy
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.networks import make_network
from reinforcement_learning.learning.replay_buffer import ReplayBuffer
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.settings.config import TrainingConfig
from utils.observation.feature_sets import FeatureSet
from utils.system.seeds import Stream, generator


class StoredTransitions(Protocol):
    """A replay buffer, wherever it is."""

    @property
    def n_added(self) -> int:
        """Transitions added over its whole life."""
        ...

    def __len__(self) -> int: ...

    def save(self, path: str | Path) -> None:
        """Writes a file for :meth:`restore`."""
        ...

    def restore(self, path: str | Path) -> None:
        """Takes over the transitions of a saved replay buffer."""
        ...


class Learner(ABC):
    """A policy that learns, as the training sees it: in this process or elsewhere.

    Attributes:
        policy: of a learner elsewhere, a copy as it was at the last :meth:`fetch`.
        buffer: what it learns from.
        losses: scalars, one for each learning step since the list was last cleared.
        hyperparameters: how the policy learns and explores.
        progress: the share of the training's episodes that are over; the learning rate falls with it.
    """

    policy: DDDQNPolicy
    buffer: StoredTransitions
    losses: list[torch.Tensor]
    hyperparameters: Hyperparameters
    progress: float

    @property
    @abstractmethod
    def learning_steps(self) -> int:
        """Learning steps so far."""

    @property
    @abstractmethod
    def newest_weights(self) -> tuple[int, Any]:
        """Learning steps, and the weights of that moment or a reference to them, for processes that play.

        The weights are the same object as long as nothing has changed.
        """

    @property
    @abstractmethod
    def replay_ratio(self) -> float:
        """How often a transition has been learned from so far, in this process; NaN before any learning.

        It approaches ``batch_size / update_every``.
        """

    @abstractmethod
    def add(self, rows: EpisodeRows) -> None:
        """Takes over what episodes have left; learning from them waits for :meth:`learn`."""

    @abstractmethod
    def learn(self) -> None:
        """Takes the learning steps that are due: one per ``update_every`` transitions."""

    def fetch(self) -> None:  # noqa: B027 (what learns in this process has nothing to fetch)
        """Brings what is known here of a learner elsewhere up to date."""

    @abstractmethod
    def take_over(self, other: "Learner") -> None:
        """Goes on from what another one has learned, with a copy of its replay buffer."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs but the replay buffer's content."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state; hyper-parameters stay those of the configuration."""


def make_policy(config: TrainingConfig, feature_set: FeatureSet, index: int, device: str | torch.device) -> DDDQNPolicy:
    """Policy ``index`` of a training, as it is in the beginning."""
    return DDDQNPolicy(
        make_network(config, feature_set, index),
        learning_rate=config.learning_rate,
        tau=config.tau,
        advantage_learning=config.advantage_learning,
        averaging_steps=config.averaging_steps,
        max_grad_norm=config.max_grad_norm,
        guide=config.guided_exploration,
        margin=DEMONSTRATION_MARGIN if config.demonstrations > 0 else 0.0,
        route_features=feature_set.route_features,
        seed=config.seed,
        index=index,
        device=device,
    )


class LocalLearner(Learner):
    """Learns in this process, from the transitions of the trains that its policy drives.

    Args:
        config: the whole configuration.
        feature_set: what observations hold.
        index: number of the policy; its random streams derive from it.
        device: where the policy lives and learns.
    """

    buffer: ReplayBuffer

    def __init__(self, config: TrainingConfig, feature_set: FeatureSet, index: int, device: str | torch.device) -> None:
        self.policy = make_policy(config, feature_set, index, device)
        random = generator(config.seed, Stream.REPLAY_SAMPLING, index)
        self.buffer = ReplayBuffer(config.buffer_size, feature_set, random)
        self._hyperparameters = Hyperparameters.of(config)
        self._end_factor, self._progress = config.learning_rate_end_factor, 0.0
        self._size_to_learn = max(config.buffer_min_size, config.batch_size)
        self.transitions_to_learn_from = 0  # collected since the last learning step
        self.losses: list[torch.Tensor] = []  # since the last episode's end
        self._n_to_learn_from = self._n_learned_from = 0  # transitions, in this process
        self._newest_weights: tuple[int, npt.NDArray[np.float32]] | None = None

    @property
    def learning_steps(self) -> int:
        return self.policy.learning_steps

    @property
    def newest_weights(self) -> tuple[int, npt.NDArray[np.float32]]:
        if self._newest_weights is None or self._newest_weights[0] != self.learning_steps:
            self._newest_weights = self.learning_steps, self.policy.acting_weights()
        return self._newest_weights

    @property
    def replay_ratio(self) -> float:
        return (
            self._n_learned_from / self._n_to_learn_from if self._n_learned_from and self._n_to_learn_from else math.nan
        )

    @property
    def hyperparameters(self) -> Hyperparameters:
        return self._hyperparameters

    @hyperparameters.setter
    def hyperparameters(self, values: Hyperparameters) -> None:
        self._hyperparameters = values
        self.policy.tau, self.policy.advantage_learning = values.tau, values.advantage_learning
        self.progress = self._progress

    @property
    def progress(self) -> float:
        return self._progress

    @progress.setter
    def progress(self, value: float) -> None:
        self._progress = value
        factor = 1.0 + (self._end_factor - 1.0) * min(value, 1.0)
        self.policy.learning_rate = self._hyperparameters.learning_rate * factor

    def add(self, rows: EpisodeRows) -> None:
        self.buffer.add(rows)
        self.transitions_to_learn_from += rows.n_transitions
        self._n_to_learn_from += rows.n_transitions

    def learn(self) -> None:
        if not self._has_enough:
            self.transitions_to_learn_from = 0
            self._n_to_learn_from = 0
        now = self._hyperparameters
        batch_size, update_every = now.batch_size, now.update_every
        while self.transitions_to_learn_from >= update_every:
            self.transitions_to_learn_from -= update_every
            batch = self.buffer.sample(batch_size, now.reward_weights, now.n_step, self.policy.device)
            self.losses.append(self.policy.learn(batch))
            self._n_learned_from += batch_size

    @property
    def _has_enough(self) -> bool:
        """Whether there are enough transitions; some rows are none, so a full buffer has to do with fewer."""
        n = len(self.buffer)
        return n >= self._size_to_learn or (n > 0 and self.buffer.is_full)

    def take_over(self, other: Learner) -> None:
        assert isinstance(other, LocalLearner)
        self.policy.take_over(other.policy)
        # its own fits what it has learned no better
        self.buffer.take_over(other.buffer.content())
        self._newest_weights = None  # others, maybe after as many steps

    def state_dict(self) -> dict[str, Any]:
        return {
            **self.policy.state_dict(),
            "sampling": self.buffer.random.bit_generator.state,
            "transitions_to_learn_from": self.transitions_to_learn_from,
            "n_added": self.buffer.n_added,
            "losses": torch.stack(self.losses).cpu() if self.losses else torch.empty(0),
            "hyperparameters": dataclasses.asdict(self.hyperparameters),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state)
        self._newest_weights = None
        self.buffer.random.bit_generator.state = state["sampling"]
        self.transitions_to_learn_from = state["transitions_to_learn_from"]
        self.losses = list(state["losses"].to(self.policy.device))
