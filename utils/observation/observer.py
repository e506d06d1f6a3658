"""What the policies see: named feature sets, and the observer that fills features and action masks in one call."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from utils.observation.more_features import MoreFeatures, checked_features
from utils.observation.route_features import N_ROUTE_FEATURES, ROUTE_FEATURE_NAMES, RouteSearch, fill_route_features
from utils.observation.timetable_features import (
    N_TIMETABLE_FEATURES,
    TIMETABLE_FEATURE_NAMES,
    fill_timetable_features,
    shares_of_trains,
)
from utils.observation.tree_layout import TreeLayout, tree_layout
from utils.observation.tree_observation import (
    BRANCHES,
    N_NODE_VALUES,
    OWN_TARGET,
    SAME_DIRECTION,
    TO_TARGET,
    TreeScratch,
    count_nodes,
    explore_tree,
    mark_waiting_trains,
)
from utils.safe_moves.safe_moves import SafeMoves
from utils.simulator.action_mask import fill_masks, is_choice, stops_everywhere
from utils.simulator.rail_grid import N_ACTIONS, clip
from utils.simulator.rail_state import RailState, mark_trains, unmark_trains
from utils.system.compiled import compiled, compiled_helper

_DISTANCE_NAMES = (
    "own_target",
    "other_target",
    "other_train",
    "potential_conflict",
    "unusable_switch",
    "next_branch",
)
_COUNT_NAMES = ("same_direction", "opposite_direction", "malfunction", "slowest_speed")
_N_DISTANCES = len(_DISTANCE_NAMES)
_N_COUNTS = len(_COUNT_NAMES)
FEATURES_PER_NODE = _N_DISTANCES + 1 + _N_COUNTS

# Distances to the target that are larger do not set the scale of a tree; as in the classic kit.
_LARGEST_SCALE = 1000


@dataclass(frozen=True)
class FeatureSet:
    """A named, versioned way to turn a ``RailState`` into numbers. Checkpoints store its name and version.

    Attributes:
        name, version: which features, in which order; a change of either makes other inputs of a network.
        max_depth: depth of the tree, from 1.
        radius: cells at which the tree's distances are clipped, from 1.
        with_timetable: whether ``TIMETABLE_FEATURE_NAMES`` follow the tree's features.
        with_routes: whether ``ROUTE_FEATURE_NAMES`` come next.
        more: features of the user's own, which come last; None: there are none.
    """

    name: str
    version: int
    max_depth: int = 2
    radius: int = 10
    with_timetable: bool = False
    with_routes: bool = False
    more: MoreFeatures | None = None

    def __post_init__(self) -> None:
        if self.max_depth < 1:
            raise ValueError(f"the depth of the tree is {self.max_depth}; it must be at least 1")
        if self.radius < 1:
            raise ValueError(f"the observation radius is {self.radius}; it must be at least 1")

    @property
    def n_tree_features(self) -> int:
        """231 at depth 2."""
        return count_nodes(self.max_depth) * FEATURES_PER_NODE

    @property
    def n_features(self) -> int:
        """The length of an observation."""
        return self.n_tree_features + len(self._more_names)

    @property
    def _more_names(self) -> tuple[str, ...]:
        """Names of the features behind the tree."""
        more = self.more
        return (
            (TIMETABLE_FEATURE_NAMES if self.with_timetable else ())
            + (ROUTE_FEATURE_NAMES if self.with_routes else ())
            + (tuple(f"{more.name}.{k}" for k in range(more.n_features)) if more else ())
        )

    @property
    def route_features(self) -> slice | None:
        """Where ``ROUTE_FEATURE_NAMES`` stand in an observation; None if there are none."""
        end = self.n_features - (self.more.n_features if self.more else 0)
        return slice(end - N_ROUTE_FEATURES, end) if self.with_routes else None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """A name for each feature, such as ``left.forward.next_branch``."""
        nodes = _node_names(self.max_depth)
        names = [f"{node}.{name}" for node in nodes for name in _DISTANCE_NAMES]
        names += [f"{node}.to_target" for node in nodes]
        names += [f"{node}.{name}" for node in nodes for name in _COUNT_NAMES]
        return tuple(names) + self._more_names

    @property
    def tree(self) -> TreeLayout:
        """Where the nodes of the tree stand in an observation."""
        return tree_layout(self.feature_names, self.n_tree_features)

    @property
    def label(self) -> str:
        """Name and version, those of the user's features included."""
        more = self.more
        return f"{self.name} version {self.version}" + (f" with {more.name} version {more.version}" if more else "")


