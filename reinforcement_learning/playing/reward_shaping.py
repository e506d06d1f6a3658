"""Rewards to learn from. The environment's own are sparse: nothing happens until a train arrives or time is up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Weight = float | npt.NDArray[np.float64]


@dataclass(frozen=True)
class RewardWeights:
    """Weights of the terms that are added to the environment's reward.

    Potential-based shaping (Ng, Harada, Russell 1999) adds ``gamma * potential(next) - potential(now)`` at each step.
    It speeds learning up without changing which policy is best, as long as the potential after the end is 0.
    A number holds for all trains; an array ``[trains]`` has a weight for each.
    """

    gamma: Weight
    shaping: Weight = 1.0
    arrival_reward: Weight = 1.0
    deadlock_penalty: Weight = 0.5

    @classmethod
    def of_trains(
        cls, weights_of_policies: Sequence["RewardWeights"], policy_of_train: npt.NDArray[np.int64]
    ) -> "RewardWeights":
        """For each train those of its policy."""
        columns = zip(*(vars(weights).values() for weights in weights_of_policies), strict=True)
        return cls(*(np.array(column, dtype=np.float64)[policy_of_train] for column in columns))


def for_each(change: Callable[[Any], Any], weights: RewardWeights) -> RewardWeights:
    """The weights with each of them changed."""
    return RewardWeights(**{name: change(value) for name, value in vars(weights).items()})


class LearningRewards:
    """Turns the environments' rewards into those that are learned from, for episodes played side by side.

    The environment's reward is divided by ``max_episode_steps``, as the official score does, so that levels of all
    lengths weigh the same: what a train can lose in an episode is about 1.

    Args:
        weights: the weights, unless an episode brings its own.
        n_slots, n_trains: shape of all arrays.
        team_reward: weight of each other train's rewards, so that it pays to let others pass.
    """

    def __init__(self, weights: RewardWeights, n_slots: int, n_trains: int, team_reward: float = 0.0) -> None:
        self._default = weights
        self._team_reward = team_reward
        shape = (n_slots, n_trains)
        self._weights = for_each(lambda _: np.zeros(shape), weights)
        self._scale = np.zeros((n_slots, 1))
        self._potential = np.zeros(shape)

    def start(
        self,
        slot: int,
        max_episode_steps: int,
        remaining: npt.NDArray[np.float64],
        weights: RewardWeights | None = None,
    ) -> None:
        """Begins an episode with the remaining travel times ``[trains]``, in steps."""
        for name, value in vars(weights or self._default).items():
            getattr(self._weights, name)[slot] = value
        self._scale[slot] = 1.0 / max_episode_steps
        self._potential[slot] = self._potential_of(remaining[np.newaxis], slot)

    def _potential_of(
        self, remaining: npt.NDArray[np.float64], slots: int | slice = slice(None)
    ) -> npt.NDArray[np.float64]:
        """Minus the remaining travel time, as a share of the episode; unreachable counts as all of it."""
        shaping = np.asarray(self._weights.shaping)[slots]
        return -shaping * np.minimum(remaining * self._scale[slots], 1.0)

    def step(
        self,
        rewards: npt.NDArray[np.float64],
        remaining: npt.NDArray[np.float64],
        newly_arrived: npt.NDArray[np.bool_],
        newly_deadlocked: npt.NDArray[np.bool_],
        episode_over: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float64]:
        """The rewards of one step; all arrays are ``[slots, trains]`` but ``episode_over`` ``[slots]``."""
        potential = self._potential_of(remaining)
        potential[episode_over] = 0.0
        weights = self._weights
        shaped = rewards * self._scale + weights.gamma * potential - self._potential
        shaped += weights.arrival_reward * newly_arrived - weights.deadlock_penalty * newly_deadlocked
        self._potential = potential
        if self._team_reward > 0.0:
            shaped += self._team_reward * (shaped.sum(axis=1, keepdims=True) - shaped)
        return shaped
