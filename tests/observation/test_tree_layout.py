"""Where the nodes of the tree stand in an observation."""

import numpy as np
import pytest

from tests.helpers.flatland_trees import tree_observation
from tests.helpers.playing import TIMETABLE
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import FEATURE_SETS, FeatureSet
from utils.observation.observer import Observer
from utils.observation.tree_observation import SAME_DIRECTION, TO_TARGET
from utils.simulator.rail_state import RailState


@pytest.mark.parametrize(
    "features", [*FEATURE_SETS.values(), FeatureSet("deep", 1, max_depth=3), FeatureSet("flat", 1, max_depth=1)]
)
def test_every_feature_stands_in_one_place_and_has_the_name_of_its_node(features: FeatureSet) -> None:
    layout = features.tree
    everywhere = np.concatenate([layout.nodes.ravel(), layout.others])
    assert sorted(everywhere.tolist()) == list(range(features.n_features))
    for node, row in zip(layout.names, layout.nodes, strict=True):
        assert [features.feature_names[i] for i in row] == [f"{node}.{name}" for name in layout.node_features]


def test_parents_are_the_nodes_before() -> None:
    layout = FeatureSet("deep", 1, max_depth=3).tree
    assert layout.parents[0] == -1
    for name, parent in zip(layout.names[1:], layout.parents[1:], strict=True):
        way = name.split(".")
        assert layout.names[parent] == (".".join(way[:-1]) or "root")


def test_columns_hold_what_the_nodes_hold() -> None:
    """Counts are only clipped on their way into an observation, and missing nodes become -1."""
    state = RailState.from_env(make_rail_env(ENV_CONFIGS["Test_1"], 3))
    observations, _ = Observer(TIMETABLE, safe_moves=False).observe(state)
    layout, nodes = TIMETABLE.tree, tree_observation(state, TIMETABLE.max_depth)
    by_node = observations[:, layout.nodes]
    counts = by_node[:, :, layout.node_features.index("same_direction")]
    np.testing.assert_array_equal(counts, np.clip(nodes[:, :, SAME_DIRECTION], -1, 1))
    missing = by_node[:, :, layout.node_features.index("to_target")] == -1
    np.testing.assert_array_equal(missing, nodes[:, :, TO_TARGET] == -np.inf)
