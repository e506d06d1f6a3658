"""How scores count flatland-rl's own rewards: what trains have lost, told apart by cause, and where that is clipped."""

import numpy as np
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import BaseDefaultRewards, DefaultPenalties, DefaultRewards, Rewards
from numpy.typing import NDArray

_OWN_PENALTIES = {
    "late_arrival": DefaultPenalties.TARGET_LATE_ARRIVAL,
    "not_arrived": DefaultPenalties.TARGET_NOT_REACHED,
    "cancelled": DefaultPenalties.CANCELLATION,
    "stop_not_served": DefaultPenalties.INTERMEDIATE_NOT_SERVED,
    "stop_late": DefaultPenalties.INTERMEDIATE_LATE_ARRIVAL,
    "stop_early": DefaultPenalties.INTERMEDIATE_EARLY_DEPARTURE,
}
CAUSES = (*_OWN_PENALTIES, "collision")
"""Why trains lose score: not arrived and still on the map, cancelled if never departed, and so on."""


def clips_losses(rewards: Rewards) -> bool:
    """Whether a train can lose no more than ``max_episode_steps``, as graders of trajectories count.

    flatland-rl's remote evaluator, which only knows ``DefaultRewards``, clips nothing; nor do scores under those here.
    """
    return type(rewards) is not DefaultRewards and type(rewards).normalize is DefaultRewards.normalize


def knows_causes(rewards: Rewards) -> bool:
    """Whether these are flatland's ``DefaultRewards``, with whatever parameters: others may reward anything."""
    return (
        isinstance(rewards, DefaultRewards)
        and type(rewards._proxy) is BaseDefaultRewards
        and type(rewards).step_reward is DefaultRewards.step_reward
        and type(rewards).end_of_episode_reward is DefaultRewards.end_of_episode_reward
    )


def losses_of_train(env: RailEnv, handle: int, total_reward: float) -> NDArray[np.float64]:
    """What a train has lost by each cause, float64 ``[causes]``, all at least 0.

    Args:
        env: its rewards are known; the train has arrived or the episode is over.
        handle: the train.
        total_reward: all its rewards.
    """
    rewards = env.rewards._proxy
    # all that falls due at once, by arrival or in the end; it depends on nothing that comes after that
    due = rewards._agent_done_or_max_episode_steps_reward(
        env.agents[handle], env.distance_map, env._elapsed_steps, rewards.empty()
    )
    losses = [abs(float(due[penalty.value])) for penalty in _OWN_PENALTIES.values()]
    # what is left are collisions, the only penalty that falls due on the way
    collisions = max(0.0, -total_reward - sum(losses)) if rewards.collision_factor else 0.0
    return np.array([*losses, collisions])
