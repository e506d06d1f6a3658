"""The policies that are trained together: who drives which train, and who learns from what. One policy is a case."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reinforcement_learning.config import TrainingConfig
from reinforcement_learning.crew import Crew
from reinforcement_learning.dddqn_policy import GreedyPolicy
from reinforcement_learning.exploration import EpsilonSchedule
from reinforcement_learning.learner import Learner
from reinforcement_learning.multi_policy.modes import make_mapping
from reinforcement_learning.policy import Policy
from reinforcement_learning.reward_shaping import RewardShaping
from reinforcement_learning.transitions import Transitions
from utils.observation_utils import FeatureSet
from utils.rail_state import RailState


class Population:
    """``num_policies`` learners that share environments but nothing else.

    Args:
        config: the whole configuration.
        feature_set: what observations hold.
        devices: where each policy lives.
    """

    def __init__(
        self, config: TrainingConfig, feature_set: FeatureSet, devices: Sequence[str | torch.device] | None = None
    ) -> None:
        self.config = config
        self.mapping = make_mapping(config)
        self.learners = [
            Learner(config, feature_set, index, device)
            for index, device in enumerate(devices or ["cpu"] * config.num_policies)
        ]
        self._epsilon = EpsilonSchedule(config.eps_start, config.eps_end, config.eps_decay)
        self.policies: list[Policy] = [learner.policy for learner in self.learners]
        self.trains_driven = np.zeros(len(self.learners), dtype=np.int64)  # in finished episodes

    def __len__(self) -> int:
        return len(self.learners)

    # --- playing -------------------------------------------------------------------------------------------------

    def crew(self, episode: int, level: RailState) -> Crew:
        """Who drives the trains of a training episode, and on what terms.

        Raises:
            MappingError: a user's mapping gives something that is none.
        """
        drivers = self.mapping.drivers(episode, level)
        terms = [learner.hyperparameters for learner in self.learners]

        def of_trains(values: list[float]) -> npt.NDArray[np.float64]:
            return np.array(values, dtype=np.float64)[drivers]

        return Crew(
            epsilon=of_trains([self.epsilon(p, episode, level.n_trains) for p in range(len(self))]),
            drivers=drivers,
            shaping=RewardShaping(
                gamma=of_trains([term.gamma for term in terms]),
                shaping=of_trains([term.shaping for term in terms]),
                arrival_reward=of_trains([term.arrival_reward for term in terms]),
                deadlock_penalty=of_trains([term.deadlock_penalty for term in terms]),
            ),
            n_step=np.array([term.n_step for term in terms], dtype=np.int64)[drivers],
        )

    def epsilon(self, policy: int, episode: int, n_trains: int) -> float:
        """The share of random actions of a policy in a training episode.

        The schedule counts the episodes in which a policy drives. Where an environment has fewer places for policies
        than there are policies, each drives in that share of the episodes only.
        """
        places = n_trains if self.mapping.mixed else 1
        own_episode = episode * min(places, len(self)) // len(self)
        return min(1.0, self.learners[policy].hyperparameters.epsilon_scale * self._epsilon(own_episode))

    # --- learning ------------------------------------------------------------------------------------------------

    def add(self, transitions: Transitions) -> None:
        """Hands every transition to the learner whose policy has acted."""
        if len(self) == 1:
            self.learners[0].add(transitions)
            return
        for p in np.unique(transitions.drivers).tolist():
            self.learners[p].add(transitions.of_driver(p))

    def count(self, drivers: npt.NDArray[np.int64]) -> None:
        """Books who has driven the trains of a finished episode."""
        self.trains_driven += np.bincount(drivers, minlength=len(self))[: len(self)]

    def learn(self) -> None:
        """Takes the learning steps that are due."""
        for learner in self.learners:
            learner.learn()

    def forget_losses(self) -> None:
        """From here on losses belong to the next episode."""
        for learner in self.learners:
            learner.losses.clear()

    def evaluation_policies(self) -> list[GreedyPolicy]:
        """What each policy plays when it is evaluated; they keep up with further learning."""
        return [learner.policy.evaluation_policy() for learner in self.learners]

    # --- numbers -------------------------------------------------------------------------------------------------

    @property
    def n_transitions(self) -> int:
        """Transitions in all replay buffers."""
        return sum(len(learner.buffer) for learner in self.learners)

    @property
    def n_added(self) -> int:
        """Transitions collected so far."""
        return sum(learner.buffer.n_added for learner in self.learners)

    @property
    def learning_steps(self) -> int:
        """Learning steps of all policies so far."""
        return sum(learner.policy.learning_steps for learner in self.learners)

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed training needs but the content of the replay buffers."""
        return {
            "policies": [learner.state_dict() for learner in self.learners],
            "trains_driven": self.trains_driven.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state."""
        for learner, of_learner in zip(self.learners, state["policies"], strict=True):
            learner.load_state_dict(of_learner)
        self.trains_driven[:] = state["trains_driven"]
