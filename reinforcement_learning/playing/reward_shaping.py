"""Rewards to learn from. The environment's own are sparse: nothing happens until a train arrives or time is up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.simulator.rail_state import RailState

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Weight = float | Floats


@dataclass(frozen=True)
class RewardWeights:
    """Weights of the terms that are added to the environment's reward.

    Potential-based shaping (Ng, Harada, Russell 1999) adds ``gamma * potential(next) - potential(now)`` at each step.
    It speeds learning up without changing which policy is best, as long as the potential after the end is 0.
    A number holds for all trains; an array ``[trains]`` has a weight for each.
    """

    gamma: Weight
    shaping: Weight
    arrival_reward: Weight
    deadlock_penalty: Weight
    team_reward: Weight = 0.0  # of each other train's rewards, so that it pays to let others pass

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


@dataclass(frozen=True)
class StepOfTrains:
    """What a step has done to trains: what a reward to learn from is made of.

    Arrays have a value for each train: ``[trains]``, or ``[slots, trains]`` of levels side by side. Read only.
    """

    rewards: Floats  # the environment's own; divided by max_episode_steps they weigh the same on levels of all lengths
    remaining_before: Floats  # steps to the target by all stops, without other trains; inf where there is no way
    remaining: Floats  # the same, after the step
    newly_departed: Bools  # entered the map
    newly_arrived: Bools
    newly_deadlocked: Bools  # can never move again
    actions: npt.NDArray[np.int64]  # 0 to 4, as they were chosen
    episode_over: bool | Bools  # [slots, 1]
    max_episode_steps: int | npt.NDArray[np.int64]  # [slots, 1]


@dataclass(frozen=True)
class TrainStep(StepOfTrains):
    """A step of the trains of one level; arrays are ``[trains]``."""

    state: RailState  # after the step


LearningReward = Callable[[TrainStep], npt.NDArray[np.float64]]
"""Gives each train's reward to learn from, ``[trains]``."""


def shaped_reward(step: StepOfTrains, weights: RewardWeights) -> Floats:
    """The kit's own reward to learn from, for each train.

    The environment's reward is divided by ``max_episode_steps``, as the official score does, so that levels of all
    lengths weigh the same: what a train can lose in an episode is about 1.
    """
    scale = 1.0 / step.max_episode_steps
    potential_before = _potential(step.remaining_before, scale, weights)
    potential = np.where(step.episode_over, 0.0, _potential(step.remaining, scale, weights))
    reward: Floats = step.rewards * scale + weights.gamma * potential - potential_before
    reward += weights.arrival_reward * step.newly_arrived - weights.deadlock_penalty * step.newly_deadlocked
    return reward


def _potential(remaining: Floats, scale: float | Floats, weights: RewardWeights) -> Floats:
    """Minus the remaining travel time, as a share of the episode; unreachable counts as all of it."""
    potential: Floats = -weights.shaping * np.minimum(remaining * scale, 1.0)
    return potential


class LearningRewards:
    """The rewards that are learned from, for episodes played side by side.

    Args:
        weights: the weights, unless an episode brings its own.
        n_slots, n_trains: shape of all arrays.
        own_reward: a user's, in place of :func:`shaped_reward`; ``team_reward`` still shares it out.
    """

    def __init__(
        self,
        weights: RewardWeights,
        n_slots: int,
        n_trains: int,
        own_reward: LearningReward | None = None,
    ) -> None:
        self._default = weights
        self._own_reward = own_reward
        self._weights = for_each(lambda _: np.zeros((n_slots, n_trains)), weights)

    def start(self, slot: int, weights: RewardWeights | None = None) -> None:
        """Begins an episode."""
        for name, value in vars(weights or self._default).items():
            getattr(self._weights, name)[slot] = value

    @property
    def in_a_team(self) -> Bools:
        """Which trains have a share in the rewards of others, ``[slots, trains]``: their task ends with the episode."""
        return np.asarray(self._weights.team_reward) > 0.0

    def step(self, step: StepOfTrains, states: Mapping[int, RailState]) -> Floats:
        """The rewards of one step, ``[slots, trains]``.

        Args:
            step: of all slots.
            states: of the levels in play, by slot.
        """
        if self._own_reward is None:
            rewards = shaped_reward(step, self._weights)
        else:
            rewards = np.zeros(step.rewards.shape)
            for slot, state in states.items():
                rewards[slot, : state.n_trains] = self._own_reward(_of_slot(step, slot, state))
        if self.in_a_team.any():
            rewards += self._weights.team_reward * (rewards.sum(axis=1, keepdims=True) - rewards)
        return rewards


def _of_slot(step: StepOfTrains, slot: int, state: RailState) -> TrainStep:
    # a copy: whatever a user's code does to it, the episode goes on as it was
    arrays = {name: value[slot, : state.n_trains].copy() for name, value in vars(step).items()}
    arrays["episode_over"] = bool(arrays["episode_over"][0])
    arrays["max_episode_steps"] = state.max_episode_steps
    return TrainStep(**arrays, state=state)
