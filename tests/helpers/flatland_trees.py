"""flatland's trees and the classic kit's normalisation, to compare the compiled observation with."""

import numpy as np
from flatland.envs.observations import Node, TreeObsForRailEnv
from flatland.envs.predictions import ShortestPathPredictorForRailEnv
from flatland.envs.rail_env import RailEnv
from numpy.typing import NDArray

from tests.helpers.rail_envs import play
from utils.observation.feature_sets import FeatureSet
from utils.observation.observer import Observer
from utils.observation.tree_observation import (
    N_NODE_VALUES,
    TreeScratch,
    count_nodes,
    explore_tree,
    mark_waiting_trains,
)
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import StateArrays, mark_trains, unmark_trains
from utils.system.compiled import Arrays, compiled

INF = np.inf


def flatland_trees(env: RailEnv, builder: TreeObsForRailEnv) -> dict[int, Node]:
    """flatland's trees of all trains in the present step."""
    return builder.get_many(list(range(len(env.agents))))


def flatland_tree_builder(env: RailEnv, max_depth: int) -> TreeObsForRailEnv:
    builder = TreeObsForRailEnv(max_depth, ShortestPathPredictorForRailEnv(30))
    builder.reset(env)
    return builder


def values_in_preorder(node: Node | float, depth: int, max_depth: int) -> list[list[float]]:
    """The values of a flatland subtree, missing nodes as -inf."""
    if not isinstance(node, Node):
        return [[-INF] * N_NODE_VALUES for _ in range(count_nodes(max_depth - depth))]
    rows = [[float(value) for value in node[:N_NODE_VALUES]]]
    if depth < max_depth:
        for branch in "LFRB":
            rows += values_in_preorder(node.childs[branch], depth + 1, max_depth)
    return rows


def largest_below(values: np.ndarray, bound: float) -> float:
    """The largest value in [0, bound), 0 if there is none."""
    return max((value for value in values if 0 <= value < bound), default=0)


def smallest_from(values: np.ndarray, bound: float) -> float:
    """The smallest value of at least ``bound``, inf if there is none."""
    return min((value for value in values if value >= bound), default=INF)


def classic_clip(values: np.ndarray, radius: int = 0, to_range: bool = False) -> np.ndarray:
    """``norm_obs_clip`` of the classic starter kit."""
    largest = radius if radius > 0 else max(1, largest_below(values, 1000)) + 1
    smallest = smallest_from(values, 0) if to_range else 0
    smallest = min(smallest, largest)
    if largest == smallest:
        return np.clip(values / largest, -1, 1)
    return np.clip((values - smallest) / abs(largest - smallest), -1, 1)


def classic_normalization(tree: Node, max_depth: int, radius: int) -> np.ndarray:
    """``normalize_observation`` of the classic starter kit."""
    nodes = np.array(values_in_preorder(tree, 0, max_depth))
    data = classic_clip(nodes[:, :6].ravel(), radius=radius)
    distance = classic_clip(nodes[:, 6], to_range=True)
    agent_data = np.clip(nodes[:, 7:11].ravel(), -1, 1)
    return np.concatenate((data, distance, agent_data))


def assert_trees_equal(env: RailEnv, seed: int, random_share: float, max_depth: int, every: int) -> np.ndarray:
    """Plays an episode, comparing all trees at every so many steps; returns all trees."""
    state = RailState.from_env(env)
    builder = flatland_tree_builder(env, max_depth)
    observer = Observer(FeatureSet("test", 1, max_depth), safe_moves=False)
    compared = []
    for step, _ in enumerate(play(env, seed, random_share)):
        if step % every:
            continue
        state.update(env)
        trees = flatland_trees(env, builder)
        expected = np.array([values_in_preorder(trees[handle], 0, max_depth) for handle in trees])
        nodes = tree_observation(state, max_depth)
        np.testing.assert_array_equal(nodes, expected)
        features, _ = observer.observe(state)
        classic = np.array([classic_normalization(trees[handle], max_depth, 10) for handle in trees])
        np.testing.assert_array_equal(features, classic.astype(np.float32))
        compared.append(nodes)
    return np.concatenate(compared)


@compiled
def _explore_trees(max_depth: int, state_arrays: Arrays, scratch_arrays: Arrays, nodes: np.ndarray) -> None:
    arrays, scratch = StateArrays(*state_arrays), TreeScratch(*scratch_arrays)
    width, constants, dynamic = arrays.grid.shape[1], arrays.constants, arrays.dynamic
    mark_trains(arrays.occupant, arrays.level_free, dynamic)
    mark_waiting_trains(scratch.waiting, width, constants, dynamic, 1)
    for handle in range(dynamic.shape[1]):
        explore_tree(handle, max_depth, arrays, scratch, nodes[handle])
    mark_waiting_trains(scratch.waiting, width, constants, dynamic, -1)
    unmark_trains(arrays.occupant, arrays.level_free, dynamic)


def tree_observation(state: RailState, max_depth: int) -> NDArray[np.float64]:
    """The trees of all trains, float64 [trains, count_nodes(max_depth), N_NODE_VALUES], not normalised.

    For comparing them with flatland's. ``Observer`` normalises as it goes and keeps its scratch memory.
    """
    scratch = TreeScratch.for_state(state, max_depth)
    nodes = np.empty((state.n_trains, count_nodes(max_depth), N_NODE_VALUES), dtype=np.float64)
    _explore_trees(max_depth, state.arrays, tuple(scratch), nodes)
    return nodes
