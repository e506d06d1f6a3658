"""How far it is along the rails, compiled."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import COLUMN_STEP, ROW_STEP, exits_of, has_exit, is_inside
from utils.system.compiled import compiled


def distances_to(grid: NDArray[np.uint16], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fewest moves from every configuration to a target and on from there: breadth first, backwards, from all targets.

    Args:
        grid: uint16 ``[height, width]``.
        targets: int64 ``[targets, 4]``, the moves on from there, in rising order, row, column and direction.

    Returns:
        float64 ``[height, width, 4]``, infinite where no target can be reached.
    """
    distances = np.full((*grid.shape, 4), np.inf)
    _fill_distances(grid, targets, distances, np.empty((distances.size, 3), dtype=np.int64))
    return distances


@compiled
def _fill_distances(grid: np.ndarray, targets: np.ndarray, distances: np.ndarray, queue: np.ndarray) -> None:
    height, width = grid.shape
    begin, end, n_begun, moves = 0, 0, 0, 0
    while begin < end or n_begun < targets.shape[0]:
        # number by number: numba takes two seconds to compile the copying of a row
        while n_begun < targets.shape[0] and targets[n_begun, 0] <= moves:
            row, column, direction = targets[n_begun, 1], targets[n_begun, 2], targets[n_begun, 3]
            n_begun += 1
            if distances[row, column, direction] > moves:
                distances[row, column, direction] = moves
                queue[end, 0], queue[end, 1], queue[end, 2] = row, column, direction
                end += 1
        moves += 1
        end_of_ring = end
        while begin < end_of_ring:
            row, column, direction = queue[begin, 0], queue[begin, 1], queue[begin, 2]
            begin += 1
            previous_row, previous_column = row - ROW_STEP[direction], column - COLUMN_STEP[direction]
            if not is_inside(height, width, previous_row, previous_column):
                continue
            cell = grid[previous_row, previous_column]
            for heading in range(4):
                is_new = distances[previous_row, previous_column, heading] == np.inf
                if is_new and has_exit(exits_of(cell, heading), direction):
                    distances[previous_row, previous_column, heading] = moves
                    queue[end, 0], queue[end, 1], queue[end, 2] = previous_row, previous_column, heading
                    end += 1


def distance_maps(grid: NDArray[np.uint16], targets: Sequence[Iterable[tuple[int, int, int]]]) -> NDArray[np.float64]:
    """flatland's distance map: moves from every configuration to the nearest target of each train.

    Args:
        grid: ``[height, width]``, contiguous.
        targets: of each train, row, column and direction of those that lie on a track.

    Returns:
        ``[trains, height, width, 4]``, infinite where no target can be reached.
    """
    maps = np.empty((len(targets), *grid.shape, 4))
    first_with: dict[frozenset[tuple[int, int, int]], int] = {}
    for train, places in enumerate(map(frozenset, targets)):
        same = first_with.setdefault(places, train)
        rows = np.array([(0, *place) for place in sorted(places)], dtype=np.int64).reshape(-1, 4)
        maps[train] = maps[same] if same < train else distances_to(grid, rows)
    return maps
