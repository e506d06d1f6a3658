"""Rewards to learn from. The environment's own are sparse: nothing happens until a train arrives or time is up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from utils.simulator.rail_state import RailState

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

REWARD, ARRIVAL, DEADLOCK, POTENTIAL = range(4)
"""What a step brings a train, see :func:`parts_of_step`."""


@dataclass(frozen=True)
class RewardWeights:
    """Weights of the terms that are added to the environment's reward.

    Potential-based shaping (Ng, Harada, Russell 1999) adds ``gamma * potential(next) - potential(now)`` at each step.
    It speeds learning up without changing which policy is best, as long as the potential after the end is 0.
    """

    gamma: float
    shaping: float
    arrival_reward: float
    deadlock_penalty: float
    team_reward: float = 0.0  # of each other train's rewards, so that it pays to let others pass


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
    shaping = weights.gamma * _potential_after(step) - potential(step.remaining_before, step.max_episode_steps)
    reward: Floats = step.rewards / step.max_episode_steps + weights.shaping * shaping
    reward += weights.arrival_reward * step.newly_arrived - weights.deadlock_penalty * step.newly_deadlocked
    return reward


def parts_of_step(
    step: StepOfTrains, states: Mapping[int, RailState], own_reward: LearningReward | None = None
) -> Floats:
    """What :func:`shaped_reward` adds up, before any weights: ``[slots, 4, trains]``.

    ``REWARD`` is a share of the episode, ``ARRIVAL`` and ``DEADLOCK`` are 1 where there is one, ``POTENTIAL`` is that
    after the step.

    Args:
        step: of all slots.
        states: of the levels in play, by slot.
        own_reward: a user's, in place of the environment's.
    """
    rewards = step.rewards / step.max_episode_steps
    if own_reward is not None:
        rewards = np.zeros(step.rewards.shape)
        for slot, state in states.items():
            rewards[slot, : state.n_trains] = own_reward(_of_slot(step, slot, state))
    return np.stack([rewards, step.newly_arrived, step.newly_deadlocked, _potential_after(step)], axis=1)


def potential(remaining: Floats, max_episode_steps: int | npt.NDArray[np.int64]) -> Floats:
    """Minus the remaining travel time, as a share of the episode; unreachable counts as all of it."""
    found: Floats = -np.minimum(remaining / max_episode_steps, 1.0)
    return found


def _potential_after(step: StepOfTrains) -> Floats:
    return np.where(step.episode_over, 0.0, potential(step.remaining, step.max_episode_steps))


def _of_slot(step: StepOfTrains, slot: int, state: RailState) -> TrainStep:
    # a copy: whatever a user's code does to it, the episode goes on as it was
    arrays = {name: value[slot, : state.n_trains].copy() for name, value in vars(step).items()}
    arrays["episode_over"] = bool(arrays["episode_over"][0])
    arrays["max_episode_steps"] = state.max_episode_steps
    return TrainStep(**arrays, state=state)
