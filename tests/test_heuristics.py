"""Rule-based policies do what their names say."""

import numpy as np
import pytest
from playing import begun, play, play_out
from rail_envs import action_of, shortest_path_action, sparse_env

from reinforcement_learning.heuristics import RULE_BASED, rule_based_policy
from reinforcement_learning.rollout import EpisodeResult

MASK = np.array([[True, False, True, False, False], [False, True, False, True, True], [False, True, True, False, True]])


def play_by_rule(name: str, seed: int = 3) -> EpisodeResult:
    policy, observer = rule_based_policy(name, seed)
    return play(sparse_env(1, n_agents=5), policy, observer=observer)


def test_random_stays_possible_and_follows_its_seed() -> None:
    observations, mask = np.zeros((90, 1), np.float32), np.tile(MASK, (30, 1))
    actions = [rule_based_policy("random", seed)[0].act(observations, mask) for seed in (1, 1, 2)]
    assert all(mask[np.arange(90), chosen].all() for chosen in actions)
    assert actions[0].tolist() == actions[1].tolist() != actions[2].tolist()


def test_do_nothing_never_departs() -> None:
    result = play_by_rule("do_nothing")
    assert (result.never_departed, result.completion) == (1.0, 0.0)


def test_forward_takes_the_first_way_out_where_it_cannot_go_straight_on() -> None:
    assert rule_based_policy("forward")[0].act(np.zeros((3, 1), np.float32), MASK).tolist() == [2, 1, 2]


def test_shortest_path_takes_the_move_that_brings_a_train_nearest() -> None:
    env = sparse_env(2, n_agents=5)
    policy, observer = rule_based_policy("shortest_path")
    checked = []

    class Checked:
        def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
            actions = policy.act(observations, action_mask)
            deciding = np.flatnonzero(np.count_nonzero(rollout._action_mask[0], axis=1) > 1)
            on_map = [agent.current_configuration is not None for agent in env.agents]
            distances = env.distance_map.get()
            for handle, action in zip(deciding.tolist(), actions.tolist(), strict=True):
                best = shortest_path_action(env, handle)
                if on_map[handle] and action != best:  # another way of the same length will do
                    assert after(handle, action, distances) == after(handle, best, distances)
                checked.append(on_map[handle])
            return actions

    def after(handle: int, action: int, distances: np.ndarray) -> float:
        transition = env.rail.apply_action_independent(action_of(action), env.agents[handle].current_configuration)
        (row, column), direction = transition[0]
        return distances[handle, row, column, direction]

    rollout = begun(env, Checked(), observer=observer)
    result = play_out(rollout)[0]
    assert result.never_departed == 0.0
    assert sum(checked) > 10


def test_a_lonely_train_on_its_shortest_path_arrives() -> None:
    for seed in (1, 2, 3):
        policy, observer = rule_based_policy("shortest_path")
        assert play(sparse_env(seed, n_agents=1), policy, observer=observer).completion == 1.0


def test_names() -> None:
    assert {"random", "do_nothing", "forward", "shortest_path"} <= set(RULE_BASED)
    with pytest.raises(KeyError):
        rule_based_policy("clever")