def _node_names(max_depth: int, node: str = "root", depth: int = 0) -> list[str]:
    """Names of the nodes of a subtree in preorder."""
    names = [node]
    if depth < max_depth:
        for branch in BRANCHES:
            names += _node_names(max_depth, branch if depth == 0 else f"{node}.{branch}", depth + 1)
    return names


FEATURE_SETS = {
    feature_set.name: feature_set
    for feature_set in (
        FeatureSet("tree", 1),
        FeatureSet("tree_timetable", 1, with_timetable=True),
        FeatureSet("tree_routes", 1, with_timetable=True, with_routes=True),
    )
}
DEFAULT_FEATURE_SET = FEATURE_SETS["tree"]


def get_feature_set(name: str, max_depth: int = 2, radius: int = 10) -> FeatureSet:
    """The registered feature set of that name, with another depth or radius if given.

    Raises:
        ValueError: there is no such feature set, or depth or radius is below 1.
    """
    if name not in FEATURE_SETS:
        raise ValueError(f"there is no feature set {name!r}; there are {', '.join(FEATURE_SETS)}")
    return replace(FEATURE_SETS[name], max_depth=max_depth, radius=radius)


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
        for offset in range(_N_COUNTS):
            features[counts + index * _N_COUNTS + offset] = clip(node[SAME_DIRECTION + offset])


@compiled
def _observe(
    max_depth: int,
    radius: int,
    with_timetable: bool,
    deciding_only: bool,
    elapsed_steps: int,
    max_episode_steps: int,
    grid: np.ndarray,
    distance_map: np.ndarray,
    level_free: np.ndarray,
    has_target: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    occupant: np.ndarray,
    waiting: np.ndarray,
    visited: np.ndarray,
    n_branches: np.ndarray,
    stack: np.ndarray,
    nodes: np.ndarray,
    mask: np.ndarray,
    features: np.ndarray,
) -> None:
    mark_trains(occupant, level_free, dynamic)
    mark_waiting_trains(waiting, grid.shape[1], constants, dynamic, 1)
    n_tree_features = nodes.shape[0] * FEATURES_PER_NODE
    on_map, arrived = shares_of_trains(dynamic)
    for handle in range(dynamic.shape[1]):
        if deciding_only and not is_choice(mask[handle]):
            continue
        explore_tree(
            handle,
            max_depth,
            grid,
            distance_map,
            has_target,
            constants,
            dynamic,
            occupant,
            waiting,
            visited,
            n_branches,
            stack,
            nodes,
        )
        normalize_tree(nodes, radius, features[handle, :n_tree_features])
        if with_timetable:
            fill_timetable_features(
                handle,
                elapsed_steps,
                max_episode_steps,
                on_map,
                arrived,
                grid,
                distance_map,
                level_free,
                constants,
                dynamic,
                occupant,
                features[handle, n_tree_features : n_tree_features + N_TIMETABLE_FEATURES],
            )
    mark_waiting_trains(waiting, grid.shape[1], constants, dynamic, -1)
    unmark_trains(occupant, level_free, dynamic)


