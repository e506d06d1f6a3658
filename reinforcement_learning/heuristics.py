"""Rule-based policies behind the same protocol as learned ones: the least that a trained policy should beat."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reinforcement_learning.dddqn_policy import random_possible_actions
from reinforcement_learning.policy import Policy
from utils.observation_utils import Observer, get_feature_set

# rules look at the possible moves and where they lead, which this feature set holds
_FEATURE_SET = get_feature_set("tree_timetable")
_DISTANCE_CHANGES = [
    _FEATURE_SET.feature_names.index(f"{move}_distance_change") for move in ("left", "forward", "right")
]
_FIRST_MOVE, _FORWARD = 1, 2

Observations = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]
Actions = npt.NDArray[np.int64]
Epsilon = float | npt.NDArray[np.float64]


class RandomPolicy:
    """Each possible action equally likely."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def act(self, observations: Observations, action_mask: Masks, epsilon: Epsilon = 0.0) -> Actions:
        """See :class:`~reinforcement_learning.policy.Policy`; ``epsilon`` makes no difference."""
        return random_possible_actions(action_mask, self._random)


class DoNothingPolicy:
    """No train ever departs. Random play scores worse, which is why a score alone says little."""

    def act(self, observations: Observations, action_mask: Masks, epsilon: Epsilon = 0.0) -> Actions:
        """See :class:`~reinforcement_learning.policy.Policy`; ``epsilon`` makes no difference."""
        return np.zeros(len(observations), dtype=np.int64)


class ForwardPolicy:
    """Forward wherever that is possible, else the first possible move."""

    def act(self, observations: Observations, action_mask: Masks, epsilon: Epsilon = 0.0) -> Actions:
        """See :class:`~reinforcement_learning.policy.Policy`; ``epsilon`` makes no difference."""
        first = _FIRST_MOVE + action_mask[:, _FIRST_MOVE:].argmax(axis=1)
        return np.where(action_mask[:, _FORWARD], _FORWARD, first)


class ShortestPathPolicy:
    """Every train departs at once and takes its shortest path, whoever is in the way."""

    def act(self, observations: Observations, action_mask: Masks, epsilon: Epsilon = 0.0) -> Actions:
        """See :class:`~reinforcement_learning.policy.Policy`; ``epsilon`` makes no difference."""
        moves = action_mask[:, _FIRST_MOVE : _FIRST_MOVE + 3]
        changes = np.where(moves, observations[:, _DISTANCE_CHANGES], np.inf)
        return _FIRST_MOVE + changes.argmin(axis=1)


RULE_BASED: dict[str, Callable[[int], Policy]] = {
    "random": RandomPolicy,
    "do_nothing": lambda seed: DoNothingPolicy(),
    "forward": lambda seed: ForwardPolicy(),
    "shortest_path": lambda seed: ShortestPathPolicy(),
}


def rule_based_policy(name: str, seed: int = 0) -> tuple[Policy, Observer]:
    """A rule-based policy by its name, and the observer that goes with it.

    Raises:
        KeyError: there is no rule of that name in :data:`RULE_BASED`.
    """
    return RULE_BASED[name](seed), Observer(_FEATURE_SET)
