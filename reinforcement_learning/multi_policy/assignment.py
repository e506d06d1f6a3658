"""Which policy drives which train of a training episode, and with what settings. Every process finds the same."""

from collections.abc import Sequence

import numpy as np

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.multi_policy.modes import make_mapping
from reinforcement_learning.multi_policy.past_selves import PastSelves
from reinforcement_learning.playing.episode_rows import RowSink
from reinforcement_learning.playing.own_reward import find_own_reward
from reinforcement_learning.playing.rollout import Learning
from reinforcement_learning.playing.train_settings import TrainSettings
from reinforcement_learning.settings.config import TrainingConfig
from utils.simulator.rail_state import RailState
from utils.system.seeds import Stream, generator


class Assignment:
    """Makes the settings of all trains of every training episode from its number and its level.

    Attributes:
        mapping: which policy drives which train.
        past_selves: older copies that drive in place of some.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self.mapping = make_mapping(config)
        self.past_selves = PastSelves(config.partner_snapshot_prob, config.partner_snapshot_every, config.seed)

    def train_settings(
        self, episode: int, state: RailState, hyperparameters: Sequence[Hyperparameters]
    ) -> TrainSettings:
        """Who drives the trains of a training episode.

        Raises:
            ExtensionError: a user's mapping gives something that is none.
        """
        n_policies = self.mapping.n_policies
        policy_of_train = self.mapping.policy_of_train(episode, state)
        epsilons = [self.epsilon(own, episode, state.n_trains) for own in hyperparameters]
        gammas = [own.gamma for own in hyperparameters]
        in_teams = [own.team_reward > 0.0 for own in hyperparameters]
        return TrainSettings(
            epsilon=np.array(epsilons, dtype=np.float64)[policy_of_train],
            policy_of_train=self.past_selves.replace_some(episode, policy_of_train, n_policies),
            gamma=np.array(gammas, dtype=np.float64)[policy_of_train],
            in_a_team=np.array(in_teams)[policy_of_train],
            demonstration=self.is_demonstration(episode),
        )

    def is_demonstration(self, episode: int) -> bool:
        """Whether the plan plays an episode: the share of those falls in a straight line, to 0 at the end."""
        config = self._config
        share = config.demonstrations * (1.0 - episode / config.n_episodes)
        return share > 0.0 and generator(config.seed, Stream.DEMONSTRATIONS, episode).random() < share

    def epsilon(self, hyperparameters: Hyperparameters, episode: int, n_trains: int) -> float:
        """The share of random actions of a policy with these hyperparameters in a training episode.

        The schedule counts the episodes in which a policy drives. Where an environment has fewer places for policies
        than there are policies, each drives in that share of the episodes only.
        """
        n_policies = self.mapping.n_policies
        places = n_trains if self.mapping.mixed else 1
        own_episode = episode * min(places, n_policies) // n_policies
        config = self._config
        epsilon = max(config.eps_end, config.eps_start * config.eps_decay**own_episode)
        return min(1.0, hyperparameters.epsilon_scale * epsilon)


def learning_of(config: TrainingConfig, sink: RowSink) -> Learning:
    """What a rollout that is learned from needs.

    Raises:
        ExtensionError: the user's reward cannot be found.
    """
    own_reward = find_own_reward(config.learning_reward) if config.learning_reward else None
    return Learning(sink, own_reward, asks_plan=config.asks_plan)
