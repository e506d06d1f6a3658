"""The feature set "tree_conflicts" against flatland's ``TreeObsForRailEnv`` with its comparison of cells repaired."""

import inspect

import numpy as np
import pytest
from flatland.envs import observations
from flatland.envs.observations import TreeObsForRailEnv
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.flatland_trees import (
    INF,
    assert_trees_equal,
    classic_normalization,
    flatland_tree_builder,
    flatland_trees,
    values_in_preorder,
)
from tests.helpers.rail_envs import EAST, FOUR_SPEEDS, NORTH, ONE_SPEED, SOUTH, WEST, drawn_env, play, sparse_env
from utils.observation.observation_builder import CompiledTreeObservation
from utils.observation.observer import FEATURE_SETS, Observer, get_feature_set
from utils.observation.tree_observation import POTENTIAL_CONFLICT, tree_observation
from utils.simulator.rail_state import RailState

# What ``_explore_branch`` looks for among the predicted indices of cells: a list with the index, never found ...
BROKEN = "int_position = coordinate_to_position(self.env.width, [position])\n"
# ... and the index itself.
REPAIRED = "(int_position,) = coordinate_to_position(self.env.width, [position])\n"


def compare_each(cells: list[int], index: int) -> list[int]:
    """The handles of the trains in a cell, for code that was never reached: ``fast_where(cells == index)`` fails."""
    return [handle for handle, cell in enumerate(cells) if cell == index]


def repaired_builder() -> type[TreeObsForRailEnv]:
    """flatland's class with the one line changed, and with what the three branches behind it do made to work."""
    source = inspect.getsource(TreeObsForRailEnv)
    assert source.count(BROKEN) == 1
    source = source.replace(BROKEN, REPAIRED)
    for time in ("predicted_time", "pre_step", "post_step"):
        reached_now = f"fast_where(self.predicted_pos[{time}] == int_position)"
        assert source.count(reached_now) == 1
        source = source.replace(reached_now, f"compare_each(self.predicted_pos[{time}], int_position)")
    namespace = {**vars(observations), "compare_each": compare_each}
    exec(source, namespace)
    return namespace["TreeObsForRailEnv"]


RepairedTreeObs = repaired_builder()


def assert_equal_with_conflicts(env: RailEnv, seed: int, random_share: float, max_depth: int, every: int) -> np.ndarray:
    """Plays an episode and compares; returns the distances of conflicts of all nodes but the roots."""
    nodes = assert_trees_equal(env, seed, random_share, max_depth, every, RepairedTreeObs, with_conflicts=True)
    return nodes[:, 1:, POTENTIAL_CONFLICT]


def conflicts(env: RailEnv, max_depth: int = 1) -> np.ndarray:
    """The distances of conflicts now, [trains, nodes], after a comparison with flatland."""
    builder = flatland_tree_builder(env, max_depth, RepairedTreeObs)
    trees = flatland_trees(env, builder)
    expected = [values_in_preorder(trees[handle], 0, max_depth) for handle in trees]
    nodes = tree_observation(RailState.from_env(env), max_depth, with_conflicts=True)
    np.testing.assert_array_equal(nodes, expected)
    return nodes[:, :, POTENTIAL_CONFLICT]


def test_flatland_itself_never_finds_a_conflict() -> None:
    """If a later flatland does, the feature set "tree" is no longer its tree."""
    env = sparse_env(seed=12, speeds=ONE_SPEED)
    builder = flatland_tree_builder(env, 2)
    for _ in play(env, 12, 0.05, max_steps=15):
        trees = flatland_trees(env, builder)
        values = np.array([values_in_preorder(tree, 0, 2) for tree in trees.values()])[:, 1:, POTENTIAL_CONFLICT]
        assert np.isinf(values).all()


@pytest.mark.parametrize("max_depth", [1, 2, 3])
@pytest.mark.parametrize("random_share", [0.0, 0.5])
@pytest.mark.parametrize("speeds", [ONE_SPEED, FOUR_SPEEDS])
def test_trees_equal_those_of_the_repaired_builder(max_depth, random_share, speeds) -> None:
    env = sparse_env(seed=21, n_agents=15, n_cities=3, speeds=speeds, malfunction_rate=1 / 30)
    distances = assert_equal_with_conflicts(env, 21, random_share, max_depth, every=4)
    assert len(np.unique(distances[np.isfinite(distances)])) > 8
    assert (distances == INF).any()


@pytest.mark.parametrize(("width", "height"), [(25, 45), (45, 25)])
def test_trees_are_equal_on_high_and_wide_grids(width, height) -> None:
    env = sparse_env(seed=5, n_agents=20, n_cities=3, size=width, height=height)
    assert env.rail.grid.shape == (height, width)
    assert np.isfinite(assert_equal_with_conflicts(env, 5, 0.1, 2, every=4)).any()


def test_trees_are_equal_with_level_free_crossings() -> None:
    env = sparse_env(seed=2, n_agents=25, n_cities=3, p_level_free=1.0, speeds=ONE_SPEED, malfunction_rate=0.0)
    assert np.isfinite(assert_equal_with_conflicts(env, 2, 0.05, 2, every=6)).any()


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_agents=st.integers(1, 12),
    random_share=st.floats(0, 1),
    max_depth=st.integers(1, 3),
    speeds=st.sampled_from([ONE_SPEED, FOUR_SPEEDS]),
    height=st.sampled_from([25, 30, 40]),
)
def test_any_level_gives_the_trees_of_the_repaired_builder(
    seed, n_agents, random_share, max_depth, speeds, height
) -> None:
    env = sparse_env(seed=seed, n_agents=n_agents, speeds=speeds, height=height)
    assert_equal_with_conflicts(env, seed, random_share, max_depth, every=10)


