"""Detours against a plain shortest-path search in networkx, and what the features say of drawn situations."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import EAST, ONE_SPEED, WEST, drawn_env, play, sparse_env
from utils.observation import route_features
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.rules.route_search import MAX_DETOUR, OPPOSING_CELLS, RouteSearch
from utils.simulator.rail_grid import possible_move, resource_of
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import StateArrays, mark_trains, unmark_trains
from utils.system.compiled import compiled

find_detour = compiled(route_features.find_detour)

FEATURES = get_feature_set("tree_routes")


def naive_detour(state: RailState, handle: int, start: tuple[int, int, int]) -> float:
    """The same by Dijkstra over all configurations, for levels without malfunctions."""
    if np.isinf(state.distance_map[(handle, *start)]):
        return MAX_DETOUR
    in_the_way = {
        resource_of(state.level_free, state.row[other], state.column[other], state.direction[other]): other
        for other in range(state.n_trains)
        if state.row[other] >= 0 and other != handle
    }

    def hindrance(at: tuple[int, int, int]) -> int:
        other = in_the_way.get(resource_of(state.level_free, *at))
        return OPPOSING_CELLS if other is not None and state.direction[other] != at[2] else 0

    graph = nx.DiGraph()
    graph.add_node(start)
    for row, column, direction in np.argwhere(np.isfinite(state.distance_map[handle])).tolist():
        for action in (1, 2, 3):
            to = possible_move(state.grid, row, column, direction, action)
            if to[0] >= 0:
                graph.add_edge((row, column, direction), to, weight=1 + hindrance(to))
    lengths = nx.single_source_dijkstra_path_length(graph, start)
    targets = [at for at in lengths if state.distance_map[(handle, *at)] == 0]
    return min(lengths[at] for at in targets) + hindrance(start) - state.distance_map[(handle, *start)]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), n_trains=st.integers(2, 12))
@example(seed=3842, n_trains=5)  # a train comes to where no way leads to its target
def test_detours_are_the_shortest(seed: int, n_trains: int) -> None:
    env = sparse_env(seed, n_trains, size=25, speeds=ONE_SPEED, malfunction_rate=0.0)
    state = RailState.from_env(env)
    search = RouteSearch.for_state(state)
    for step, _ in enumerate(play(env, seed=seed, random_share=0.1)):
        state.update(env)
        if step % 10 != 5:
            continue
        mark_trains(state.occupant, state.level_free, state.dynamic)
        arrays = StateArrays(*state.arrays)
        for handle in range(n_trains):
            if state.row[handle] < 0:
                continue
            at = (int(state.row[handle]), int(state.column[handle]), int(state.direction[handle]))
            expected = min(naive_detour(state, handle, at), MAX_DETOUR)
            assert find_detour(handle, *at, arrays, search) == expected
        unmark_trains(state.occupant, state.level_free, state.dynamic)
    assert (search.detour == -1).all()
    assert (search.bucket == -1).all()


# Two ways from west to east, the lower one two cells longer.
PASSING = ["<-v---^->", "  |   |  ", "  L---J  "]
SWITCHES = {"v": ("WE", "WS"), "^": ("EW", "ES")}


def features_of(trains: list, handle: int = 0, **malfunctions: int) -> dict[str, float]:
    env = drawn_env(PASSING, trains, switches=SWITCHES)
    env.step({})
    env.step(dict.fromkeys(range(len(trains)), 2))
    for name, steps in malfunctions.items():
        env.agents[int(name.removeprefix("train_"))].malfunction_handler.malfunction_down_counter = steps
    features, _ = Observer(FEATURES, safe_moves=False).observe(RailState.from_env(env))
    return dict(zip(FEATURES.feature_names, features[handle].tolist(), strict=True))


TRAIN = (((0, 2), EAST), (0, 8))


def test_alone_the_long_way_costs_its_cells() -> None:
    features = features_of([TRAIN])
    assert features["forward_detour"] == 0.0
    assert features["right_detour"] == pytest.approx(4 / MAX_DETOUR)
    assert features["right_extra_detour"] == pytest.approx(0.4)
    assert features["left_detour"] == 1.0
    assert features["forward_safe"] == features["right_safe"] == 1.0


def test_a_train_that_comes_the_other_way_makes_the_long_way_the_better_one() -> None:
    features = features_of([TRAIN, (((0, 5), WEST), (0, 0))])
    assert features["forward_detour"] == pytest.approx(OPPOSING_CELLS / MAX_DETOUR)
    assert features["right_detour"] == pytest.approx(4 / MAX_DETOUR)
    assert features["forward_safe"] == -1.0
    assert features["right_safe"] == 1.0


def test_a_broken_train_counts_until_it_is_repaired() -> None:
    features = features_of([TRAIN, (((0, 4), EAST), (0, 8))], train_1=12)
    # one cell lies before it, so eleven steps of the malfunction are left when its cell is reached
    assert features["forward_detour"] == pytest.approx(min(11, 12 - 1) / MAX_DETOUR)
    assert features["forward_slack"] > -1.0
