"""A learner that lives in a process of its own or in an actor: what it does there, and what it is here."""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.learner import Learner, LocalLearner, StoredTransitions, copied_to_cpu
from reinforcement_learning.learning.saved_replay_buffer import SavedReplayBuffer
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.features import feature_set_of


@dataclass(frozen=True)
class LearnerReport:
    """How far a learner is."""

    learning_steps: int = 0
    n_added: int = 0  # transitions, over the whole life of its replay buffer
    n_stored: int = 0
    replay_ratio: float = math.nan
    losses: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))  # since the last report
    seconds: float = 0.0  # spent on learning since the last report


class HostedLearner(LocalLearner):
    """A ``LocalLearner`` with methods that take and give what can be sent. It does one thing after the other.

    Args:
        config: the whole configuration.
        index: number of the policy.
        device: where it learns.
    """

    def __init__(self, config: TrainingConfig, index: int, device: str) -> None:
        torch.set_num_threads(config.num_threads)
        super().__init__(config, feature_set_of(config), index, device)
        self._seconds = 0.0
        self._given: npt.NDArray[np.float32] | None = None  # the newest weights that were given

    def add(self, rows: EpisodeRows) -> None:
        with self._timed():
            super().add(rows)

    def learn(self) -> None:
        with self._timed():
            super().learn()

    def set_progress(self, progress: float) -> None:
        """Takes note of the share of the training's episodes that are over."""
        self.progress = progress

    def learn_from(self, rows: EpisodeRows, progress: float) -> LearnerReport:
        """All of that in one call."""
        self.set_progress(progress)
        self.add(rows)
        self.learn()
        return self.report()

    def report(self) -> LearnerReport:
        """How far it is; losses come once. A GPU is waited for."""
        with self._timed():
            losses = torch.stack(self.losses).cpu().numpy() if self.losses else np.empty(0, np.float32)
        self.losses.clear()
        seconds, self._seconds = self._seconds, 0.0
        n_added, n_stored = self.buffer.n_added, len(self.buffer)
        return LearnerReport(self.learning_steps, n_added, n_stored, self.replay_ratio, losses, seconds)

    def weights(self) -> tuple[int, npt.NDArray[np.float32]]:
        """The learning steps so far, and what the policy plays with now."""
        return self.learning_steps, self.policy.acting_weights()

    def new_weights(self) -> tuple[int, npt.NDArray[np.float32]] | None:
        """What ``Learner.newest_weights`` tells; None where that is what it told at the last call."""
        newest = self.newest_weights
        if newest[1] is self._given:
            return None
        self._given = newest[1]
        return newest

    def state(self) -> dict[str, Any]:
        """Its part of a checkpoint, on the CPU."""
        state: dict[str, Any] = copied_to_cpu(self.state_dict())
        return state

    def tune(self, hyperparameters: Hyperparameters) -> None:
        """Learns with these from now on."""
        self.hyperparameters = hyperparameters

    def buffer_content(self) -> SavedReplayBuffer:
        """All transitions in its replay buffer."""
        return self.buffer.content()

    def take_over_buffer(self, content: SavedReplayBuffer) -> None:
        """Goes on with the transitions of another learner."""
        self.buffer.take_over(content)

    def save_buffer(self, path: str) -> None:
        """Saves the replay buffer into a file on this machine."""
        self.buffer.save(path)

    def restore_buffer(self, path: str) -> LearnerReport:
        """Takes over a saved replay buffer, a file on this machine."""
        self.buffer.restore(path)
        return self.report()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - started


class LearnerElsewhere(Learner):
    """Has a :class:`HostedLearner` elsewhere do the work."""

    report: LearnerReport  # how far it is
    buffer: "BufferElsewhere"
    _hyperparameters: Hyperparameters

    @abstractmethod
    def tell(self, method: str, *arguments: Any, done: Callable[[Any], None] = lambda value: None) -> None:
        """Has a method called there, and does not wait; ``done`` gets what it gives, once that is known here."""

    @property
    def learning_steps(self) -> int:
        return self.report.learning_steps

    @property
    def replay_ratio(self) -> float:
        return self.report.replay_ratio

    @property
    def hyperparameters(self) -> Hyperparameters:
        return self._hyperparameters

    @hyperparameters.setter
    def hyperparameters(self, values: Hyperparameters) -> None:
        self._hyperparameters = values
        self.tell("tune", values)

    @abstractmethod
    def save_buffer(self, path: str) -> None:
        """See :meth:`BufferElsewhere.save`."""

    @abstractmethod
    def restore_buffer(self, path: str) -> None:
        """See :meth:`BufferElsewhere.restore`."""


class BufferElsewhere(StoredTransitions):
    """The replay buffer of a learner elsewhere; its files are written and read there."""

    def __init__(self, learner: LearnerElsewhere) -> None:
        self._learner = learner

    @property
    def n_added(self) -> int:
        return self._learner.report.n_added

    def __len__(self) -> int:
        return self._learner.report.n_stored

    def save(self, path: str | Path) -> None:
        self._learner.save_buffer(str(path))

    def restore(self, path: str | Path) -> None:
        self._learner.restore_buffer(str(path))
