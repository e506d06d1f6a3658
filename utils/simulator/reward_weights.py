"""The parameters of flatland's rewards as an array, and how scores count them."""

import numpy as np
from flatland.envs.rewards import BaseDefaultRewards, DefaultRewards, ECML2026Rewards, Rewards
from numpy.typing import NDArray

from utils.simulator.flatland_versions import DelayRewards
from utils.simulator.rail_losses import clips_losses
from utils.simulator.rail_rewards import (
    CANCELLATION_FACTOR,
    CANCELLATION_TIME_BUFFER,
    CLIPS_LOSSES,
    COLLISION_FACTOR,
    EARLY_DEPARTURE_FACTOR,
    LATE_ARRIVAL_FACTOR,
    N_WEIGHTS,
    NOT_REACHED_MINIMUM_PENALTY,
    NOT_SERVED_PENALTY,
)
from utils.simulator.simulator import UnsupportedLevel

_REWARDS = (DefaultRewards, ECML2026Rewards, DelayRewards)  # all DefaultRewards, with different parameters


def weights_of(rewards: Rewards) -> NDArray[np.float64]:
    """The parameters of flatland's ``DefaultRewards``, float64 [N_WEIGHTS].

    Raises:
        UnsupportedLevel: these are rewards of another kind.
    """
    if type(rewards) not in _REWARDS or type(rewards._proxy) is not BaseDefaultRewards:
        raise UnsupportedLevel(
            f"rewards of the type {type(rewards).__name__} are not simulated, "
            f"only {', '.join(known.__name__ for known in _REWARDS)}"
        )
    weights = np.empty(N_WEIGHTS, dtype=np.float64)
    weights[CANCELLATION_FACTOR] = rewards.cancellation_factor
    weights[CANCELLATION_TIME_BUFFER] = rewards.cancellation_time_buffer
    weights[NOT_REACHED_MINIMUM_PENALTY] = rewards.target_not_reached_minimum_penalty
    weights[NOT_SERVED_PENALTY] = rewards.intermediate_not_served_penalty
    weights[LATE_ARRIVAL_FACTOR] = rewards.intermediate_late_arrival_penalty_factor
    weights[EARLY_DEPARTURE_FACTOR] = rewards.intermediate_early_departure_penalty_factor
    weights[COLLISION_FACTOR] = rewards.collision_factor
    weights[CLIPS_LOSSES] = clips_losses(rewards)
    return weights