class Observer:
    """Observations and action masks of all trains in one compiled call, with memory that is used again.

    One observer serves levels of any size, one after the other; it is not to be shared between threads.

    Args:
        feature_set: which features.
        action_mask, decision_points: see ``action_mask.action_mask``.
        safe_moves: whether moves that could end in a deadlock are taken out of the action mask, see ``safe_moves``.

    Raises:
        ValueError: ``decision_points`` is not known.
    """

    def __init__(
        self,
        feature_set: FeatureSet = DEFAULT_FEATURE_SET,
        action_mask: bool = True,
        decision_points: str = "every_cell",
        safe_moves: bool = False,
    ) -> None:
        self.feature_set = feature_set
        self._all_actions = not action_mask
        self._stop_everywhere = stops_everywhere(decision_points)
        self._n_features = feature_set.n_features
        self._nodes = np.empty((count_nodes(feature_set.max_depth), N_NODE_VALUES), dtype=np.float64)
        self._scratch = TreeScratch(0, feature_set.max_depth)
        self._routes: RouteSearch | None = None
        self._safe_moves = SafeMoves(safe_moves)

    def observe(
        self,
        state: RailState,
        features: NDArray[np.float32] | None = None,
        mask: NDArray[np.bool_] | None = None,
        deciding_only: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Features, float32 [trains, n_features], and action mask, bool [trains, 5].

        Both are new arrays, unless C-contiguous arrays of those shapes are given to be filled. With ``deciding_only``
        the kit's features of trains without a choice are left as they are, which in most steps saves most of the work.

        Raises:
            ValueError: the arrays have other shapes.
            FeaturesError: features of the user's own cannot be used.
        """
        if features is None:
            features = np.empty((state.n_trains, self._n_features), dtype=np.float32)
        if mask is None:
            mask = np.empty((state.n_trains, N_ACTIONS), dtype=np.bool_)
        if features.shape != (state.n_trains, self._n_features) or mask.shape != (state.n_trains, N_ACTIONS):
            raise ValueError(
                f"features {features.shape} and mask {mask.shape} do not fit {state.n_trains} trains "
                f"with {self._n_features} features and {N_ACTIONS} actions"
            )
        if self._scratch.n_cells != state.grid.size:
            self._scratch = TreeScratch(state.grid.size, self.feature_set.max_depth)
        scratch = self._scratch
        grid, constants, dynamic = state.grid, state.constants, state.dynamic
        fill_masks(self._all_actions, self._stop_everywhere, grid, constants, dynamic, mask)
        if self._safe_moves.enabled or self.feature_set.with_routes:
            safe = self._safe_moves.restrict(state, mask)
        _observe(
            self.feature_set.max_depth,
            self.feature_set.radius,
            self.feature_set.with_timetable,
            deciding_only,
            state.elapsed_steps,
            state.max_episode_steps,
            grid,
            state.distance_map,
            state.level_free,
            state.has_target,
            constants,
            dynamic,
            state.occupant,
            scratch.waiting,
            scratch.visited,
            scratch.n_branches,
            scratch.stack,
            self._nodes,
            mask,
            features,
        )
        if self.feature_set.route_features:
            self.fill_routes(state, safe, deciding_only, mask, features[:, self.feature_set.route_features])
        if more := self.feature_set.more:
            features[:, -more.n_features :] = checked_features(more, state)
        return features, mask

    def fill_routes(
        self,
        state: RailState,
        safe: NDArray[np.int8],
        deciding_only: bool,
        mask: NDArray[np.bool_],
        features: NDArray[np.float32],
    ) -> None:
        """Fills ``features``, float32 [trains, N_ROUTE_FEATURES], with ``safe`` from ``SafeMoves.restrict``."""
        if self._routes is None or not self._routes.fits(state):
            self._routes = RouteSearch.for_state(state)
        fill_route_features(
            state.elapsed_steps,
            state.max_episode_steps,
            state.grid,
            state.distance_map,
            state.level_free,
            state.constants,
            state.dynamic,
            state.occupant,
            safe,
            deciding_only,
            mask,
            self._routes,
            features,
        )

    def settle(self, state: RailState, actions: NDArray[np.int64]) -> None:
        """Makes trains wait, in ``actions``, int64 [trains], whose moves are not safe together with the others'.

        ``state`` must be the one that was observed before the actions were chosen.
        """
        self._safe_moves.settle(state, actions)


def observe(
    state: RailState, feature_set: FeatureSet = DEFAULT_FEATURE_SET
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One observation without keeping an ``Observer``: features [trains, n_features] and action mask [trains, 5]."""
    return Observer(feature_set).observe(state)
