"""The arrays of a level and its trains as compiled code reads them: the names of their rows, and what they say.

Each per-train integer is a row of one of two int32 tables of shape [fields, trains]: ``constants`` and ``dynamic``. The
names of the rows are compile-time constants inside numba. :class:`~.rail_state.RailState` holds the arrays.

Speeds and distances within a cell are integers in units of 1/denominator of a cell, so that nothing is rounded.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import resource_of
from utils.system.compiled import compiled_helper

# The values of flatland's TrainState.
WAITING, READY_TO_DEPART, MALFUNCTION_OFF_MAP, MOVING, STOPPED, MALFUNCTION, DONE = range(7)

# Rows of ``constants``.
(
    INITIAL_ROW,
    INITIAL_COLUMN,
    INITIAL_DIRECTION,
    EARLIEST_DEPARTURE,  # step
    LATEST_ARRIVAL,  # step; at most OPEN_END
    MAX_SPEED,  # cells a step, in units of 1/denominator
    DENOMINATOR,
    TARGET_ROW,
    TARGET_COLUMN,
    TARGET_DIRECTIONS,  # four bits, north highest: the directions in which the train may arrive
    N_CONSTANTS,
) = range(11)

# Rows of ``dynamic``. -1 stands for flatland's None.
(
    STATE,
    PREVIOUS_STATE,
    ROW,  # -1 off the map
    COLUMN,
    DIRECTION,
    DISTANCE_IN_CELL,  # in units of 1/denominator
    SPEED,  # cells a step, in units of 1/denominator; 0 for a standing train
    MALFUNCTION_COUNTER,  # steps
    N_MALFUNCTIONS,
    ARRIVAL_TIME,  # step
    ARRIVED_ROW,
    ARRIVED_COLUMN,
    ARRIVED_DIRECTION,
    # These are 0 for a train without stops, but for NEXT_MAP, and all follow from the others: see ``next_stops``.
    NEXT_STOP,  # the first of the train's own stops, from 0 on, that it has not served; their number if there is none
    NEXT_MAP,  # the row of ``maps`` that leads to where the train goes next: to a stop, or to its target
    CELLS_AFTER,  # cells from there to the target by the stops after it
    STOPS_TO_SERVE,  # that the train goes to before its target
    HALTS,  # 1 if it is to stand still for a stop in the next step
    STOP_ARRIVAL,  # step: the latest arrival at the stop it goes to
    STOP_DEPARTURE,  # step: the earliest departure from the stop where it stands, else from the one it goes to
    N_DYNAMIC,
) = range(21)

# Stands for "no latest arrival", which flatland writes as sys.maxsize; far from the end of int32.
OPEN_END = 2**30


class StateArrays(NamedTuple):
    """The arrays of a :class:`RailState`, which says what they hold."""

    grid: NDArray[np.uint16]
    maps: NDArray[np.float64]
    level_free: NDArray[np.bool_]
    has_target: NDArray[np.bool_]
    constants: NDArray[np.int32]
    dynamic: NDArray[np.int32]
    occupant: NDArray[np.int32]


@compiled_helper
def configuration_of(handle: int, constants: np.ndarray, dynamic: np.ndarray) -> tuple[int, int, int]:
    """Where a train looks from: row, column and direction, as in flatland's ``virtual_configuration``.

    Off the map that is where it will start, after arrival where it arrived. In files of older versions of
    flatland the direction of an arrived train is unknown: it is then read as the first that is allowed.
    """
    state = dynamic[STATE, handle]
    table, row, column, heading = dynamic, ROW, COLUMN, DIRECTION
    if state <= MALFUNCTION_OFF_MAP:
        table, row, column, heading = constants, INITIAL_ROW, INITIAL_COLUMN, INITIAL_DIRECTION
    elif state == DONE:
        row, column, heading = ARRIVED_ROW, ARRIVED_COLUMN, ARRIVED_DIRECTION
        if dynamic[ARRIVED_ROW, handle] < 0:
            direction = 0
            while (constants[TARGET_DIRECTIONS, handle] >> (3 - direction)) & 1 == 0:
                direction += 1
            return constants[TARGET_ROW, handle], constants[TARGET_COLUMN, handle], direction
    return table[row, handle], table[column, handle], table[heading, handle]


@compiled_helper
def travel_time_of(handle: int, maps: np.ndarray, constants: np.ndarray, dynamic: np.ndarray) -> float:
    """Steps at full speed along the shortest path; see ``remaining_travel_time``."""
    if dynamic[STATE, handle] == DONE:
        return 0.0
    row, column, direction = configuration_of(handle, constants, dynamic)
    cells = maps[dynamic[NEXT_MAP, handle], row, column, direction]
    if cells == np.inf:
        return np.inf
    units = (cells + dynamic[CELLS_AFTER, handle]) * constants[DENOMINATOR, handle]
    if dynamic[ROW, handle] >= 0:
        units -= dynamic[DISTANCE_IN_CELL, handle]
    return max(0.0, np.ceil(units / constants[MAX_SPEED, handle])) + dynamic[STOPS_TO_SERVE, handle]


@compiled_helper
def mark_trains(occupant: np.ndarray, level_free: np.ndarray, dynamic: np.ndarray) -> None:
    """Write handle + 1 of each train that is on the map at its resource (see ``rail_grid.resource_of``)."""
    for handle in range(dynamic.shape[1]):
        row = dynamic[ROW, handle]
        if row >= 0:
            column, direction = dynamic[COLUMN, handle], dynamic[DIRECTION, handle]
            occupant[resource_of(level_free, row, column, direction)] = handle + 1


@compiled_helper
def unmark_trains(occupant: np.ndarray, level_free: np.ndarray, dynamic: np.ndarray) -> None:
    """Undo ``mark_trains``: cheaper than clearing the grid."""
    for handle in range(dynamic.shape[1]):
        row = dynamic[ROW, handle]
        if row >= 0:
            resource = 2 * (row * level_free.shape[1] + dynamic[COLUMN, handle])
            occupant[resource] = 0
            occupant[resource + 1] = 0
