"""What policies can see: named feature sets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.observation.more_features import MoreFeatures
from utils.observation.neighbours import MOST_NEIGHBOURS, N_RELATIONS, Relation
from utils.observation.plan_features import PLAN_FEATURE_NAMES
from utils.observation.route_features import ROUTE_FEATURE_NAMES
from utils.observation.stop_features import STOP_FEATURE_NAMES
from utils.observation.timetable_features import TIMETABLE_FEATURE_NAMES
from utils.observation.tree_features import FEATURES_PER_NODE, tree_feature_names
from utils.observation.tree_observation import count_nodes

# The classic kit's tree.
CLASSIC_DEPTH = 2
CLASSIC_RADIUS = 10  # cells


@dataclass(frozen=True)
class TreeLayout:
    """Indices into an observation: ``observations[:, layout.nodes]`` is ``[batch, nodes, features of a node]``."""

    names: tuple[str, ...]  # of the nodes in preorder: ``root``, ``left``, ``left.left`` and so on
    node_features: tuple[str, ...]  # names of the features of a node, in the order of the columns of ``nodes``
    nodes: NDArray[np.int64]  # [nodes, features of a node]
    parents: NDArray[np.int64]  # [nodes], the row of each node's parent; -1 for the root
    others: NDArray[np.int64]  # [other features], where all features stand that belong to no node


@dataclass(frozen=True)
class FeatureSet:
    """A named, versioned way to turn a ``RailState`` into numbers. Checkpoints store its name and version.

    Attributes:
        name, version: which features, in which order; a change of either makes other inputs of a network.
        max_depth: depth of the tree, from 1.
        radius: cells at which the tree's distances are clipped, from 1.
        with_timetable: whether ``TIMETABLE_FEATURE_NAMES`` follow the tree's features.
        with_routes: whether ``ROUTE_FEATURE_NAMES`` come next.
        with_stops: whether ``STOP_FEATURE_NAMES`` come after those.
        with_plan: whether ``PLAN_FEATURE_NAMES`` come next; moves of the plan are then safe moves, too.
        more: features of the user's own, which come last; None: there are none.
        n_neighbours: how many neighbours a train sees, at most; what it sees of each of them comes behind all that it
            sees of itself: ``Relation``, then what the neighbour sees of itself. Zeros where there is none.
    """

    name: str
    version: int
    max_depth: int = CLASSIC_DEPTH
    radius: int = CLASSIC_RADIUS
    with_timetable: bool = False
    with_routes: bool = False
    with_stops: bool = False
    with_plan: bool = False
    more: MoreFeatures | None = None
    n_neighbours: int = 0

    def __post_init__(self) -> None:
        if self.max_depth < 1:
            raise ValueError(f"the depth of the tree is {self.max_depth}; it must be at least 1")
        if self.radius < 1:
            raise ValueError(f"the observation radius is {self.radius}; it must be at least 1")
        if not 0 <= self.n_neighbours <= MOST_NEIGHBOURS:
            raise ValueError(f"there are {self.n_neighbours} neighbours; there must be 0 to {MOST_NEIGHBOURS}")

    @property
    def n_tree_features(self) -> int:
        """231 at depth 2."""
        return count_nodes(self.max_depth) * FEATURES_PER_NODE

    @property
    def n_features(self) -> int:
        """The length of an observation."""
        return self.n_own_features + self.n_neighbours * (N_RELATIONS + self.n_own_features)

    @property
    def n_own_features(self) -> int:
        """How many features a train sees of itself; they come first in an observation."""
        return self.n_tree_features + len(self._more_names)

    @property
    def relations(self) -> tuple[slice, ...]:
        """Where ``Relation`` stands in an observation, for each neighbour."""
        begins = range(self.n_own_features, self.n_features, N_RELATIONS + self.n_own_features)
        return tuple(slice(begin, begin + N_RELATIONS) for begin in begins)

    @property
    def neighbours(self) -> tuple[slice, ...]:
        """Where each neighbour's own features stand in an observation."""
        return tuple(slice(of.stop, of.stop + self.n_own_features) for of in self.relations)

    @property
    def _more_names(self) -> tuple[str, ...]:
        """Names of the features behind the tree."""
        more = self.more
        return (
            (TIMETABLE_FEATURE_NAMES if self.with_timetable else ())
            + (ROUTE_FEATURE_NAMES if self.with_routes else ())
            + (STOP_FEATURE_NAMES if self.with_stops else ())
            + (PLAN_FEATURE_NAMES if self.with_plan else ())
            + (tuple(f"{more.name}.{k}" for k in range(more.n_features)) if more else ())
        )

    def _place_of(self, names: tuple[str, ...]) -> slice | None:
        if names[0] not in self._more_names:
            return None
        begin = self.n_tree_features + self._more_names.index(names[0])
        return slice(begin, begin + len(names))

    @property
    def route_features(self) -> slice | None:
        """Where ``ROUTE_FEATURE_NAMES`` stand in an observation; None if there are none."""
        return self._place_of(ROUTE_FEATURE_NAMES)

    @property
    def stop_features(self) -> slice | None:
        """Where ``STOP_FEATURE_NAMES`` stand in an observation; None if there are none."""
        return self._place_of(STOP_FEATURE_NAMES)

    @property
    def plan_features(self) -> slice | None:
        """Where ``PLAN_FEATURE_NAMES`` stand in an observation; None if there are none."""
        return self._place_of(PLAN_FEATURE_NAMES)

    @property
    def own_feature_names(self) -> tuple[str, ...]:
        """A name for each feature that a train sees of itself, such as ``left.forward.next_branch``."""
        return tree_feature_names(self.max_depth) + self._more_names

    @property
    def feature_names(self) -> tuple[str, ...]:
        """A name for each feature; those of neighbours begin with ``neighbour_0.``, ``neighbour_1.`` and so on."""
        own = self.own_feature_names
        of_neighbour = (*(f"relation_{relation.name.lower()}" for relation in Relation), *own)
        return own + tuple(f"neighbour_{k}.{name}" for k in range(self.n_neighbours) for name in of_neighbour)

    @property
    def tree(self) -> TreeLayout:
        """Where the nodes of a train's own tree stand among the features that it sees of itself."""
        feature_names = self.own_feature_names
        indices: dict[str, list[int]] = {}
        for index, name in enumerate(feature_names[: self.n_tree_features]):
            indices.setdefault(name.rpartition(".")[0], []).append(index)
        rows = {name: row for row, name in enumerate(indices)}
        root, *below = rows
        return TreeLayout(
            names=tuple(rows),
            node_features=tuple(feature_names[index].rpartition(".")[2] for index in indices[root]),
            nodes=np.array(list(indices.values()), dtype=np.int64),
            parents=np.array([-1] + [rows[name.rpartition(".")[0] or root] for name in below], dtype=np.int64),
            others=np.arange(self.n_tree_features, len(feature_names), dtype=np.int64),
        )

    @property
    def label(self) -> str:
        """Name and version, those of the user's features included."""
        more = self.more
        return f"{self.name} version {self.version}" + (f" with {more.name} version {more.version}" if more else "")


FEATURE_SETS = {
    feature_set.name: feature_set
    for feature_set in (
        FeatureSet("tree", 1),
        FeatureSet("tree_timetable", 1, with_timetable=True),
        FeatureSet("tree_routes", 1, with_timetable=True, with_routes=True),
        FeatureSet("tree_routes_stops", 1, with_timetable=True, with_routes=True, with_stops=True),
        FeatureSet("tree_plan", 1, with_timetable=True, with_routes=True, with_plan=True),
    )
}


def get_feature_set(name: str) -> FeatureSet:
    """The registered feature set of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in FEATURE_SETS:
        raise ValueError(f"there is no feature set {name!r}; there are {', '.join(FEATURE_SETS)}")
    return FEATURE_SETS[name]
