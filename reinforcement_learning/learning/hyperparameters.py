"""Hyper-parameters: what may differ between policies that are trained together, and change while they train.

A replay buffer holds rewards in parts. Weights, ``gamma`` and ``n_step`` put them together whenever a batch is drawn,
so new values hold at once for everything that is stored.
"""

from dataclasses import dataclass, fields

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
        replaced = ("shaping", "arrival_reward", "deadlock_penalty") if config.learning_reward else ()
        given = {row.name: getattr(config, row.name) for row in fields(cls) if row.name != "epsilon_scale"}
        return cls(epsilon_scale=1.0, **given | dict.fromkeys(replaced, 0.0))

    @property
    def reward_weights(self) -> RewardWeights:
        """What the rewards that are learned from are made of."""
        return RewardWeights(self.gamma, self.shaping, self.arrival_reward, self.deadlock_penalty, self.team_reward)
