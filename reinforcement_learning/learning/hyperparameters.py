"""Hyper-parameters: what may differ between policies that are trained together, and change while they train.

A replay buffer holds rewards in parts. Weights, ``gamma`` and ``n_step`` put them together whenever a batch is drawn,
so new values hold at once for everything that is stored.
"""

from dataclasses import dataclass

from reinforcement_learning.playing.reward_shaping import RewardWeights
from reinforcement_learning.settings.config import TrainingConfig


@dataclass(frozen=True)
class Hyperparameters:
    """How one policy learns and explores; the meanings are those of the options of the same names."""

    learning_rate: float
    tau: float
    epsilon_scale: float  # factor on the share of random actions that the schedule gives
    n_step: int
    gamma: float
    shaping: float
    arrival_reward: float
    deadlock_penalty: float
    batch_size: int
    update_every: int
    advantage_learning: float
    team_reward: float

    @classmethod
    def of(cls, config: TrainingConfig) -> "Hyperparameters":
        """The hyper-parameters that the command line gives to every policy; of weights that a reward replaces, 0."""
        weight = 0.0 if config.learning_reward else 1.0
        return cls(
            learning_rate=config.learning_rate,
            tau=config.tau,
            epsilon_scale=1.0,
            n_step=config.n_step,
            gamma=config.gamma,
            shaping=weight * config.shaping,
            arrival_reward=weight * config.arrival_reward,
            deadlock_penalty=weight * config.deadlock_penalty,
            batch_size=config.batch_size,
            update_every=config.update_every,
            advantage_learning=config.advantage_learning,
            team_reward=config.team_reward,
        )

    @property
    def reward_weights(self) -> RewardWeights:
        """What the rewards that are learned from are made of."""
        return RewardWeights(self.gamma, self.shaping, self.arrival_reward, self.deadlock_penalty, self.team_reward)
