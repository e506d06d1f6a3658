"""What a training is compared with beside the rules on board: those who show it how to drive.

python reinforcement_learning/evaluate_agent.py -e 1 --policy benchmarks.learning.peers:Plan
"""

import numpy as np

from reinforcement_learning.dddqn_policy import random_possible_actions
from reinforcement_learning.playing.policy import ActionMasks, Actions, Epsilon, Observations, Policy
from reinforcement_learning.settings.config import TrainingConfig
from utils.observation.feature_sets import get_feature_set
from utils.observation.route_features import least_detour_actions

_FEATURES = get_feature_set("tree_plan")
_PLANNED_ACTIONS = [
    _FEATURES.feature_names.index(f"plan_{action}") for action in ("do_nothing", "left", "forward", "right", "stop")
]


class Plan(Policy):
    """Follows the plan that is among the features, the teacher of ``--demonstrations``; else the least detour."""

    feature_set = _FEATURES.name

    def act(self, observations: Observations, action_mask: ActionMasks, epsilon: Epsilon = 0.0) -> Actions:
        planned = (observations[:, _PLANNED_ACTIONS] > 0.0) & action_mask
        least_detour = least_detour_actions(observations[:, _FEATURES.route_features], action_mask)
        return np.where(planned.any(axis=1), planned.argmax(axis=1), least_detour)


class Guide(Policy):
    """Explores all the time as a new training does: the guide's way or a random action, among safe moves.

    Args:
        seed: of the level.
    """

    feature_set = _FEATURES.name

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def act(self, observations: Observations, action_mask: ActionMasks, epsilon: Epsilon = 0.0) -> Actions:
        guided = self._random.random(len(observations)) < TrainingConfig.guided_exploration
        least_detour = least_detour_actions(observations[:, _FEATURES.route_features], action_mask)
        return np.where(guided, least_detour, random_possible_actions(action_mask, self._random))
