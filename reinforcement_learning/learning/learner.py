"""One policy with all that its learning needs: a replay buffer, counters, hyper-parameters."""

import copy
import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.dddqn_policy import DEMONSTRATION_MARGIN, DDDQNPolicy
from reinforcement_learning.learning.acting_copy import ActingCopy
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.networks import make_network
from reinforcement_learning.learning.replay_buffer import ReplayBuffer
from reinforcement_learning.learning.step_graph import GraphedStep
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.devices import on_device
from utils.observation.feature_sets import FeatureSet
from utils.system.seeds import Stream, generator

BACKUP_EVERY = 1_000
"""Learning steps on a GPU after which their results are copied to the CPU, in case the GPU fails."""


class StoredTransitions(Protocol):
    """A replay buffer, wherever it is."""

    @property
    def n_added(self) -> int:
        """Transitions added over its whole life."""
        ...

    def __len__(self) -> int: ...

    def save(self, path: str | Path) -> None:
        """Writes a file for :meth:`restore`.

        Raises:
            OSError: it cannot be written, or whoever learns elsewhere is no more.
        """
        ...

    def restore(self, path: str | Path) -> None:
        """Takes over the transitions of a saved replay buffer.

        Raises:
            ReplayBufferError: it cannot be used.
        """
        ...


class Learner(ABC):
    """A policy that learns, as the training sees it: in this process or elsewhere."""

    has_failed = False  # whether ``wait`` is known to raise something
    policy: DDDQNPolicy  # of a learner elsewhere, a copy as it was at the last ``fetch``
    buffer: StoredTransitions  # what it learns from
    losses: list[torch.Tensor]  # scalars, one for each learning step since the list was last cleared
    hyperparameters: Hyperparameters  # how the policy learns and explores
    progress: float  # the share of the training's episodes that are over; the learning rate falls with it

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

    def wait(self) -> None:  # noqa: B027 (what learns in this process has learned when it returns)
        """Waits for a learner in another process; what has failed there is raised here."""

    def fetch(self) -> None:  # noqa: B027 (what learns in this process has nothing to fetch)
        """Brings what is known here of a learner elsewhere up to date."""

    def lose_device(self) -> None:  # noqa: B027 (there is nothing to lose on the CPU)
        """Reads nothing from its GPU from now on, as that has failed; its state is the last one that was copied."""

    def close(self) -> None:  # noqa: B027 (what learns in this process ends with it)
        """Ends whatever runs elsewhere; what was last fetched can still be asked."""

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
        capturable=learns_on_gpu(device),
    )


def learns_on_gpu(device: str | torch.device) -> bool:
    """Whether learning there goes on beside this process."""
    return torch.device(device).type != "cpu"


class LocalLearner(Learner):
    """Learns in this process, from the transitions of the trains that its policy drives.

    Args:
        config: the whole configuration.
        feature_set: what observations hold.
        index: number of the policy; its random streams derive from it.
        device: where the policy lives and learns. On a GPU there is a copy of the replay buffer, too; what acts is on
            the CPU.

    Raises:
        DeviceError: the device fails, or has too little memory for networks and batches.
        ReplayBufferError: it has too little memory for the replay buffer.
    """

    buffer: ReplayBuffer

    def __init__(self, config: TrainingConfig, feature_set: FeatureSet, index: int, device: str | torch.device) -> None:
        with on_device(device):
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
        self._renew_every = config.broadcast_every
        self._gpu: _OnGpu | None = None
        if learns_on_gpu(device):
            with on_device(device):
                self._gpu = _OnGpu(GraphedStep(self.policy, self.buffer), ActingCopy(self.policy))
                self._gpu.step.rehearse(config.batch_size)
                self._back_up()

    @property
    def learning_steps(self) -> int:
        return self.policy.learning_steps

    @property
    def newest_weights(self) -> tuple[int, npt.NDArray[np.float32]]:
        if self._gpu is not None:
            return self._gpu.acting.newest
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
        # those bring no learning steps
        filling = 0 if self.buffer.is_full else max(0, self._size_to_learn - len(self.buffer))
        self.buffer.add(rows)
        n = max(0, rows.n_transitions - filling)
        self.transitions_to_learn_from += n
        self._n_to_learn_from += n

    def learn(self) -> None:
        if not self._has_enough:
            self.transitions_to_learn_from = 0
            self._n_to_learn_from = 0
        now = self._hyperparameters
        while self.transitions_to_learn_from >= now.update_every:
            self.transitions_to_learn_from -= now.update_every
            drawn = now.batch_size, now.reward_weights, now.n_step
            if self._gpu is None:
                self.losses.append(self.policy.learn(self.buffer.sample(*drawn)))
            else:
                self.losses.append(self._gpu.step.learn(*drawn))
                self._after_step_on_gpu(self._gpu)
            self._n_learned_from += now.batch_size

    def _after_step_on_gpu(self, gpu: "_OnGpu") -> None:
        if self.learning_steps % self._renew_every == 0:
            gpu.acting.renew()
        if self.learning_steps % BACKUP_EVERY == 0:
            self._back_up()

    def _back_up(self) -> None:
        assert self._gpu is not None
        self._gpu.backup = copied_to_cpu(self._state())

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
        if self._gpu is not None:
            self._gpu.acting.begin_again()
            self._back_up()

    def lose_device(self) -> None:
        if self._gpu is not None:
            self._gpu.is_lost = True
            self.losses.clear()

    def state_dict(self) -> dict[str, Any]:
        if self._gpu is None:
            return self._state()
        if not self._gpu.is_lost:
            self._back_up()
        return self._gpu.backup

    def _state(self) -> dict[str, Any]:
        acting = {} if self._gpu is None else {"acting": self._gpu.acting.state_dict()}
        return {
            **self.policy.state_dict(),
            **acting,
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
        if self._gpu is not None:
            self._gpu.acting.load_state_dict(state.get("acting", []))
            self._back_up()


@dataclass
class _OnGpu:
    """What a learner has beside its policy and its replay buffer where it learns on a GPU."""

    step: GraphedStep
    acting: ActingCopy
    backup: dict[str, Any] = field(default_factory=dict)  # the learner's state on the CPU, of some time ago
    is_lost: bool = False  # the GPU has failed, and nothing on it can be read


def copied_to_cpu(value: Any) -> Any:
    """Values of a state, with a copy on the CPU of each tensor."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied_to_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [copied_to_cpu(entry) for entry in value]
    return copy.deepcopy(value)
