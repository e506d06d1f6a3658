"""flatland's search for where new track is laid between two cities, compiled: the same cells in the same order."""

import numpy as np

from utils.simulator.rail_grid import COLUMN_STEP, ROW_STEP, is_inside
from utils.system.compiled import allocating_helper, compiled, compiled_helper

_NEIGHBOURS = (3, 1, 0, 2)  # flatland looks west, east, north, south
_UNSEEN, _START = -2, -1  # in the place of the cell before


@compiled
def find_track(
    grid: np.ndarray, forbidden: np.ndarray, row: int, column: int, end_row: int, end_column: int
) -> np.ndarray:
    """What flatland's ``a_star`` finds with ``avoid_rails`` and without ``respect_transition_validity``.

    A cell costs 1, one with track already counts 1 more where it is first seen; among equal ones the order of Python's
    ``heapq`` decides.

    Args:
        grid: uint16 ``[height, width]``.
        forbidden: bool ``[height, width]``, cells that only may be where it begins or ends.
        row, column: where it begins.
        end_row, end_column: where it ends.

    Returns:
        int64 ``[cells, 2]``, rows and columns; no cells where there is no way.
    """
    height, width = grid.shape
    before = np.full(grid.size, _UNSEEN)
    moves = np.zeros(grid.size, dtype=np.int64)
    estimate = np.zeros(grid.size, dtype=np.int64)
    heap = np.empty(grid.size, dtype=np.int64)
    start, end = row * width + column, end_row * width + end_column
    before[start], heap[0], size = _START, start, 1
    while size > 0:
        cell, size = _pop(heap, size, estimate), size - 1
        if cell == end:
            return _cells_up_to(end, width, before)
        for direction in _NEIGHBOURS:
            row, column = cell // width + ROW_STEP[direction], cell % width + COLUMN_STEP[direction]
            if not is_inside(height, width, row, column):
                continue
            child = row * width + column
            if before[child] != _UNSEEN or (forbidden[row, column] and child != end):
                continue
            before[child], moves[child] = cell, moves[cell] + 1
            has_track = 1 if grid[row, column] > 0 else 0
            estimate[child] = moves[child] + abs(end_row - row) + abs(end_column - column) + has_track
            heap[size], size = child, size + 1
            _move_up(heap, 0, size - 1, estimate)
    return np.empty((0, 2), dtype=np.int64)


@compiled_helper
def _pop(heap: np.ndarray, size: int, estimate: np.ndarray) -> int:
    """``heapq.heappop``: takes the first of ``size`` entries out."""
    first, last = heap[0], heap[size - 1]
    size -= 1
    place, child = 0, 1
    while child < size:  # first down to the bottom along the smaller children, then up again
        if child + 1 < size and not estimate[heap[child]] < estimate[heap[child + 1]]:
            child += 1
        heap[place] = heap[child]
        place, child = child, 2 * child + 1
    heap[place] = last
    _move_up(heap, 0, place, estimate)
    return first


@compiled_helper
def _move_up(heap: np.ndarray, top: int, place: int, estimate: np.ndarray) -> None:
    """``heapq``'s ``_siftdown``: moves an entry towards ``top`` past those that are greater."""
    entry = heap[place]
    while place > top and estimate[entry] < estimate[heap[(place - 1) // 2]]:
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = entry


@allocating_helper
def _cells_up_to(end: int, width: int, before: np.ndarray) -> np.ndarray:
    """The cells from the start to the end, from what lies before each of them."""
    n_cells, cell = 0, end
    while cell != _START:
        n_cells, cell = n_cells + 1, before[cell]
    cells, cell = np.empty((n_cells, 2), dtype=np.int64), end
    while cell != _START:
        n_cells -= 1
        cells[n_cells, 0], cells[n_cells, 1] = cell // width, cell % width
        cell = before[cell]
    return cells