def test_trains_that_will_meet_head_on() -> None:
    env = drawn_env(["<------->"], [(((0, 1), EAST), (0, 8)), (((0, 7), WEST), (0, 0))])
    np.testing.assert_array_equal(conflicts(env)[:, 2], [3, 3])


def test_trains_that_follow_each_other_are_no_conflict() -> None:
    env = drawn_env(["<------->"], [(((0, 1), EAST), (0, 8)), (((0, 2), EAST), (0, 8))])
    np.testing.assert_array_equal(conflicts(env)[:, 2], [INF, INF])


@pytest.mark.parametrize(("speed", "distance"), [(1.0, 4), (0.5, 3), (0.33, 2), (0.25, INF)])
def test_slow_trains_are_predicted_at_their_speed(speed, distance) -> None:
    """The slowest is not in any cell within a step of the other one's passage there, so no conflict is seen."""
    env = drawn_env(["<--------->"], [(((0, 1), EAST), (0, 10)), (((0, 9), WEST), (0, 0))], speeds=[speed, 1.0])
    assert conflicts(env)[0, 2] == distance


def test_a_train_without_a_way_to_its_target_is_predicted_where_it_is() -> None:
    env = drawn_env(["<----> <->"], [(((0, 1), EAST), (0, 5)), (((0, 4), WEST), (0, 8))])
    assert env.distance_map.get()[1, 0, 4, WEST] == INF
    assert conflicts(env)[0, 2] == 3  # were it coming nearer, they would meet at 1


def test_predictions_end_after_thirty_cells() -> None:
    """Trains 29 and 30 steps from now: the last cell of the prediction is the 30th, the present one included."""
    for length, expected in ((58, 29), (60, INF), (62, INF)):
        drawing = ["<" + "-" * (length + 1) + ">"]
        trains = [(((0, 1), EAST), (0, length + 2)), (((0, 1 + length), WEST), (0, 0))]
        assert conflicts(drawn_env(drawing, trains))[0, 2] == expected


def test_arrived_trains_haunt_their_targets() -> None:
    env = drawn_env(["<-------->"], [(((0, 1), EAST), (0, 9)), (((0, 4), EAST), (0, 5))])
    env.step({0: 2, 1: 2})
    while env.agents[1].state != TrainState.DONE:
        env.step({0: 4, 1: 2})
    assert env.agents[0].current_configuration is None or env.agents[0].current_configuration[0] != (0, 5)
    here = (env.agents[0].current_configuration or env.agents[0].initial_configuration)[0][1]
    assert conflicts(env)[0, 2] == 5 - here


@pytest.mark.parametrize(("padding", "expected"), [("", 2), ("   ", INF)])
def test_cells_that_share_an_index_on_high_grids(padding, expected) -> None:
    """On 3 columns, row 3 of column 0 and row 0 of column 1 are both cell 3; on 6 columns each has its own."""
    drawing = ["^^ " + padding, *["|| " + padding] * 4, "vv " + padding]
    trains = [(((1, 0), SOUTH), (5, 0)), (((1, 1), NORTH), (5, 1))]
    env = drawn_env(drawing, trains, switches={"^": ("S",), "v": ("N",)})
    assert conflicts(env)[0, 2] == expected


@pytest.mark.parametrize("max_depth", [1, 2])
def test_observation_builder_sees_conflicts(max_depth) -> None:
    feature_set = get_feature_set("tree_conflicts", max_depth=max_depth)
    env = sparse_env(seed=6, obs_builder=CompiledTreeObservation(feature_set))
    builder = flatland_tree_builder(env, max_depth, RepairedTreeObs)
    for _ in range(10):
        seen, *_ = env.step(dict.fromkeys(range(len(env.agents)), 2))
        for handle, tree in flatland_trees(env, builder).items():
            np.testing.assert_array_equal(seen[handle], classic_normalization(tree, max_depth, 10).astype(np.float32))


def test_only_the_conflicts_differ_from_the_plain_tree() -> None:
    plain, repaired = FEATURE_SETS["tree"], FEATURE_SETS["tree_conflicts"]
    assert (repaired.version, repaired.n_features) == (1, 231)
    assert repaired.feature_names == plain.feature_names
    others = [not name.endswith(".potential_conflict") for name in plain.feature_names]
    env = sparse_env(seed=9)
    state = RailState.from_env(env)
    observers = Observer(plain), Observer(repaired)
    n_different = 0
    for _ in play(env, 9, 0.2, max_steps=20):
        state.update(env)
        (tree, mask), (conflicting, same_mask) = (observer.observe(state) for observer in observers)
        np.testing.assert_array_equal(conflicting[:, others], tree[:, others])
        np.testing.assert_array_equal(same_mask, mask)
        n_different += int((conflicting != tree).sum())
    assert n_different > 20


def test_one_observer_serves_any_size_and_number_of_trains() -> None:
    observer = Observer(FEATURE_SETS["tree_conflicts"])
    for size, height, n_agents in ((30, 30, 4), (25, 36, 4), (36, 25, 7), (30, 30, 2), (30, 30, 4)):
        state = RailState.from_env(sparse_env(seed=1, size=size, height=height, n_agents=n_agents))
        features, _ = observer.observe(state)
        np.testing.assert_array_equal(features, observer.observe(state)[0])
        np.testing.assert_array_equal(features, Observer(FEATURE_SETS["tree_conflicts"]).observe(state)[0])
