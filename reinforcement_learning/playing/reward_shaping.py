"""Rewards to learn from. The environment's own are sparse: nothing happens until a train arrives or time is up."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Weight = float | npt.NDArray[np.float64]


@dataclass(frozen=True)
class RewardShaping:
    """Weights of the terms that are added to the environment's reward.

    Potential-based shaping (Ng, Harada, Russell 1999) adds ``gamma * potential(next) - potential(now)`` at each step.
    It speeds learning up without changing which policy is best, as long as the potential after the end is 0.
    A number holds for all trains; an array ``[trains]`` has a weight for each.
    """

    gamma: Weight
    shaping: Weight = 1.0
    arrival_reward: Weight = 1.0
    deadlock_penalty: Weight = 0.5


class LearningRewards:
    """Turns the environments' rewards into those that are learned from, for episodes played side by side.

    The environment's reward is divided by ``max_episode_steps``, as the official score does, so that levels of all
    lengths weigh the same: what a train can lose in an episode is about 1.

    Args:
        shaping: the weights, unless an episode brings its own.
        n_slots, n_trains: shape of all arrays.
        team_reward: weight of each other train's rewards, so that it pays to let others pass.
    """

    def __init__(self, shaping: RewardShaping, n_slots: int, n_trains: int, team_reward: float = 0.0) -> None:
        self._default = shaping
        self._team_reward = team_reward
        shape = (n_slots, n_trains)
        self._gamma, self._shaping, self._arrival_reward, self._deadlock_penalty = (np.zeros(shape) for _ in range(4))
        self._scale = np.zeros((n_slots, 1))
        self._potential = np.zeros(shape)

    def start(
        self,
        env: int,
        max_episode_steps: int,
        remaining: npt.NDArray[np.float64],
        shaping: RewardShaping | None = None,
    ) -> None:
        """Begins an episode with the remaining travel times ``[trains]``, in steps."""
        weights = shaping or self._default
        self._gamma[env] = weights.gamma
        self._shaping[env] = weights.shaping
        self._arrival_reward[env] = weights.arrival_reward
        self._deadlock_penalty[env] = weights.deadlock_penalty
        self._scale[env] = 1.0 / max_episode_steps
        self._potential[env] = self._potential_of(remaining[np.newaxis], env)

    def _potential_of(
        self, remaining: npt.NDArray[np.float64], envs: int | slice = slice(None)
    ) -> npt.NDArray[np.float64]:
        """Minus the remaining travel time, as a share of the episode; unreachable counts as all of it."""
        return -self._shaping[envs] * np.minimum(remaining * self._scale[envs], 1.0)

    def step(
        self,
        rewards: npt.NDArray[np.float64],
        remaining: npt.NDArray[np.float64],
        newly_arrived: npt.NDArray[np.bool_],
        newly_deadlocked: npt.NDArray[np.bool_],
        episode_over: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float64]:
        """The rewards of one step; all arrays are ``[envs, trains]`` but ``episode_over`` ``[envs]``."""
        potential = self._potential_of(remaining)
        potential[episode_over] = 0.0
        shaped = rewards * self._scale + self._gamma * potential - self._potential
        shaped += self._arrival_reward * newly_arrived - self._deadlock_penalty * newly_deadlocked
        self._potential = potential
        if self._team_reward > 0.0:
            shaped += self._team_reward * (shaped.sum(axis=1, keepdims=True) - shaped)
        return shaped
