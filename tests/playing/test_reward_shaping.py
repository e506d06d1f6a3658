"""Shaped rewards: they sum up to what the theory says, and each term has its weight."""

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.playing.reward_shaping import (
    ARRIVAL,
    DEADLOCK,
    POTENTIAL,
    REWARD,
    RewardWeights,
    StepOfTrains,
    parts_of_step,
    potential,
    shaped_reward,
)
from tests.helpers.playing import step_of_trains
from tests.helpers.rail_envs import EAST, drawn_env, shortest_path_action, sparse_env
from utils.simulator.rail_state import RailState, remaining_travel_time
from utils.simulator.state_arrays import DONE


def no_terms(gamma: float = 1.0, **terms: float) -> RewardWeights:
    return RewardWeights(**{"gamma": gamma, "shaping": 0.0, "arrival_reward": 0.0, "deadlock_penalty": 0.0, **terms})


def shaped_rewards(env: RailEnv, shaping: RewardWeights, *, own_rewards: bool = False) -> np.ndarray:
    """Shaped rewards ``[steps, trains]`` of an episode on the shortest paths; the environment's own count if wanted."""
    state = RailState.from_env(env)
    shaped, done, remaining = [], False, remaining_travel_time(state)
    while not done:
        arrived_before, remaining_before = state.state == DONE, remaining
        actions = {handle: shortest_path_action(env, handle) for handle in range(state.n_trains)}
        _, own, dones, _ = env.step(actions)
        done = dones["__all__"]
        state.update(env)
        remaining = remaining_travel_time(state)
        step = step_of_trains(
            np.array(list(own.values())) if own_rewards else np.zeros(state.n_trains),
            remaining_before,
            remaining,
            (state.state == DONE) & ~arrived_before,
            np.zeros(state.n_trains, dtype=bool),
            over=done,
            max_episode_steps=state.max_episode_steps,
        )
        shaped.append(shaped_reward(step, shaping)[0])
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
    weights = no_terms(arrival_reward=7.0, deadlock_penalty=3.0)
    zeros, yes, no = np.zeros(2), np.array([True, False]), np.array([False, False])
    for arrived, stuck, over, wanted in ((no, no, False, [0, 0]), (yes, ~yes, False, [7, -3]), (no, no, True, [0, 0])):
        step = step_of_trains(zeros, zeros, zeros, arrived, stuck, over=over, max_episode_steps=5)
        assert shaped_reward(step, weights).tolist() == [wanted]


def side_by_side(rewards: np.ndarray, remaining: np.ndarray, over: list[bool], lengths: list[int]) -> StepOfTrains:
    """A step of several levels, whose remaining travel times were 1 more before it."""
    nobody = np.zeros(rewards.shape, dtype=bool)
    return StepOfTrains(
        rewards,
        remaining + 1,
        remaining,
        *(nobody,) * 3,
        actions=np.zeros(rewards.shape, dtype=np.int64),
        episode_over=np.array(over)[:, np.newaxis],
        max_episode_steps=np.array(lengths)[:, np.newaxis],
    )


def test_episodes_side_by_side_have_their_own_lengths_and_ends() -> None:
    own = np.array([[-5.0, 0.0], [0.0, -5.0]])
    remaining = np.array([[3.0, 20.0], [39.0, np.inf]])
    step = side_by_side(own, remaining, [True, False], [10, 100])
    assert shaped_reward(step, no_terms(gamma=0.5, shaping=1.0)) == pytest.approx(
        np.array([[-0.5 + 0.4, 1.0], [-0.5 * 0.39 + 0.4, -0.05 - 0.5 * 1.0 + 1.0]])
    )


def test_parts_add_up_to_the_reward() -> None:
    """With any weights; what is kept is unweighted."""
    weights, random = RewardWeights(0.9, 2.0, 3.0, 0.25), np.random.default_rng(0)
    before = random.uniform(0, 60, 4)
    for over in (False, True):
        flags = random.random((2, 4)) < 0.5
        step = step_of_trains(random.normal(size=4), before, before - 1, *flags, over=over, max_episode_steps=50)
        parts = parts_of_step(step, {})
        assert parts.shape == (1, 4, 4)
        rewards = parts[:, REWARD] + weights.shaping * (weights.gamma * parts[:, POTENTIAL] - potential(before, 50))
        rewards += weights.arrival_reward * parts[:, ARRIVAL] - weights.deadlock_penalty * parts[:, DEADLOCK]
        assert rewards == pytest.approx(shaped_reward(step, weights))
