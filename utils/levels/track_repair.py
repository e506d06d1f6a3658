"""flatland's repair of cells in which new track does not fit together: the same cells, with the same random draws."""

import numpy as np
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap

from utils.simulator.rail_grid import COLUMN_STEP, ROW_STEP, exits_of, has_exit, is_inside
from utils.system.compiled import compiled, compiled_helper

# Cells by which flatland joins three or four tracks.
_SWITCH_EAST_SOUTH, _SWITCH_WEST_SOUTH = 0b0001_0110_0000_0001, 0b0100_0100_0000_0011
_DOUBLE_SLIP = 0b1100_1100_0011_0011


@compiled
def neighbours_fit(grid: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Whether track leads on wherever each cell leads to; what ``cell_neighbours_valid`` finds, without its cache.

    Args:
        grid: uint16 ``[height, width]``.
        cells: int64 ``[cells, 2]``, rows and columns.

    Returns:
        bool ``[cells]``.
    """
    fits = np.empty(cells.shape[0], dtype=np.bool_)
    for i in range(cells.shape[0]):
        fits[i] = True
        row, column = cells[i]
        cell = grid[row, column]
        for direction in range(4):
            next_row, next_column = row + ROW_STEP[direction], column + COLUMN_STEP[direction]
            inside = is_inside(grid.shape[0], grid.shape[1], next_row, next_column)
            if has_exit(_all_exits(cell), direction):
                # Track must go on into a neighbour that accepts this direction.
                if not inside or exits_of(grid[next_row, next_column], direction) == 0:
                    fits[i] = False
            # An empty cell must have no neighbour that leads into it.
            elif cell == 0 and inside and has_exit(_all_exits(grid[next_row, next_column]), (direction + 2) % 4):
                fits[i] = False
    return fits


@compiled_helper
def _all_exits(cell: int) -> int:
    """The directions in which a cell can be left, from wherever it is entered; four bits."""
    return exits_of(cell, 0) | exits_of(cell, 1) | exits_of(cell, 2) | exits_of(cell, 3)


def repair(
    grid_map: RailGridTransitionMap, row: int, column: int, preferred: int, np_random: np.random.RandomState
) -> None:
    """``SparseRailGen.fix_transitions``: joins the tracks that lead into a cell, with the same random draws."""
    grid, rotated = grid_map.grid, grid_map.transitions.rotate_transition
    joined = [direction for direction in range(4) if _joins(grid, row, column, direction)]
    if len(joined) == 1 and grid[row, column] != 0:
        (way,) = joined
        grid[row, column] = _turn(way, way)  # a dead end
    elif len(joined) == 2:
        one, other = joined
        grid[row, column] = _turn(one, other) | _turn(other, one)
    elif len(joined) == 3:
        (hole,) = {0, 1, 2, 3} - {*joined}
        switch = {0: _SWITCH_WEST_SOUTH, 2: _SWITCH_EAST_SOUTH}.get((preferred - hole + 3) % 4)
        if preferred < 0 or switch is None:
            switch = int(np_random.choice([_SWITCH_EAST_SOUTH, _SWITCH_WEST_SOUTH], 1)[0])
        grid[row, column] = rotated(switch, hole * 90)
    elif len(joined) == 4:
        grid[row, column] = rotated(_DOUBLE_SLIP, int(np_random.randint(2)) * 90)


def _joins(grid: np.ndarray, row: int, column: int, direction: int) -> bool:
    """Whether track leads into a cell from its neighbour in ``direction``."""
    row, column = row + int(ROW_STEP[direction]), column + int(COLUMN_STEP[direction])
    return is_inside(grid.shape[0], grid.shape[1], row, column) and has_exit(
        _all_exits(int(grid[row, column])), (direction + 2) % 4
    )


def _turn(side: int, other: int) -> int:
    """The bit of a cell by which a train that enters it from one side leaves it on another."""
    return 1 << (15 - 4 * ((side + 2) % 4) - other)
