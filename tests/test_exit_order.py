"""``exit_order`` against the plain formulation of the same question, on generated levels with trains put anywhere."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rail_envs import sparse_env

from utils.exit_order import ExitOrder, clear_trains, find_exit_order, is_safe_after, place_trains
from utils.rail_grid import possible_move, resource_of
from utils.rail_state import COLUMN, DIRECTION, MOVING, ROW, STATE, RailState

Configuration = tuple[int, int, int]


def naive_has_way(state: RailState, handle: int, positions: dict[int, Configuration]) -> bool:
    """Whether there is a way to the target over cells where none of the other trains is."""
    taken = {resource_of(state.level_free, *at) for other, at in positions.items() if other != handle}
    seen, pending = {positions[handle]}, [positions[handle]]
    while pending:
        row, column, direction = pending.pop()
        if state.distance_map[handle, row, column, direction] == 0:
            return True
        for action in (1, 2, 3):
            to = possible_move(state.grid, row, column, direction, action)
            if to[0] >= 0 and to not in seen and resource_of(state.level_free, *to) not in taken:
                seen.add(to)
                pending.append(to)
    return False


def naive_leaving(state: RailState, positions: dict[int, Configuration]) -> set[int]:
    """The trains that can leave in some order."""
    left = dict(positions)
    while True:
        handle = next((handle for handle in left if naive_has_way(state, handle, left)), None)
        if handle is None:
            return set(positions) - set(left)
        del left[handle]


def scattered(seed: int, n_trains: int, n_on_map: int, **options: object) -> RailState:
    """A level with some trains put on cells from where they know a way to their target, each at a place of its own."""
    state = RailState.from_env(sparse_env(seed, n_agents=n_trains, size=25, **options))
    random = np.random.default_rng(seed)
    taken: set[int] = set()
    for handle in range(min(n_on_map, n_trains)):
        places = np.argwhere(np.isfinite(state.distance_map[handle]) & (state.distance_map[handle] > 0))
        for row, column, direction in random.permutation(places):
            resource = resource_of(state.level_free, row, column, direction)
            if resource not in taken:
                taken.add(resource)
                state.dynamic[[STATE, ROW, COLUMN, DIRECTION], handle] = MOVING, row, column, direction
                break
    return state


def positions_of(state: RailState) -> dict[int, Configuration]:
    return {
        handle: (int(state.row[handle]), int(state.column[handle]), int(state.direction[handle]))
        for handle in range(state.n_trains)
        if state.row[handle] >= 0
    }


def worked_out(state: RailState) -> tuple[ExitOrder, tuple[np.ndarray, ...]]:
    exits = ExitOrder.for_state(state)
    tables = (state.grid, state.distance_map, state.level_free, state.constants)
    place_trains(state.level_free, state.dynamic, exits)
    find_exit_order(*tables, exits)
    return exits, tables


LEVELS = {
    "seed": st.integers(0, 10_000),
    "n_on_map": st.integers(1, 12),
    "p_level_free": st.sampled_from([0.0, 0.8]),
}


@settings(max_examples=25, deadline=None)
@given(**LEVELS)
def test_who_can_leave(seed: int, n_on_map: int, p_level_free: float) -> None:
    state = scattered(seed, 12, n_on_map, p_level_free=p_level_free)
    exits, _ = worked_out(state)
    assert set(exits.by_rank[: exits.n_leaving[0]].tolist()) == naive_leaving(state, positions_of(state))
    left = positions_of(state)
    for handle in exits.by_rank[: exits.n_leaving[0]]:
        assert naive_has_way(state, handle, left)
        del left[handle]
    clear_trains(state.level_free, exits)
    assert not exits.occupant.any()


@settings(max_examples=25, deadline=None)
@given(**LEVELS, data=st.data())
def test_moves_are_judged_and_carried_out_one_after_the_other(
    seed: int, n_on_map: int, p_level_free: float, data: st.DataObject
) -> None:
    state = scattered(seed, 12, n_on_map, p_level_free=p_level_free)
    exits, tables = worked_out(state)
    positions = positions_of(state)
    for handle in data.draw(st.permutations(range(12))):
        leaving = naive_leaving(state, positions)
        if handle in positions:
            moves = [possible_move(state.grid, *positions[handle], action) for action in (1, 2, 3)]
        else:  # it enters the map
            initial = (state.initial_row[handle], state.initial_column[handle], state.initial_direction[handle])
            moves = [tuple(map(int, initial))]
        taken = {resource_of(state.level_free, *at) for at in positions.values()}
        moves = [to for to in moves if to[0] >= 0 and resource_of(state.level_free, *to) not in taken]
        for to in moves:
            after = positions | {handle: to}
            arrives = state.distance_map[(handle, *to)] == 0
            if arrives:
                del after[handle]
            still_leaving = naive_leaving(state, after)
            expected = leaving - {handle} <= still_leaving and (
                arrives or handle in still_leaving or (handle in positions and handle not in leaving)
            )
            if not np.isfinite(state.distance_map[(handle, *to)]):
                expected = False
            assert is_safe_after(handle, *to, False, *tables, exits) == expected
            if expected and data.draw(st.booleans()):
                assert is_safe_after(handle, *to, True, *tables, exits)
                positions = after
                break
