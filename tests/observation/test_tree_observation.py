"""The compiled observation against flatland's ``TreeObsForRailEnv`` and the classic kit's normalisation."""

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.flatland_trees import (
    INF,
    assert_trees_equal,
    flatland_tree_builder,
    flatland_trees,
    tree_observation,
    values_in_preorder,
)
from tests.helpers.observations import observe
from tests.helpers.rail_envs import EAST, FOUR_SPEEDS, ONE_SPEED, drawn_env, play, possible_moves, sparse_env
from utils.observation.feature_sets import FEATURE_SETS, FeatureSet, get_feature_set
from utils.observation.observer import Observer
from utils.observation.timetable_features import TIMETABLE_FEATURE_NAMES
from utils.simulator.rail_state import RailState, remaining_travel_time


@pytest.mark.parametrize("max_depth", [1, 2, 3])
@pytest.mark.parametrize("random_share", [0.05, 0.5])
def test_trees_and_features_equal_flatlands(max_depth, random_share) -> None:
    env = sparse_env(seed=11, n_agents=15, n_cities=3)
    nodes = assert_trees_equal(env, 11, random_share, max_depth, every=4)
    # The comparison met trees with trains, malfunctions and slow trains in them.
    assert (nodes[:, 1:, 7] > 0).any()
    assert (nodes[:, 1:, 8] > 0).any()
    assert (nodes[:, 1:, 9] > 0).any()
    assert len(np.unique(nodes[:, 1:, 10])) > 3


def test_trees_equal_flatlands_with_level_free_crossings() -> None:
    env = sparse_env(seed=2, n_agents=25, n_cities=3, p_level_free=1.0, speeds=ONE_SPEED, malfunction_rate=0.0)
    assert len(env.resource_map.level_free_positions) > 0
    assert_trees_equal(env, 2, 0.05, 2, every=5)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_agents=st.integers(1, 12),
    random_share=st.floats(0, 1),
    max_depth=st.integers(1, 3),
    speeds=st.sampled_from([ONE_SPEED, FOUR_SPEEDS]),
    height=st.sampled_from([25, 30, 40]),
)
def test_any_level_gives_flatlands_trees(seed, n_agents, random_share, max_depth, speeds, height) -> None:
    env = sparse_env(seed=seed, n_agents=n_agents, speeds=speeds, height=height)
    assert_trees_equal(env, seed, random_share, max_depth, every=10)


def test_arrived_trains_keep_a_tree() -> None:
    env = sparse_env(seed=4, n_agents=3, malfunction_rate=0.0)
    state = RailState.from_env(env)
    for _ in play(env, seed=4, random_share=0.0):
        pass
    state.update(env)
    assert any(agent.state == TrainState.DONE for agent in env.agents)
    trees = flatland_trees(env, flatland_tree_builder(env, 2))
    expected = [values_in_preorder(trees[handle], 0, 2) for handle in trees]
    np.testing.assert_array_equal(tree_observation(state, 2), expected)


def test_rails_that_lead_off_the_grid_close_a_branch() -> None:
    """flatland fails there; generated maps have no such rails, but drawn ones may."""
    env = drawn_env(["<---"], [(((0, 1), EAST), (0, 0))])
    forward = tree_observation(RailState.from_env(env), 1)[0, 2]
    np.testing.assert_array_equal(forward, [INF, INF, INF, INF, INF, INF, INF, 0, 0, 0, 1, 0])


def expected_timetable_features(env: RailEnv, handle: int, state: RailState) -> list[float]:
    """The timetable features of one train, from flatland's objects."""
    agent = env.agents[handle]
    end = env._max_episode_steps
    travel_time = remaining_travel_time(state)[handle]
    malfunction = agent.malfunction_handler.malfunction_down_counter
    states = [other.state for other in env.agents]
    features = [
        agent.state.is_on_map_state(),
        agent.state == TrainState.READY_TO_DEPART,
        agent.state == TrainState.WAITING,
        agent.state == TrainState.STOPPED,
        malfunction > 0,
        malfunction / 20,
        float(agent.speed_counter.max_speed),
        env._elapsed_steps / end,
        travel_time / end,
        (agent.latest_arrival - env._elapsed_steps - travel_time) / end,
        (end - env._elapsed_steps - travel_time) / end,
        sum(state.is_on_map_state() for state in states) / len(states),
        sum(state == TrainState.DONE for state in states) / len(states),
        max(0, agent.earliest_departure - env._elapsed_steps) / end,
    ]
    configuration = agent.current_configuration or agent.initial_configuration
    holders = {
        env.resource_map.get_resource(other.current_configuration): other.current_configuration[1]
        for other in env.agents
        if other.current_configuration is not None
    }
    distance_map = env.distance_map.get()[handle]
    moves = possible_moves(env, configuration) if agent.state != TrainState.DONE else {}
    for action in (1, 2, 3):
        if action not in moves:
            features += [0, 1, 0, 0]
            continue
        following = (row, column), direction = moves[action]
        here = distance_map[(*configuration[0], configuration[1])]
        there = distance_map[row, column, direction]
        heading = holders.get(env.resource_map.get_resource(following))
        change = (there - here) / 10 if np.isfinite(there) else 1
        features += [1, change, heading is not None, heading is not None and heading != direction]
    return [float(np.clip(value, -1, 1)) for value in features]


