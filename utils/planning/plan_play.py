"""Between a plan and the trains: which visits are over, when trains can go on, and what they have to do for it."""

import numpy as np

from utils.planning.order_keeping import ENTERS, begin_play, decide_moves, ready_after_stops
from utils.planning.plan_legs import EARLIEST
from utils.planning.plan_tables import (
    AT_VISIT,
    BEFORE,
    DISTANCE,
    ENTER,
    FIRST,
    FIRST_LEG,
    HAS_ARRIVED,
    KEY,
    LEAVE,
    LEG,
    LEG_AFTER,
    MOVES,
    N_CELLS,
    NEVER,
    NEXT,
    NO_VISIT,
    READY,
    STANDS_STILL,
    TRAIN,
    PlanTables,
    ends_at,
    free_visit,
    link,
    new_visit,
    unlink,
)
from utils.simulator.rail_grid import DO_NOTHING, MOVE_LEFT, MOVE_RIGHT, STOP_MOVING, first_possible_move, possible_move
from utils.simulator.rail_keys import RESOURCE
from utils.simulator.state_arrays import (
    COLUMN,
    DENOMINATOR,
    DIRECTION,
    DISTANCE_IN_CELL,
    DONE,
    EARLIEST_DEPARTURE,
    MALFUNCTION_COUNTER,
    MALFUNCTION_OFF_MAP,
    MAX_SPEED,
    MOVING,
    READY_TO_DEPART,
    ROW,
    STATE,
    STOPPED,
    StateArrays,
    configuration_of,
)
from utils.system.compiled import Arrays, compiled, compiled_helper

OFF_MAP = -1


@compiled_helper
def _ready_to_depart(handle: int, now: int, constants: np.ndarray, dynamic: np.ndarray) -> int:
    """The earliest step in which a train can enter the map, see ``rail_step``."""
    earliest = constants[EARLIEST_DEPARTURE, handle]
    works_again = now + 1 + dynamic[MALFUNCTION_COUNTER, handle]
    state = dynamic[STATE, handle]
    if state == READY_TO_DEPART or (state == MALFUNCTION_OFF_MAP and earliest <= works_again):
        return works_again
    if state == MALFUNCTION_OFF_MAP:  # back to waiting first
        works_again += 1
    return max(works_again, earliest) + 1


@compiled_helper
def _ready_to_go_on(handle: int, now: int, constants: np.ndarray, dynamic: np.ndarray) -> int:
    """The earliest step in which a train on the map can enter its next cell."""
    units_left = constants[DENOMINATOR, handle] - dynamic[DISTANCE_IN_CELL, handle]
    steps = (units_left + constants[MAX_SPEED, handle] - 1) // constants[MAX_SPEED, handle]
    return now + dynamic[MALFUNCTION_COUNTER, handle] + max(steps, 1)


@compiled_helper
def _move_along(handle: int, arrives: bool, tables: PlanTables) -> None:
    """The first visit to come has begun; the one before it is over, and so is the one to the target."""
    trains, visits, counts = tables.trains, tables.visits, tables.counts
    at, first = trains[AT_VISIT, handle], trains[FIRST, handle]
    if at != NO_VISIT:
        unlink(at, visits)
        free_visit(at, visits, counts)
    trains[AT_VISIT, handle], trains[FIRST, handle] = first, visits[first, NEXT]
    if arrives:
        unlink(first, visits)
        free_visit(first, visits, counts)
        trains[AT_VISIT, handle] = NO_VISIT


@compiled_helper
def _end_of_stop(handle: int, key: int, tables: PlanTables) -> int:
    """The step from which a train may leave the stop that it has served where it is; 0 if there is none."""
    leg = tables.trains[LEG, handle] - 1
    if leg < 0 or not ends_at(key, leg, handle, tables):
        return 0
    return tables.legs[EARLIEST, tables.trains[FIRST_LEG, handle] + leg]


@compiled
def place_trains(state_arrays: Arrays, cells: np.ndarray, now: int, table_arrays: Arrays) -> None:
    """Note the cells of the trains that are on the map when the plan is begun; they hold them until they are planned.

    Args:
        cells: int32 [height, width], the numbers of the rail cells.
        now: steps that have been played.
    """
    arrays, tables = StateArrays(*state_arrays), PlanTables(*table_arrays)
    dynamic, visits = arrays.dynamic, tables.visits
    for handle in range(dynamic.shape[1]):
        if dynamic[ROW, handle] >= 0:
            row, column, direction = configuration_of(handle, arrays.constants, dynamic)
            visit, key = new_visit(visits, tables.counts), 4 * cells[row, column] + direction
            visits[visit, TRAIN], visits[visit, KEY] = handle, key
            visits[visit, ENTER], visits[visit, LEAVE], visits[visit, NEXT] = now, NEVER, NO_VISIT
            visits[visit, LEG_AFTER] = tables.trains[LEG, handle]
            link(visit, tables.tracks[key, RESOURCE], visits)
            tables.trains[AT_VISIT, handle] = visit


