"""Who is a neighbour against a plain search in Python, and how observations are put together from their parts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.learning.neighbour_batches import assemble_batch
from tests.helpers.rail_envs import EAST, WEST, drawn_env, play, sparse_env
from utils.observation.feature_sets import FeatureSet, get_feature_set
from utils.observation.neighbour_rows import NeighbourRows, assemble
from utils.observation.neighbours import LOOK_AHEAD, N_RELATIONS, Relation
from utils.observation.observer import Observer
from utils.simulator.rail_grid import MOVE_FORWARD, MOVE_LEFT, MOVE_RIGHT, possible_move, resource_of
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import DONE, MOVING, configuration_of

TREE = get_feature_set("tree")
SEEDS = st.integers(0, 10_000)
Way = list[tuple[int, int]]


def seeing(n_neighbours: int, feature_set: FeatureSet = TREE) -> FeatureSet:
    return replace(feature_set, n_neighbours=n_neighbours)


def rows_of(observer: Observer) -> NeighbourRows:
    assert observer.rows is not None
    return observer.rows


def way(state: RailState, handle: int) -> Way:
    """Resource and direction of each cell of the shortest path; of two that are equally short the first one."""
    if state.state[handle] == DONE:
        return []
    at, to_go = configuration_of(handle, state.constants, state.dynamic), state.maps[state.next_map[handle]]
    cells = [at]
    while len(cells) < LOOK_AHEAD and 0 < to_go[at] < np.inf:
        moves = [possible_move(state.grid, *at, action) for action in (MOVE_FORWARD, MOVE_LEFT, MOVE_RIGHT)]
        at = min((to for to in moves if to[0] >= 0), key=lambda to: to_go[to])
        cells.append(at)
    return [(resource_of(state.level_free, *cell), cell[2]) for cell in cells]


def steps_to(state: RailState, handle: int, place: int) -> float:
    units, speed = place * state.denominator[handle], state.max_speed[handle]
    if state.row[handle] < 0:
        wait = max(state.malfunction[handle], state.earliest_departure[handle] - state.elapsed_steps)
        return 1 + wait + units / speed
    if place == 0:
        return 0.0
    return state.malfunction[handle] + (units - state.distance_in_cell[handle]) / speed


def expected(state: RailState, ways: list[Way], handle: int, n_neighbours: int) -> list[tuple[int, list[float]]]:
    """The neighbours of a train and what it knows of them, by comparing all cells of all ways."""
    found = []
    for other in set(range(state.n_trains)) - {handle}:
        pairs = [
            (own, its)
            for own, (resource, _) in enumerate(ways[handle])
            for its, (its_resource, _) in enumerate(ways[other])
            if resource == its_resource
        ]
        if pairs:
            step = min(max(steps_to(state, handle, own), steps_to(state, other, its)) for own, its in pairs)
            found.append((step, other, relation(state, ways, handle, other, step, pairs)))
    return [(other, known) for _, other, known in sorted(found)[:n_neighbours]]


def relation(
    state: RailState, ways: list[Way], handle: int, other: int, step: float, pairs: list[tuple[int, int]]
) -> list[float]:
    own, its = min(pairs)
    off_map, moves = state.row[other] < 0, state.state[other] == MOVING
    numbers = [
        1,
        own / 50,
        min(its for _, its in pairs) / 50,
        step / 50,
        (steps_to(state, other, its) - steps_to(state, handle, own)) / 20,
        len({its for _, its in pairs}) / 50,
        ways[handle][own][1] != ways[other][its][1],
        off_map,
        moves,
        not off_map and not moves,
        state.malfunction[other] / 20,
    ]
    return np.clip(numbers, -1, 1).tolist()


@settings(max_examples=8, deadline=None)
@given(
    seed=SEEDS, n_trains=st.integers(1, 14), n_neighbours=st.integers(1, 8), p_level_free=st.sampled_from([0.0, 1.0])
)
def test_neighbours_are_those_whose_ways_meet_the_soonest(
    seed: int, n_trains: int, n_neighbours: int, p_level_free: float
) -> None:
    env = sparse_env(seed, n_trains, size=25, p_level_free=p_level_free)
    state, observer = RailState.from_env(env), Observer(seeing(n_neighbours), safe_moves=False)
    for step, _ in enumerate(play(env, seed, random_share=0.2)):
        state.update(env)
        if step % 8 != 3:
            continue
        observer.observe(state)
        rows, ways = rows_of(observer), [way(state, handle) for handle in range(n_trains)]
        for handle in range(n_trains):
            wanted = expected(state, ways, handle, n_neighbours)
            handles = [other for other, _ in wanted]
            assert rows.neighbours[handle].tolist() == handles + [-1] * (n_neighbours - len(handles))
            np.testing.assert_allclose(rows.relations[handle, : len(wanted)], [r for _, r in wanted] or 0.0, atol=1e-6)
            assert not rows.relations[handle, len(wanted) :].any()


def test_two_trains_that_run_towards_each_other() -> None:
    """Between them are four cells; both come to the middle in three steps."""
    trains = [(((0, 1), EAST), (0, 7)), (((0, 6), WEST), (0, 0))]
    env = drawn_env(["<------>"], trains)
    for _ in range(2):
        env.step({0: 2, 1: 2})
    state, observer = RailState.from_env(env), Observer(seeing(2), safe_moves=False)
    assert state.column.tolist() == [1, 6]
    observer.observe(state)
    rows = rows_of(observer)
    assert rows.neighbours.tolist() == [[1, -1], [0, -1]]
    for relations in rows.relations[:, 0]:
        known = dict(zip(Relation, (relations * 50).round(4).tolist(), strict=True))
        assert known[Relation.THERE] == known[Relation.OPPOSED] == known[Relation.MOVING] == 50
        assert known[Relation.OWN_CELLS] == known[Relation.ITS_CELLS] == 0
        assert known[Relation.STEPS] == 3
        assert known[Relation.GAP] == pytest.approx(50 * 5 / 20)
        assert known[Relation.SHARED_CELLS] == 6


@settings(max_examples=4, deadline=None)
@given(seed=SEEDS, name=st.sampled_from(["tree", "tree_routes", "tree_plan"]), deciding_only=st.booleans())
def test_observations_are_put_together_from_rows(seed: int, name: str, deciding_only: bool) -> None:
    env, plain = sparse_env(seed, 9, size=25), get_feature_set(name)
    state, features = RailState.from_env(env), seeing(3, plain)
    observer, without = Observer(features, safe_moves=True), Observer(plain, safe_moves=True)
    for step, _ in enumerate(play(env, seed, random_share=0.2)):
        state.update(env)
        if step % 10 != 3:
            continue
        given = np.full((9, features.n_features), 7.0, dtype=np.float32)
        observations, mask = observer.observe(state, given, deciding_only=deciding_only)
        own, own_mask = without.observe(state)
        np.testing.assert_array_equal(mask, own_mask)
        rows, observes = rows_of(observer), (mask.sum(axis=1) > 1) | (not deciding_only)
        assert (observations[~observes] == 7).all()
        assert (rows.neighbours[~observes] == -1).all()
        looked_at = rows.neighbours[rows.neighbours >= 0]
        assert np.flatnonzero(rows.is_observed).tolist() == sorted({*np.flatnonzero(observes), *looked_at})
        for handle in np.flatnonzero(observes):
            parts = [own[handle]]
            for k, other in enumerate(rows.neighbours[handle]):
                parts += [rows.relations[handle, k], own[other] if other >= 0 else np.zeros(plain.n_features)]
            np.testing.assert_array_equal(observations[handle], np.concatenate(parts))


def test_kept_parts_are_put_together_alike_in_numpy_and_in_torch() -> None:
    random = np.random.default_rng(0)
    own = random.random((20, 6), dtype=np.float32)
    relations = random.random((20, 3, N_RELATIONS), dtype=np.float32)
    ahead = random.integers(-19, 20, (20, 3), dtype=np.int32)  # in a ring
    ahead[::2, 1] = 0
    rows = random.integers(0, 20, 50)
    observations = np.full((50, 6 + 3 * (N_RELATIONS + 6)), np.nan, dtype=np.float32)
    assemble(rows, own, ahead, relations, observations)
    for row, observation in zip(rows, observations, strict=True):
        of_neighbours = np.where(ahead[row, :, np.newaxis] != 0, own[(row + ahead[row]) % 20], 0)
        wanted = np.concatenate([own[row], np.concatenate([relations[row], of_neighbours], axis=1).ravel()])
        np.testing.assert_array_equal(observation, wanted)
    batch = assemble_batch(*(torch.from_numpy(array) for array in (rows, own, ahead, relations)))
    np.testing.assert_array_equal(batch.numpy(), observations)


def test_one_observer_serves_levels_of_different_sizes() -> None:
    observer = Observer(seeing(4), safe_moves=False)
    for size, n_trains in ((30, 7), (25, 7), (25, 2), (30, 9)):
        state = RailState.from_env(sparse_env(seed=1, size=size, n_agents=n_trains))
        again, _ = Observer(seeing(4), safe_moves=False).observe(state)
        np.testing.assert_array_equal(observer.observe(state)[0], again)


class TestFeatureSet:
    def test_tells_where_all_stands(self) -> None:
        plain, features = get_feature_set("tree_plan"), seeing(3, get_feature_set("tree_plan"))
        assert features.n_own_features == plain.n_features
        assert features.n_features == len(set(features.feature_names)) == 3 * (N_RELATIONS + 314) + 314
        for part in ("route_features", "plan_features", "stop_features", "label", "own_feature_names"):
            assert getattr(features, part) == getattr(plain, part)
        np.testing.assert_array_equal(features.tree.others, plain.tree.others)
        names = features.feature_names
        for k, (relations, own) in enumerate(zip(features.relations, features.neighbours, strict=True)):
            assert names[relations] == tuple(f"neighbour_{k}.relation_{name.name.lower()}" for name in Relation)
            assert names[own] == tuple(f"neighbour_{k}.{name}" for name in plain.feature_names)

    def test_refuses_too_many(self) -> None:
        with pytest.raises(ValueError, match="there are 9 neighbours; there must be 0 to 8"):
            seeing(9)
