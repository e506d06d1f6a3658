"""Exit order and judged moves against the plain formulation of the same question, on levels with trains anywhere."""

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import sparse_env
from utils.safe_moves import exit_order, move_judgement
from utils.safe_moves.exit_order import follow_trains
from utils.safe_moves.exit_tables import BY_RANK, N_LEAVING, STUCK, UNSAFE, ExitTables, key_of
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_grid import possible_move, resource_of
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import COLUMN, DIRECTION, MOVING, ROW, STATE
from utils.system.compiled import compiled

judge_move, make_move = compiled(move_judgement.judge_move), compiled(exit_order.make_move)

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


def naive_leaving(
    state: RailState, positions: dict[int, Configuration], candidates: set[int] | None = None
) -> set[int]:
    """The trains that can leave in some order, if only ``candidates`` may, all unless told otherwise."""
    left = dict(positions)
    while True:
        among = left if candidates is None else candidates & set(left)
        handle = next((handle for handle in among if naive_has_way(state, handle, left)), None)
        if handle is None:
            return set(positions) - set(left)
        del left[handle]


def naive_is_safe(
    state: RailState, positions: dict[int, Configuration], leaving: set[int], handle: int, to: Configuration
) -> bool:
    """Whether all of ``leaving`` still can after a move, and who has moved as well unless it was stuck."""
    if state.distance_map[(handle, *to)] == 0:
        return True
    still_leaving = naive_leaving(state, positions | {handle: to}, leaving | {handle})
    may_stay = handle in positions and handle not in leaving
    return leaving - {handle} <= still_leaving and (may_stay or handle in still_leaving)


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


def worked_out(state: RailState) -> ExitTables:
    exits = ExitTables.for_state(state)
    follow_trains(state.dynamic, exits)
    return exits


def leaving_in_order(exits: ExitTables) -> list[int]:
    return exits.trains[BY_RANK, : exits.counts[N_LEAVING]].tolist()


def assert_right(state: RailState, exits: ExitTables) -> None:
    """Who can leave, in an order in which they can, and who is stuck."""
    left = positions_of(state)
    assert set(leaving_in_order(exits)) == naive_leaving(state, left)
    assert set(np.flatnonzero(exits.trains[STUCK]).tolist()) == set(left) - set(leaving_in_order(exits))
    for handle in leaving_in_order(exits):
        assert naive_has_way(state, handle, left)
        del left[handle]


def ask_all(
    state: RailState, exits: ExitTables, order: list[int], commits: Callable[[], bool]
) -> dict[int, Configuration]:
    """Asks for every move of every train, in that order, and carries some out; returns where the trains are then."""
    positions = positions_of(state)
    for handle in order:
        leaving = naive_leaving(state, positions)
        if handle in positions:
            moves = [possible_move(state.grid, *positions[handle], action) for action in (1, 2, 3)]
        else:  # it enters the map
            initial = (state.initial_row[handle], state.initial_column[handle], state.initial_direction[handle])
            moves = [tuple(map(int, initial))]
        taken = {resource_of(state.level_free, *at) for at in positions.values()}
        for to in moves:
            if to[0] < 0 or resource_of(state.level_free, *to) in taken:
                continue
            expected = naive_is_safe(state, positions, leaving, handle, to)
            if not np.isfinite(state.distance_map[(handle, *to)]):
                expected = False
            outcome = judge_move(handle, *to, exits)
            assert (outcome != UNSAFE) == expected
            assert judge_move(handle, *to, exits) == outcome  # the second answer may be a remembered one
            if expected and commits():
                row, column, direction = to
                make_move(handle, key_of(exits.cells, row, column, direction), outcome, exits)
                positions[handle] = to
                if state.distance_map[(handle, *to)] == 0:
                    del positions[handle]
                break
    return positions


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), n_on_map=st.integers(1, 12), p_level_free=st.sampled_from([0.0, 0.8]), data=st.data()
)
def test_who_can_leave_and_moves_are_judged_and_carried_out_one_after_the_other(
    seed: int, n_on_map: int, p_level_free: float, data: st.DataObject
) -> None:
    state = scattered(seed, 12, n_on_map, p_level_free=p_level_free)
    exits = worked_out(state)
    assert_right(state, exits)
    order = data.draw(st.permutations(range(12)))
    positions = ask_all(state, exits, order, lambda: data.draw(st.booleans()))
    assert set(leaving_in_order(exits)) == naive_leaving(state, positions)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), n_trains=st.integers(2, 30), p_level_free=st.sampled_from([0.0, 0.8]))
def test_what_is_kept_from_step_to_step_is_right(seed: int, n_trains: int, p_level_free: float) -> None:
    """Play that heeds no answers and comes to deadlocks; some trains break down where their move was carried out."""
    simulator = CompiledSimulator.from_env(
        sparse_env(seed, n_trains, size=25, p_level_free=p_level_free, malfunction_rate=1 / 20)
    )
    state, random = simulator.state, np.random.default_rng(seed)
    exits = ExitTables.for_state(state)
    while not simulator.done:
        follow_trains(state.dynamic, exits)
        anew = worked_out(state)
        assert set(leaving_in_order(exits)) == set(leaving_in_order(anew))
        np.testing.assert_array_equal(exits.trains[STUCK], anew.trains[STUCK])
        np.testing.assert_array_equal(exits.occupant, anew.occupant)
        if state.elapsed_steps % 10 == 5:
            assert set(leaving_in_order(exits)) == naive_leaving(state, positions_of(state))
            some = random.permutation(n_trains)[:4].tolist()
            ask_all(state, exits, some, lambda: bool(random.random() < 0.5))
        actions = random.choice([1, 2, 2, 2, 2, 3, 4], n_trains)
        simulator.step(actions)
