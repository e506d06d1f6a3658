"""Rewards to learn from. The environment's own are sparse: nothing happens until a train arrives or time is up."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from utils.rail_state import RailState, remaining_travel_time


@dataclass(frozen=True)
class RewardShaping:
    """Weights of the terms that are added to the environment's reward.

    Potential-based shaping (Ng, Harada, Russell 1999) adds ``gamma * potential(next) - potential(now)`` at each step.
    It speeds learning up without changing which policy is best, as long as the potential after the end is 0.
    """

    gamma: float
    shaping: float = 1.0
    arrival_reward: float = 1.0
    deadlock_penalty: float = 0.5


class EpisodeRewards:
    """Turns the environment's rewards of one episode into those that are learned from.

    The environment's reward is divided by ``max_episode_steps``, as the official score does, so that levels of all
    lengths weigh the same: what a train can lose in an episode is about 1.
    """

    def __init__(self, shaping: RewardShaping, state: RailState) -> None:
        self._shaping = shaping
        self._scale = 1.0 / state.max_episode_steps
        self._potential = self._potential_of(state)

    def _potential_of(self, state: RailState) -> npt.NDArray[np.float64]:
        """Minus the remaining travel time ``[trains]``, as a share of the episode; unreachable counts as all of it."""
        return -self._shaping.shaping * np.minimum(remaining_travel_time(state) * self._scale, 1.0)

    def step(
        self,
        rewards: npt.NDArray[np.float64],
        state: RailState,
        newly_arrived: npt.NDArray[np.bool_],
        newly_deadlocked: npt.NDArray[np.bool_],
        episode_over: bool,
    ) -> npt.NDArray[np.float64]:
        """The rewards ``[trains]`` of the step that has led to ``state``."""
        potential = np.zeros_like(self._potential) if episode_over else self._potential_of(state)
        shaped = rewards * self._scale + self._shaping.gamma * potential - self._potential
        shaped += self._shaping.arrival_reward * newly_arrived - self._shaping.deadlock_penalty * newly_deadlocked
        self._potential = potential
        return shaped
