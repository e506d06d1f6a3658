"""The parameters of flatland's rewards as an array, and how scores count them."""

import numpy as np
from flatland.envs.rewards import BaseDefaultRewards, DefaultRewards, ECML2026Rewards, Rewards
from numpy.typing import NDArray

from utils.simulator.flatland_versions import DelayRewards
from utils.simulator.rail_losses import clips_losses
from utils.simulator.rail_rewards import CLIPS_LOSSES, N_WEIGHTS
from utils.simulator.unsupported_level import UnsupportedLevel

_REWARDS = (DefaultRewards, ECML2026Rewards, DelayRewards)  # all DefaultRewards, with different parameters
_PARAMETERS = (  # in the order of ``weights``
    "cancellation_factor",
    "cancellation_time_buffer",
    "target_not_reached_minimum_penalty",
    "intermediate_not_served_penalty",
    "intermediate_late_arrival_penalty_factor",
    "intermediate_early_departure_penalty_factor",
    "collision_factor",
)


def weights_to_plan_by(rewards: Rewards) -> NDArray[np.float64]:
    """Their parameters as :func:`weights_of` gives them; those of flatland's usual ones for rewards of another kind."""
    try:
        return weights_of(rewards)
    except UnsupportedLevel:
        return weights_of(DefaultRewards())


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
    weights[:CLIPS_LOSSES] = [getattr(rewards, parameter) for parameter in _PARAMETERS]
    weights[CLIPS_LOSSES] = clips_losses(rewards)
    return weights
