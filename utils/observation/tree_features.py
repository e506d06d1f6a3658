"""The features of a tree observation, as the classic kit's ``normalize_observation`` makes them. Compiled."""

import numpy as np

from utils.observation.tree_observation import BRANCHES, OWN_TARGET, SAME_DIRECTION, TO_TARGET
from utils.simulator.rail_grid import clip
from utils.system.compiled import compiled_helper

_DISTANCE_NAMES = ("own_target", "other_target", "other_train", "potential_conflict", "unusable_switch", "next_branch")
_NODE_COUNT_NAMES = ("same_direction", "opposite_direction", "malfunction", "slowest_speed")
_N_DISTANCES = len(_DISTANCE_NAMES)
_N_NODE_COUNTS = len(_NODE_COUNT_NAMES)
FEATURES_PER_NODE = _N_DISTANCES + 1 + _N_NODE_COUNTS

# Distances to the target that are larger do not set the scale of a tree; as in the classic kit.
_LARGEST_SCALE = 1000


def tree_feature_names(max_depth: int) -> tuple[str, ...]:
    """A name for each feature of a tree, in their order, such as ``left.forward.next_branch``."""
    nodes = _node_names(max_depth)
    names = [f"{node}.{name}" for node in nodes for name in _DISTANCE_NAMES]
    names += [f"{node}.to_target" for node in nodes]
    names += [f"{node}.{name}" for node in nodes for name in _NODE_COUNT_NAMES]
    return tuple(names)


def _node_names(max_depth: int, node: str = "root", depth: int = 0) -> list[str]:
    """Names of the nodes of a subtree in preorder."""
    names = [node]
    if depth < max_depth:
        for branch in BRANCHES:
            names += _node_names(max_depth, branch if depth == 0 else f"{node}.{branch}", depth + 1)
    return names


@compiled_helper
def normalize_tree(nodes: np.ndarray, radius: int, features: np.ndarray) -> None:
    """Turn the nodes of one tree into features, as the classic kit's ``normalize_observation`` does.

    The order is by kind, not by node: six distances for each node, clipped at ``radius`` cells; then the distance
    to the target for each node, scaled to its range over the tree; then four counts for each node, clipped to
    -1..1. Missing nodes become -1, missing distances 1. Computed in float64, rounded to float32 at the end.

    Args:
        nodes: float64 [nodes, N_NODE_VALUES], see ``tree_observation``.
        features: float32 [nodes x FEATURES_PER_NODE], filled.
    """
    n_nodes = nodes.shape[0]
    largest = 0.0
    smallest = np.inf
    for index in range(n_nodes):
        distance = nodes[index, TO_TARGET]
        if 0.0 <= distance < _LARGEST_SCALE:
            largest = max(largest, distance)
        if distance >= 0.0:
            smallest = min(smallest, distance)
    largest = max(1.0, largest) + 1.0
    smallest = min(smallest, largest)
    scale = largest - smallest
    if scale == 0.0:  # no node knows a way to the target
        smallest, scale = 0.0, largest

    to_target = n_nodes * _N_DISTANCES
    counts = to_target + n_nodes
    for index in range(n_nodes):
        node = nodes[index]
        for offset in range(_N_DISTANCES):
            features[index * _N_DISTANCES + offset] = clip(node[OWN_TARGET + offset] / radius)
        features[to_target + index] = clip((node[TO_TARGET] - smallest) / scale)
        for offset in range(_N_NODE_COUNTS):
            features[counts + index * _N_NODE_COUNTS + offset] = clip(node[SAME_DIRECTION + offset])