@compiled
def read_trains(state_arrays: Arrays, cells: np.ndarray, now: int, table_arrays: Arrays) -> tuple[bool, bool, bool]:
    """Read where the trains are, and when they can go on. To be called after every step.

    Args:
        cells, now: see ``place_trains``.

    Returns:
        Whether all trains are where their plans lead, whether all goes by the times of the plan, and whether no train
        has come to its cell before its turn.
    """
    arrays, tables = StateArrays(*state_arrays), PlanTables(*table_arrays)
    constants, dynamic = arrays.constants, arrays.dynamic
    trains, visits = tables.trains, tables.visits
    is_on_way, is_in_time, is_in_order = True, True, True
    for handle in range(trains.shape[1]):
        if trains[HAS_ARRIVED, handle] == 1:
            continue
        at, first = trains[AT_VISIT, handle], trains[FIRST, handle]
        key = OFF_MAP
        if dynamic[ROW, handle] >= 0 or dynamic[STATE, handle] == DONE:
            row, column, direction = configuration_of(handle, constants, dynamic)
            key = 4 * cells[row, column] + direction
        if key != (OFF_MAP if at == NO_VISIT else visits[at, KEY]):
            # flatland-rl 4.2.6 forgets in which direction a train has arrived
            arrives = dynamic[STATE, handle] == DONE
            if first == NO_VISIT or not (visits[first, KEY] == key or (arrives and visits[first, NEXT] == NO_VISIT)):
                is_on_way = False
            else:
                is_in_time = is_in_time and visits[first, ENTER] == now
                _move_along(handle, arrives, tables)
        if dynamic[STATE, handle] == DONE:
            trains[HAS_ARRIVED, handle] = 1
            trains[FIRST, handle] = NO_VISIT
            continue
        if dynamic[ROW, handle] < 0:
            trains[DISTANCE, handle] = 0
            ready = _ready_to_depart(handle, now, constants, dynamic)
        else:
            trains[DISTANCE, handle] = dynamic[DISTANCE_IN_CELL, handle]
            ready = _ready_to_go_on(handle, now, constants, dynamic)
            if dynamic[STATE, handle] == STOPPED:
                while ends_at(key, trains[LEG, handle], handle, tables):
                    trains[LEG, handle] += 1
            ready = max(ready, _end_of_stop(handle, key, tables))
        trains[READY, handle] = ready
        trains[STANDS_STILL, handle] = dynamic[STATE, handle] != MOVING
        first = trains[FIRST, handle]
        is_in_time = is_in_time and (first == NO_VISIT or visits[first, ENTER] >= ready_after_stops(handle, tables))
    for handle in range(trains.shape[1]):
        at = trains[AT_VISIT, handle]
        if at != NO_VISIT and visits[at, BEFORE] >= 2 * tables.counts[N_CELLS]:
            is_in_order = False
    return is_on_way, is_in_time, is_in_order


@compiled_helper
def _action_towards(key: int, handle: int, cells: np.ndarray, grid: np.ndarray, dynamic: np.ndarray) -> int:
    """The move of a train on the map that leads to a rail key."""
    row, column, direction = dynamic[ROW, handle], dynamic[COLUMN, handle], dynamic[DIRECTION, handle]
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
        to_row, to_column, to_direction = possible_move(grid, row, column, direction, action)
        if to_row >= 0 and 4 * cells[to_row, to_column] + to_direction == key:
            return action
    return STOP_MOVING


@compiled_helper
def _runs_on(handle: int, now: int, arrays: StateArrays, tables: PlanTables) -> bool:
    """Whether a train moves in its cell, and has no stop to serve there; a broken one gets ready to go on."""
    at = tables.trains[AT_VISIT, handle]
    if tables.visits[at, LEG_AFTER] > tables.trains[LEG, handle]:
        return False
    return _ready_to_go_on(handle, now, arrays.constants, arrays.dynamic) > now + 1


@compiled
def fill_actions(state_arrays: Arrays, cells: np.ndarray, now: int, table_arrays: Arrays, actions: np.ndarray) -> None:
    """Fill ``actions``, int64 [trains], with what the trains do in the next step; after ``read_trains``."""
    arrays, tables = StateArrays(*state_arrays), PlanTables(*table_arrays)
    trains, dynamic = tables.trains, arrays.dynamic
    begin_play(tables)
    decide_moves(now + 1, tables)
    for handle in range(actions.shape[0]):
        first, enters = trains[FIRST, handle], trains[MOVES, handle] == ENTERS
        if dynamic[ROW, handle] < 0:
            actions[handle] = DO_NOTHING
            if enters:
                row, column, direction = configuration_of(handle, arrays.constants, dynamic)
                actions[handle] = first_possible_move(arrays.grid, row, column, direction)
        elif first != NO_VISIT and (enters or _runs_on(handle, now, arrays, tables)):
            key = tables.visits[first, KEY]
            actions[handle] = _action_towards(key, handle, cells, arrays.grid, dynamic)
        else:
            actions[handle] = STOP_MOVING
