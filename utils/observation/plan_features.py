"""The plan in space and time as a train sees it: what it is to do, how late it is, who goes before it and after it.

See ``utils/planning``. Compiled. All features lie in [-1, 1], and are 0 where there is no plan.
"""

from enum import IntEnum

import numpy as np

from utils.planning.plan_tables import (
    AFTER,
    BEFORE,
    DUE,
    ENTER,
    FIRST,
    KEY,
    LEAVE,
    N_CELLS,
    NEXT,
    NO_VISIT,
    PLANNED_ARRIVAL,
    READY,
    TRAIN,
    PlanTables,
)
from utils.simulator.rail_grid import MOVE_LEFT, MOVE_RIGHT, clip, possible_move
from utils.simulator.state_arrays import DONE, ROW, STATE, StateArrays, configuration_of, travel_time_of
from utils.system.compiled import Arrays, compiled, compiled_helper


class _Own(IntEnum):
    """The features of a train's own plan."""

    (
        HAS_PLAN,
        # what it is to do now, one of flatland's five actions
        DO_NOTHING,
        LEFT,
        FORWARD,
        RIGHT,
        STOP,
        # the way out of its cell, whenever that will be
        WAY_LEFT,
        WAY_FORWARD,
        WAY_RIGHT,
        WAIT,
        ARRIVAL,
        SLACK,
        DELAY_AHEAD,
    ) = range(13)


class _Place(IntEnum):
    """The features of one of the cells ahead."""

    BEFORE, BEFORE_GAP, BEFORE_SLACK, BEFORE_OPPOSED, AFTER, AFTER_GAP, AFTER_SLACK, AFTER_OPPOSED = range(8)


_N_OWN, _N_PLACE, _N_NEIGHBOUR = len(_Own), len(_Place), _Place.AFTER - _Place.BEFORE
_PLACES = (1, 2, 4, 8)  # the how many-th cells ahead
PLAN_FEATURE_NAMES = tuple(f"plan_{feature.name.lower()}" for feature in _Own) + tuple(
    f"plan_cell_{place}_{feature.name.lower()}" for place in _PLACES for feature in _Place
)

_WAIT_SCALE = 20.0  # steps
_SLACK_SCALE = 30.0  # steps: about a malfunction


@compiled_helper
def _slack(handle: int, trains: np.ndarray) -> float:
    return clip((trains[DUE, handle] - trains[PLANNED_ARRIVAL, handle]) / _SLACK_SCALE)


@compiled_helper
def _fill_neighbour(other: int, gap: int, key: int, tables: PlanTables, features: np.ndarray) -> None:
    """The train of the visit ``other``, which comes to a cell ``gap`` steps before or after."""
    features[_Place.BEFORE] = 1.0
    features[_Place.BEFORE_GAP] = clip(gap / _WAIT_SCALE)
    features[_Place.BEFORE_SLACK] = _slack(tables.visits[other, TRAIN], tables.trains)
    features[_Place.BEFORE_OPPOSED] = 1.0 if tables.visits[other, KEY] != key else 0.0


@compiled_helper
def _fill_places(first: int, tables: PlanTables, features: np.ndarray) -> None:
    """For some of the cells ahead the trains before and after it there: whether there are any, when, how late."""
    visits, visit, place = tables.visits, first, 1
    while visit != NO_VISIT and place <= _PLACES[-1]:
        for number in range(len(_PLACES)):
            if _PLACES[number] == place:
                of_place = features[number * _N_PLACE : (number + 1) * _N_PLACE]
                before, after, key = visits[visit, BEFORE], visits[visit, AFTER], visits[visit, KEY]
                if before >= 2 * tables.counts[N_CELLS]:
                    gap = visits[visit, ENTER] - visits[before, LEAVE]
                    _fill_neighbour(before, gap, key, tables, of_place[:_N_NEIGHBOUR])
                if after != NO_VISIT:
                    gap = visits[after, ENTER] - visits[visit, LEAVE]
                    _fill_neighbour(after, gap, key, tables, of_place[_N_NEIGHBOUR:])
        visit, place = visits[visit, NEXT], place + 1


@compiled
def fill_plan_features(
    elapsed_steps: int,
    max_episode_steps: int,
    state_arrays: Arrays,
    cells: np.ndarray,
    table_arrays: Arrays,
    actions: np.ndarray,
    is_observed: np.ndarray,
    features: np.ndarray,
) -> None:
    """Fill ``features``, float32 [trains, features], in the order of ``PLAN_FEATURE_NAMES``.

    A train that is planned to stay off the map has no plan of its own, only the action to do nothing.

    Args:
        cells: int32 [height, width], the numbers of the rail cells.
        actions: int64 [trains], what the plan has the trains do now.
        is_observed: bool [trains]; the rows of other trains are left as they are.
    """
    arrays, tables = StateArrays(*state_arrays), PlanTables(*table_arrays)
    constants, dynamic, trains, visits = arrays.constants, arrays.dynamic, tables.trains, tables.visits
    for handle in range(features.shape[0]):
        if not is_observed[handle]:
            continue
        of_train = features[handle]
        of_train[:] = 0.0
        if dynamic[STATE, handle] == DONE:
            continue
        of_train[_Own.DO_NOTHING + actions[handle]] = 1.0
        first = trains[FIRST, handle]
        if first == NO_VISIT:
            continue
        of_train[_Own.HAS_PLAN] = 1.0
        if dynamic[ROW, handle] >= 0:
            row, column, direction = configuration_of(handle, constants, dynamic)
            for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
                to_row, to_column, to_direction = possible_move(arrays.grid, row, column, direction, action)
                if to_row >= 0 and 4 * cells[to_row, to_column] + to_direction == visits[first, KEY]:
                    of_train[_Own.WAY_LEFT + action - MOVE_LEFT] = 1.0
        arrival = trains[PLANNED_ARRIVAL, handle]
        of_train[_Own.WAIT] = clip((visits[first, ENTER] - trains[READY, handle]) / _WAIT_SCALE)
        of_train[_Own.ARRIVAL] = clip(arrival / max_episode_steps)
        of_train[_Own.SLACK] = _slack(handle, trains)
        travel_time = travel_time_of(handle, arrays.maps, constants, dynamic)
        of_train[_Own.DELAY_AHEAD] = clip((arrival - elapsed_steps - travel_time) / _SLACK_SCALE)
        _fill_places(first, tables, of_train[_N_OWN:])