@pytest.mark.parametrize("p_level_free", [0.0, 1.0])
def test_timetable_features_follow_the_tree(p_level_free) -> None:
    env = sparse_env(seed=8, n_agents=15, n_cities=3, p_level_free=p_level_free)
    state = RailState.from_env(env)
    tree, timetable = (
        Observer(get_feature_set("tree"), safe_moves=False),
        Observer(get_feature_set("tree_timetable"), safe_moves=False),
    )
    occupied = opposed = 0.0
    for _ in play(env, seed=8, random_share=0.1):
        state.update(env)
        features, mask = timetable.observe(state)
        tree_features, tree_mask = tree.observe(state)
        np.testing.assert_array_equal(features[:, :231], tree_features)
        np.testing.assert_array_equal(mask, tree_mask)
        expected = [expected_timetable_features(env, handle, state) for handle in range(len(env.agents))]
        np.testing.assert_array_equal(features[:, 231:], np.array(expected, dtype=np.float32))
        occupied += features[:, [231 + 16, 231 + 20, 231 + 24]].sum()
        opposed += features[:, [231 + 17, 231 + 21, 231 + 25]].sum()
    assert occupied > opposed > 0


def test_names_and_sizes_of_the_feature_sets() -> None:
    tree, timetable = FEATURE_SETS["tree"], FEATURE_SETS["tree_timetable"]
    assert (tree.version, tree.n_features) == (1, 231)
    assert (timetable.version, timetable.n_features) == (1, 231 + len(TIMETABLE_FEATURE_NAMES)) == (1, 257)
    for feature_set in (*FEATURE_SETS.values(), FeatureSet("deep", 1, max_depth=3)):
        assert len(set(feature_set.feature_names)) == feature_set.n_features
    assert tree.feature_names[:2] == ("root.own_target", "root.other_target")
    assert tree.feature_names[6 * 21 + 3] == "left.forward.to_target"
    assert timetable.feature_names[231] == "on_map"
    assert timetable.feature_names[-4:] == (
        "right_possible",
        "right_distance_change",
        "right_occupied",
        "right_opposed",
    )


def test_unknown_and_impossible_feature_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="no feature set 'trees'; there are tree, tree_timetable, tree_routes"):
        get_feature_set("trees")
    with pytest.raises(ValueError, match="depth of the tree is 0"):
        FeatureSet("flat", 1, max_depth=0)
    with pytest.raises(ValueError, match="radius is 0"):
        FeatureSet("blind", 1, radius=0)


def test_one_observer_serves_levels_of_different_sizes() -> None:
    observer = Observer(get_feature_set("tree"), safe_moves=False)
    for size, n_agents in ((30, 4), (25, 2), (30, 6)):
        state = RailState.from_env(sparse_env(seed=1, size=size, n_agents=n_agents))
        features, mask = observer.observe(state)
        again, mask_again = observe(state, get_feature_set("tree"))
        np.testing.assert_array_equal(features, again)
        np.testing.assert_array_equal(mask, mask_again)
        assert features.shape == (n_agents, 231)
        assert mask.shape == (n_agents, 5)
        assert not state.occupant.any()


def test_observer_fills_given_arrays_and_refuses_others() -> None:
    state = RailState.from_env(sparse_env(seed=1, n_agents=3))
    observer = Observer(get_feature_set("tree"), safe_moves=False)
    expected, expected_mask = observer.observe(state)
    features = np.full((3, 231), np.nan, dtype=np.float32)
    mask = np.zeros((3, 5), dtype=np.bool_)
    returned, returned_mask = observer.observe(state, features, mask)
    assert returned is features
    assert returned_mask is mask
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_array_equal(mask, expected_mask)
    with pytest.raises(ValueError, match="do not fit 3 trains"):
        observer.observe(state, np.empty((2, 231), dtype=np.float32), mask)
