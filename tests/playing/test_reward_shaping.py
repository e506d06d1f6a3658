"""Shaped rewards: they sum up to what the theory says, and each term has its weight."""

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.playing.reward_shaping import LearningRewards, RewardWeights
from tests.helpers.rail_envs import EAST, WEST, drawn_env, shortest_path_action, sparse_env
from utils.simulator.rail_state import DONE, RailState, remaining_travel_time


def no_terms(gamma: float = 1.0, **terms: float) -> RewardWeights:
    return RewardWeights(**{"gamma": gamma, "shaping": 0.0, "arrival_reward": 0.0, "deadlock_penalty": 0.0, **terms})


def learning_rewards(shaping: RewardWeights, state: RailState) -> LearningRewards:
    """The rewards of one environment, at the beginning of its episode."""
    rewards = LearningRewards(shaping, 1, state.n_trains)
    rewards.start(0, state.max_episode_steps, remaining_travel_time(state))
    return rewards


def shaped_rewards(env: RailEnv, shaping: RewardWeights, *, own_rewards: bool = False) -> np.ndarray:
    """Shaped rewards ``[steps, trains]`` of an episode on the shortest paths; the environment's own count if wanted."""
    state = RailState.from_env(env)
    rewards = learning_rewards(shaping, state)
    shaped, done = [], False
    while not done:
        arrived_before = state.state == DONE
        actions = {handle: shortest_path_action(env, handle) for handle in range(state.n_trains)}
        _, own, dones, _ = env.step(actions)
        done = dones["__all__"]
        state.update(env)
        newly_arrived = (state.state == DONE) & ~arrived_before
        own_of_trains = np.array(list(own.values())) if own_rewards else np.zeros(state.n_trains)
        nobody = np.zeros(state.n_trains, dtype=bool)
        remaining = remaining_travel_time(state)
        arrays = (own_of_trains, remaining, newly_arrived, nobody)
        shaped.append(rewards.step(*(array[np.newaxis] for array in arrays), np.array([done]))[0])
    return np.array(shaped)


@pytest.mark.parametrize("seed", [1, 2])
def test_shaping_without_discount_adds_up_to_minus_the_first_potential(seed: int) -> None:
    env = sparse_env(seed, n_agents=5)
    start = RailState.from_env(env)
    potential = -3.0 * remaining_travel_time(start) / start.max_episode_steps
    assert shaped_rewards(env, no_terms(shaping=3.0)).sum(axis=0) == pytest.approx(-potential)


def test_discounted_shaping_adds_up_too() -> None:
    gamma, env = 0.9, sparse_env(3, n_agents=4)
    start = RailState.from_env(env)
    shaped = shaped_rewards(env, no_terms(gamma=gamma, shaping=1.0))
    discounts = gamma ** np.arange(len(shaped))
    wanted = remaining_travel_time(start) / start.max_episode_steps
    assert discounts @ shaped == pytest.approx(wanted)


def test_unreachable_target_counts_as_a_whole_episode() -> None:
    env = drawn_env([">--<", "    ", ">--<"], [(((0, 1), EAST), (2, 2))], max_episode_steps=10)
    assert shaped_rewards(env, no_terms(shaping=2.0)).sum() == pytest.approx(2.0)


def test_environments_reward_is_a_share_of_the_episode() -> None:
    env, twin = sparse_env(4, n_agents=5), sparse_env(4, n_agents=5)
    shaped = shaped_rewards(env, no_terms(), own_rewards=True)
    total, done = np.zeros(5), False
    while not done:
        _, own, dones, _ = twin.step({handle: shortest_path_action(twin, handle) for handle in range(5)})
        total += list(own.values())
        done = dones["__all__"]
    assert total.any()
    assert shaped.sum(axis=0) == pytest.approx(total / twin._max_episode_steps)


def test_arrival_and_deadlock_have_their_weights_at_their_step() -> None:
    env = drawn_env([">----<"], [(((0, 1), EAST), (0, 4)), (((0, 4), WEST), (0, 1))])
    state = RailState.from_env(env)
    rewards = learning_rewards(no_terms(arrival_reward=7.0, deadlock_penalty=3.0), state)
    zeros, remaining = np.zeros((1, 2)), remaining_travel_time(state)[np.newaxis]
    yes, no = np.array([[True, False]]), np.array([[False, False]])
    over, not_over = np.array([True]), np.array([False])
    assert rewards.step(zeros, remaining, no, no, not_over).tolist() == [[0, 0]]
    assert rewards.step(zeros, remaining, yes, ~yes, not_over).tolist() == [[7, -3]]
    assert rewards.step(zeros, remaining, no, no, over).tolist() == [[0, 0]]


def test_episodes_side_by_side_have_their_own_lengths_and_ends() -> None:
    rewards = LearningRewards(no_terms(gamma=0.5, shaping=1.0), 3, 2)
    rewards.start(0, 10, np.array([4.0, 20.0]))
    rewards.start(2, 100, np.array([40.0, np.inf]))
    nobody, own = np.zeros((3, 2), dtype=bool), np.array([[-5.0, 0.0], [0.0, 0.0], [0.0, -5.0]])
    remaining = np.array([[3.0, 20.0], [0.0, 0.0], [39.0, np.inf]])
    shaped = rewards.step(own, remaining, nobody, nobody, np.array([True, False, False]))
    assert shaped == pytest.approx(
        np.array([[-0.5 + 0.4, 1.0], [0.0, 0.0], [-0.5 * 0.39 + 0.4, -0.05 - 0.5 * 1.0 + 1.0]])
    )
    # another level takes the place of the one that is over; its neighbour does not notice
    rewards.start(0, 20, np.array([10.0, 0.0]))
    shaped = rewards.step(np.zeros((3, 2)), remaining, nobody, nobody, np.array([False, False, False]))
    assert shaped[0] == pytest.approx([-0.5 * 0.15 + 0.5, -0.5 * 1.0])
    assert shaped[2] == pytest.approx([0.5 * 0.39, 0.5])


def test_other_trains_rewards_count_with_their_weight() -> None:
    own = np.array([[1.0, -2.0, 0.5], [4.0, 0.0, 0.0]])
    rewards = LearningRewards(no_terms(), 2, 3, team_reward=0.1)
    for env in range(2):
        rewards.start(env, 1, np.zeros(3))
    nobody = np.zeros((2, 3), dtype=bool)
    shaped = rewards.step(own, np.zeros((2, 3)), nobody, nobody, np.zeros(2, dtype=bool))
    assert shaped == pytest.approx(np.array([[0.85, -1.85, 0.4], [4.0, 0.4, 0.4]]))
