"""What one cell of a rail grid lets a train do, compiled.

flatland writes a cell as 16 bits: four groups of four, one group for each direction a train can be heading in
(north, east, south, west, from the highest bits down), and in each group one bit for each direction it can leave
in, in the same order. A group is called the train's *exits* here.
"""

import numpy as np

from utils.system.compiled import compiled_helper

# The actions of flatland's RailEnvActions.
DO_NOTHING, MOVE_LEFT, MOVE_FORWARD, MOVE_RIGHT, STOP_MOVING, N_ACTIONS = range(6)

# Change of row and column of one step north, east, south, west.
ROW_STEP = np.array([-1, 0, 1, 0], dtype=np.int64)
COLUMN_STEP = np.array([0, 1, 0, -1], dtype=np.int64)

# Two straight tracks that cross and never join: 16 bits with four of them set, yet no switch.
DIAMOND_CROSSING = 0b1000_0100_0010_0001

_N_BITS = np.array([bin(exits).count("1") for exits in range(16)], dtype=np.int64)
# The first direction (north first) among the exits; 0 for no exit, which callers rule out.
_FIRST_EXIT = np.array([0, 3, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], dtype=np.int64)


@compiled_helper
def exits_of(cell: int, direction: int) -> int:
    """The four bits for a train heading in ``direction`` in a cell."""
    return (cell >> ((3 - direction) * 4)) & 15


@compiled_helper
def has_exit(exits: int, direction: int) -> bool:
    """Whether a train with these exits can leave in ``direction``."""
    return (exits >> (3 - direction)) & 1 == 1


@compiled_helper
def count_exits(exits: int) -> int:
    """In how many directions a train with these exits can leave."""
    return _N_BITS[exits]


@compiled_helper
def first_exit(exits: int) -> int:
    """The direction of the only exit (the first, if there are several)."""
    return _FIRST_EXIT[exits]


@compiled_helper
def count_transitions(cell: int) -> int:
    """All transitions of a cell: 1 in a dead end, 2 on plain track, 4 and more where tracks join, part or cross."""
    return _N_BITS[cell & 15] + _N_BITS[(cell >> 4) & 15] + _N_BITS[(cell >> 8) & 15] + _N_BITS[(cell >> 12) & 15]


@compiled_helper
def is_inside(height: int, width: int, row: int, column: int) -> bool:
    """Whether a cell lies on a grid of that size. (Handing over the grid itself costs more than the test.)"""
    return 0 <= row < height and 0 <= column < width


@compiled_helper
def possible_move(grid: np.ndarray, row: int, column: int, direction: int, action: int) -> tuple[int, int, int]:
    """The row, column and direction where MOVE_LEFT, MOVE_FORWARD or MOVE_RIGHT leads; three times -1 if nowhere.

    As in ``RailGridTransitionMap._check_action_new``: where there is one exit (straight track, a curve, a dead
    end) forward takes it. flatland turns a left or right that is not there into a forward; here it is no possible
    move, so that each way out of a cell has exactly one action.
    """
    exits = exits_of(grid[row, column], direction)
    if count_exits(exits) == 1:
        if action != MOVE_FORWARD:
            return -1, -1, -1
        next_direction = first_exit(exits)
    else:
        next_direction = (direction + action - MOVE_FORWARD) % 4
        if not has_exit(exits, next_direction):
            return -1, -1, -1
    next_row = row + ROW_STEP[next_direction]
    next_column = column + COLUMN_STEP[next_direction]
    if not is_inside(grid.shape[0], grid.shape[1], next_row, next_column):
        return -1, -1, -1
    if exits_of(grid[next_row, next_column], next_direction) == 0:
        return -1, -1, -1
    return next_row, next_column, next_direction


@compiled_helper
def first_possible_move(grid: np.ndarray, row: int, column: int, direction: int) -> int:
    """A move that leads somewhere, forward if it does; DO_NOTHING where no move does."""
    for action in (MOVE_FORWARD, MOVE_LEFT, MOVE_RIGHT):
        if possible_move(grid, row, column, direction, action)[0] >= 0:
            return action
    return DO_NOTHING


@compiled_helper
def nearest_move(grid: np.ndarray, maps: np.ndarray, way_map: int, row: int, column: int, direction: int) -> int:
    """The move with the fewest cells to go by one of ``RailState.maps``, DO_NOTHING where no way leads there.

    Forward, then left where ways are equally long.
    """
    nearest, best = np.inf, DO_NOTHING
    for action in (MOVE_FORWARD, MOVE_LEFT, MOVE_RIGHT):
        to_row, to_column, to_direction = possible_move(grid, row, column, direction, action)
        if to_row >= 0 and maps[way_map, to_row, to_column, to_direction] < nearest:
            nearest, best = maps[way_map, to_row, to_column, to_direction], action
    return best


@compiled_helper
def resource_of(level_free: np.ndarray, row: int, column: int, direction: int) -> int:
    """The number, below 2 x cells, of what a train occupies: a cell, or one axis of a level-free crossing."""
    resource = 2 * (row * level_free.shape[1] + column)
    if level_free[row, column]:
        resource += direction % 2
    return resource


@compiled_helper
def clip(value: float) -> float:
    """Into [-1, 1], where all features lie."""
    return min(max(value, -1.0), 1.0)
