"""The actor that learns: a learner with its replay buffer, on its device."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.learner import LocalLearner, copied_to_cpu
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
    losses: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))  # of the newest steps
    seconds: float = 0.0  # that those have taken


class LearnerActor:
    """A ``LocalLearner`` in an actor of its own. It answers one call after the other.

    Args:
        config: the whole configuration.
        index: number of the policy.
        device: where it learns.
    """

    def __init__(self, config: TrainingConfig, index: int, device: str) -> None:
        torch.set_num_threads(config.num_threads)
        self._learner = LocalLearner(config, feature_set_of(config), index, device)

    def learn(self, rows: EpisodeRows, progress: float) -> LearnerReport:
        """Takes over rows and takes the learning steps that are due for them.

        ``progress`` is the share of the training's episodes that are over.
        """
        started = time.perf_counter()
        self._learner.progress = progress
        self._learner.add(rows)
        self._learner.learn()
        return self.report(started)

    def report(self, started: float = 0.0) -> LearnerReport:
        """How far it is; losses come once."""
        learner = self._learner
        losses = torch.stack(learner.losses).cpu().numpy() if learner.losses else np.empty(0, np.float32)
        learner.losses.clear()
        return LearnerReport(
            learner.learning_steps,
            learner.buffer.n_added,
            len(learner.buffer),
            learner.replay_ratio,
            losses,
            time.perf_counter() - started if started else 0.0,
        )

    def weights(self) -> tuple[int, npt.NDArray[np.float32]]:
        """The learning steps so far, and what the policy plays with now."""
        return self._learner.learning_steps, self._learner.policy.acting_weights()

    def state(self) -> dict[str, Any]:
        """Its part of a checkpoint, on the CPU."""
        state: dict[str, Any] = copied_to_cpu(self._learner.state_dict())
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._learner.load_state_dict(state)

    def tune(self, hyperparameters: Hyperparameters) -> None:
        """Learns with these from now on."""
        self._learner.hyperparameters = hyperparameters

    def buffer_content(self) -> SavedReplayBuffer:
        """All transitions in its replay buffer."""
        return self._learner.buffer.content()

    def take_over_buffer(self, content: SavedReplayBuffer) -> None:
        """Goes on with the transitions of another learner."""
        self._learner.buffer.take_over(content)

    def save_buffer(self, path: str) -> None:
        """Saves the replay buffer into a file on this machine."""
        self._learner.buffer.save(path)

    def restore_buffer(self, path: str) -> LearnerReport:
        """Takes over a saved replay buffer, a file on this machine."""
        self._learner.buffer.restore(path)
        return self.report()
