"""Who drives the trains of a training episode, and on what terms: the same whichever process asks."""

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
from reinforcement_learning.playing.train_settings import Crew
from reinforcement_learning.settings.config import TrainingConfig
from utils.simulator.rail_state import RailState


class Crews:
    """Makes the crew of every training episode from its number and its level.

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

    def crew(self, episode: int, level: RailState, terms: Sequence[Hyperparameters]) -> Crew:
        """Who drives the trains of a training episode.

        Args:
            episode: its number.
            level: the level and its trains as they are at the start.
            terms: how each policy learns and explores now.

        Raises:
            MappingError: a user's mapping gives something that is none.
        """
        n_policies = self.mapping.n_policies
        drivers = self.mapping.drivers(episode, level)
        epsilons = [self.epsilon(terms[p], episode, level.n_trains) for p in range(n_policies)]

        def of_trains(values: list[float]) -> npt.NDArray[np.float64]:
            return np.array(values, dtype=np.float64)[drivers]

        return Crew(
            epsilon=of_trains(epsilons),
            drivers=self.past_selves.replace_some(episode, drivers, n_policies),
            shaping=RewardShaping(
                gamma=of_trains([term.gamma for term in terms]),
                shaping=of_trains([term.shaping for term in terms]),
                arrival_reward=of_trains([term.arrival_reward for term in terms]),
                deadlock_penalty=of_trains([term.deadlock_penalty for term in terms]),
            ),
            n_step=np.array([term.n_step for term in terms], dtype=np.int64)[drivers],
        )

    def epsilon(self, terms: Hyperparameters, episode: int, n_trains: int) -> float:
        """The share of random actions of a policy with these terms in a training episode.

        The schedule counts the episodes in which a policy drives. Where an environment has fewer places for policies
        than there are policies, each drives in that share of the episodes only.
        """
        n_policies = self.mapping.n_policies
        places = n_trains if self.mapping.mixed else 1
        own_episode = episode * min(places, n_policies) // n_policies
        return min(1.0, terms.epsilon_scale * self._epsilon(own_episode))


def learning_of(config: TrainingConfig, sink: TransitionSink) -> Learning:
    """What a rollout that is learned from needs; no crew's ``n_step`` will ever be larger than its own."""
    shaping = RewardShaping(config.gamma, config.shaping, config.arrival_reward, config.deadlock_penalty)
    n_step = max(config.n_step, int(BOUNDS["n_step"][1]) if config.with_pbt else 1)
    return Learning(sink, shaping, n_step, config.team_reward)
