"""Which policy drives which train of a training episode, and with what settings: the same whichever process asks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.multi_policy.exchange import BOUNDS
from reinforcement_learning.multi_policy.exploration import EpsilonSchedule
from reinforcement_learning.multi_policy.modes import make_mapping
from reinforcement_learning.multi_policy.past_selves import PastSelves
from reinforcement_learning.playing.reward_shaping import RewardShaping
from reinforcement_learning.playing.rollout import Learning, TransitionSink
from reinforcement_learning.playing.train_settings import TrainSettings
from reinforcement_learning.settings.config import TrainingConfig
from utils.simulator.rail_state import RailState


class Assignment:
    """Makes the settings of all trains of every training episode from its number and its level.

    Args:
        config: the whole configuration.

    Attributes:
        mapping: which policy drives which train.
        past_selves: older copies that drive in place of some.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.mapping = make_mapping(config)
        self.past_selves = PastSelves(config.partner_snapshot_prob, config.partner_snapshot_every, config.seed)
        self._epsilon = EpsilonSchedule(config.eps_start, config.eps_end, config.eps_decay)

    def train_settings(
        self, episode: int, state: RailState, hyperparameters: Sequence[Hyperparameters]
    ) -> TrainSettings:
        """Who drives the trains of a training episode.

        Args:
            episode: its number.
            state: the level and its trains as they are at the start.
            hyperparameters: how each policy learns and explores now.

        Raises:
            MappingError: a user's mapping gives something that is none.
        """
        n_policies = self.mapping.n_policies
        policy_of_train = self.mapping.policy_of_train(episode, state)
        epsilons = [self.epsilon(hyperparameters[p], episode, state.n_trains) for p in range(n_policies)]

        def of_trains(values: list[float]) -> npt.NDArray[np.float64]:
            return np.array(values, dtype=np.float64)[policy_of_train]

        return TrainSettings(
            epsilon=of_trains(epsilons),
            policy_of_train=self.past_selves.replace_some(episode, policy_of_train, n_policies),
            shaping=RewardShaping(
                gamma=of_trains([own.gamma for own in hyperparameters]),
                shaping=of_trains([own.shaping for own in hyperparameters]),
                arrival_reward=of_trains([own.arrival_reward for own in hyperparameters]),
                deadlock_penalty=of_trains([own.deadlock_penalty for own in hyperparameters]),
            ),
            n_step=np.array([own.n_step for own in hyperparameters], dtype=np.int64)[policy_of_train],
        )

    def epsilon(self, hyperparameters: Hyperparameters, episode: int, n_trains: int) -> float:
        """The share of random actions of a policy with these hyperparameters in a training episode.

        The schedule counts the episodes in which a policy drives. Where an environment has fewer places for policies
        than there are policies, each drives in that share of the episodes only.
        """
        n_policies = self.mapping.n_policies
        places = n_trains if self.mapping.mixed else 1
        own_episode = episode * min(places, n_policies) // n_policies
        return min(1.0, hyperparameters.epsilon_scale * self._epsilon(own_episode))


def learning_of(config: TrainingConfig, sink: TransitionSink) -> Learning:
    """What a rollout that is learned from needs; no train will ever have a larger ``n_step``."""
    shaping = RewardShaping(config.gamma, config.shaping, config.arrival_reward, config.deadlock_penalty)
    n_step = max(config.n_step, int(BOUNDS["n_step"][1]) if config.with_pbt else 1)
    return Learning(sink, shaping, n_step, config.team_reward)
