"""Rail keys: the configurations on rails, numbered as 4 x the number of the rail cell + the direction. Compiled.

Only cells with rails are counted, so that what belongs together is close together in memory.
"""

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import MOVE_LEFT, MOVE_RIGHT, count_exits, exits_of, has_exit, possible_move
from utils.simulator.rail_state import RailState
from utils.system.compiled import compiled

# Columns of ``tracks``; the first three are the rail keys that come next, -1 where there are no more.
N_ONWARD = 3
RESOURCE, CANNOT_STOP, _N_TRACK_COLUMNS = range(N_ONWARD, 6)


def lay_tracks(state: RailState) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The numbers of the rail cells, int32 [height, width], -1 without rail; and ``tracks``, int32 [keys, 5].

    A train stops of its own will only where it could go straight on, or has no choice: elsewhere flatland takes its
    stop for a collision.
    """
    cells = np.full(state.grid.shape, -1, dtype=np.int32)
    has_rail = state.grid > 0
    n_cells = np.count_nonzero(has_rail)
    cells[has_rail] = np.arange(n_cells)
    tracks = np.full((4 * n_cells, _N_TRACK_COLUMNS), -1, dtype=np.int32)
    _fill_tracks(state.grid, state.level_free, cells, tracks)
    return cells, tracks


@compiled
def _fill_tracks(grid: np.ndarray, level_free: np.ndarray, cells: np.ndarray, tracks: np.ndarray) -> None:
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            if cells[row, column] < 0:
                continue
            for direction in range(4):
                key = 4 * cells[row, column] + direction
                tracks[key, RESOURCE] = 2 * cells[row, column] + (direction % 2 if level_free[row, column] else 0)
                exits = exits_of(grid[row, column], direction)
                tracks[key, CANNOT_STOP] = count_exits(exits) > 1 and not has_exit(exits, direction)
                n = 0
                for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
                    to_row, to_column, to_direction = possible_move(grid, row, column, direction, action)
                    if to_row >= 0:
                        tracks[key, n] = 4 * cells[to_row, to_column] + to_direction
                        n += 1
