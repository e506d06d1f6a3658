"""Which trains can never move again, compiled, over ``RailState``.

A train is *free* if some way out of its cell leads to a resource (a cell, or one axis of a level-free crossing)
that is empty or held by a free train. Two trains cannot swap, so that alone does not free them. Three or more
trains in a ring, each waiting for the resource of the next, can all move in one step (flatland's ``MotionCheck``),
so they are free as well. The trains on the map that are not free are deadlocked.

Why that is sound: every way out of a deadlocked train leads to another deadlocked train. For one of them to move,
the train ahead must move in the same step, and the one ahead of that, and so on round a ring. A ring of two is a
swap; a longer ring was declared free. So none of them ever moves. The opposite does not hold: free trains may
still have no way to their targets.
"""

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import MOVE_LEFT, MOVE_RIGHT, possible_move, resource_of
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import DONE, ROW, STATE, StateArrays, configuration_of, mark_trains, unmark_trains
from utils.system.compiled import Arrays, allocating_helper, compiled, compiled_helper

# What ``ahead`` holds where there is no other train.
_NO_WAY = -1
_EMPTY = -2


@compiled_helper
def _look_ahead(arrays: StateArrays, ahead: np.ndarray, free: np.ndarray) -> None:
    """Fill ``ahead``, int64 [trains, 3], with who holds the resource to the left, in front and to the right.

    Trains off the map are ``free``, bool [trains]: they hold nothing and wait for nobody.
    """
    dynamic = arrays.dynamic
    ahead[:] = _NO_WAY
    for handle in range(ahead.shape[0]):
        free[handle] = dynamic[ROW, handle] < 0
        # An arrived train that stays on the map never leaves it.
        if free[handle] or dynamic[STATE, handle] == DONE:
            continue
        row, column, direction = configuration_of(handle, arrays.constants, dynamic)
        for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
            next_row, next_column, next_direction = possible_move(arrays.grid, row, column, direction, action)
            if next_row >= 0:
                holder = arrays.occupant[resource_of(arrays.level_free, next_row, next_column, next_direction)]
                ahead[handle, action - MOVE_LEFT] = holder - 1 if holder > 0 else _EMPTY


@compiled_helper
def _spread_freedom(ahead: np.ndarray, free: np.ndarray) -> bool:
    """Free all trains with an empty resource or a free train ahead; returns whether some train is not free."""
    changed = True
    all_free = False
    while changed:
        changed = False
        all_free = True
        for handle in range(ahead.shape[0]):
            if free[handle]:
                continue
            for branch in range(3):
                other = ahead[handle, branch]
                if other == _EMPTY or (other >= 0 and free[other]):
                    free[handle] = True
                    changed = True
                    break
            all_free = all_free and free[handle]
    return not all_free


@allocating_helper
def _leads_back(start: int, first: int, ahead: np.ndarray, free: np.ndarray) -> bool:
    """Whether trains that are not free wait for each other from ``first`` back to ``start``, not by a swap.

    The first hop back from ``first`` must not be to ``start`` itself; then the shortest way closes a ring of at
    least three different trains.
    """
    seen = np.empty(ahead.shape[0], dtype=np.bool_)
    seen[:] = False
    pending = np.empty(ahead.shape[0], dtype=np.int64)
    pending[0] = first
    seen[first] = True
    n_pending = 1
    while n_pending > 0:
        n_pending -= 1
        handle = pending[n_pending]
        for branch in range(3):
            other = ahead[handle, branch]
            if other < 0 or free[other]:
                continue
            if other == start:
                if handle != first:
                    return True
            elif not seen[other]:
                seen[other] = True
                pending[n_pending] = other
                n_pending += 1
    return False


@allocating_helper
def _free_rings(ahead: np.ndarray, free: np.ndarray) -> None:
    """Free a train of each ring of three or more that are not free yet; ``_spread_freedom`` frees the others."""
    for handle in range(ahead.shape[0]):
        for branch in range(3):
            other = ahead[handle, branch]
            if other >= 0 and not free[handle]:
                free[handle] = _leads_back(handle, other, ahead, free)


@compiled
def _find_deadlocks(state_arrays: Arrays, deadlocked: np.ndarray) -> None:
    arrays = StateArrays(*state_arrays)
    dynamic = arrays.dynamic
    n_trains = deadlocked.shape[0]
    ahead, free = np.empty((n_trains, 3), dtype=np.int64), np.empty(n_trains, dtype=np.bool_)
    mark_trains(arrays.occupant, arrays.level_free, dynamic)
    _look_ahead(arrays, ahead, free)
    unmark_trains(arrays.occupant, arrays.level_free, dynamic)
    if _spread_freedom(ahead, free):
        _free_rings(ahead, free)
        _spread_freedom(ahead, free)
    for handle in range(n_trains):
        deadlocked[handle] = not free[handle] and dynamic[STATE, handle] != DONE


def deadlocked(state: RailState) -> NDArray[np.bool_]:
    """The trains, bool [trains], that are on the map and can never leave their cell again.

    All ways out of a cell count, not only the shortest path. Malfunctions pass and are ignored, as are trains
    that may still enter the map.
    """
    result = np.empty(state.n_trains, dtype=np.bool_)
    _find_deadlocks(state.arrays, result)
    return result
