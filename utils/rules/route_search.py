"""By how much a train's best way is longer because of the trains that are in the way. Compiled.

The distance maps know rails only: to the train's next stop, or to its target. Here a search goes round the trains that
stand on them: cells count as one, a cell with a train that heads another way as ``OPPOSING_CELLS`` more, one with a
broken train as many more as the train could run in the rest of the malfunction. What that costs beyond the shortest
path is the *detour*.

The search is A* with the distance map as the bound, so where nothing is in the way it only walks the shortest path.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import (
    MOVE_FORWARD,
    MOVE_LEFT,
    MOVE_RIGHT,
    count_exits,
    exits_of,
    possible_move,
    resource_of,
)
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import DENOMINATOR, DIRECTION, MALFUNCTION_COUNTER, MAX_SPEED, NEXT_MAP, StateArrays
from utils.system.compiled import compiled_helper

# What a train in the way that heads another way counts, in cells: as much as a detour round a station.
OPPOSING_CELLS = 20
# Longer detours are all alike; cells.
MAX_DETOUR = 30


class RouteSearch(NamedTuple):
    """Memory for one size of grid."""

    detour: NDArray[np.int64]  # [configurations], the least detour known in this search, negative for none
    bucket: NDArray[np.int64]  # [MAX_DETOUR + 1], the last entry of each detour's list, -1 for an empty one
    entries: NDArray[np.int64]  # [entries, 4], row, column, direction and the entry before it in the list

    @classmethod
    def for_state(cls, state: RailState) -> "RouteSearch":
        """New memory, of the size that the level needs."""
        n_configurations = 4 * state.grid.size
        return cls(
            np.full(n_configurations, -1, dtype=np.int64),
            np.full(MAX_DETOUR + 1, -1, dtype=np.int64),
            # a configuration is entered again whenever a shorter detour to it is found
            np.zeros((3 * n_configurations, 4), dtype=np.int64),
        )


@compiled_helper
def _hindrance(handle: int, row: int, column: int, direction: int, cells_before: int, arrays: StateArrays) -> int:
    """What another train in a cell costs, in cells, if the cell is reached after ``cells_before`` others."""
    constants, dynamic = arrays.constants, arrays.dynamic
    other = arrays.occupant[resource_of(arrays.level_free, row, column, direction)] - 1
    if other < 0 or other == handle:
        return 0
    cost = OPPOSING_CELLS if dynamic[DIRECTION, other] != direction else 0
    broken_for = dynamic[MALFUNCTION_COUNTER, other] * constants[MAX_SPEED, handle] // constants[DENOMINATOR, handle]
    return cost + max(0, broken_for - cells_before)


@compiled_helper
def _key_of(row: int, column: int, direction: int, width: int) -> int:
    return 4 * (row * width + column) + direction


@compiled_helper
def _put_off(
    row: int, column: int, direction: int, detour: int, n_entries: int, width: int, search: RouteSearch
) -> int:
    """Enter a configuration into the list of its detour, unless a shorter one is known; returns how many there are."""
    known = search.detour[_key_of(row, column, direction, width)]
    if detour >= MAX_DETOUR or 0 <= known <= detour or n_entries == search.entries.shape[0]:
        return n_entries
    search.detour[_key_of(row, column, direction, width)] = detour
    entry = search.entries[n_entries]
    entry[0], entry[1], entry[2], entry[3] = row, column, direction, search.bucket[detour]
    search.bucket[detour] = n_entries
    return n_entries + 1


@compiled_helper
def find_detour(handle: int, row: int, column: int, direction: int, arrays: StateArrays, search: RouteSearch) -> int:
    """Cells by which the best way from a configuration is longer than the shortest path; at most ``MAX_DETOUR``.

    ``arrays.occupant`` holds the trains (``mark_trains``). What stands in the first cell itself counts too.
    """
    grid, maps, way_map = arrays.grid, arrays.maps, arrays.dynamic[NEXT_MAP, handle]
    shortest = maps[way_map, row, column, direction]
    detour = _hindrance(handle, row, column, direction, 0, arrays)
    if detour >= MAX_DETOUR or shortest == np.inf:
        return MAX_DETOUR
    n_entries = _put_off(row, column, direction, detour, 0, grid.shape[1], search)
    result = MAX_DETOUR
    while detour < result:
        last = search.bucket[detour]
        if last < 0:
            detour += 1
            continue
        entry = search.entries[last]
        row, column, direction, search.bucket[detour] = entry[0], entry[1], entry[2], entry[3]
        if search.detour[_key_of(row, column, direction, grid.shape[1])] != detour:
            continue  # a shorter way was found since
        to_go = maps[way_map, row, column, direction]
        hindrance = 0
        while hindrance == 0 and to_go > 0 and count_exits(exits_of(grid[row, column], direction)) == 1:
            # from where there is a way to the target the only way on leads there, one cell nearer
            row, column, direction = possible_move(grid, row, column, direction, MOVE_FORWARD)
            to_go -= 1
            hindrance = _hindrance(handle, row, column, direction, int(shortest - to_go) + detour, arrays)
        if hindrance > 0:
            n_entries = _put_off(row, column, direction, detour + hindrance, n_entries, grid.shape[1], search)
            continue
        if to_go == 0:
            result = detour
            break
        for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
            next_row, next_column, next_direction = possible_move(grid, row, column, direction, action)
            if next_row < 0 or maps[way_map, next_row, next_column, next_direction] == np.inf:
                continue
            next_detour = detour + int(1 + maps[way_map, next_row, next_column, next_direction] - to_go)
            next_detour += _hindrance(
                handle, next_row, next_column, next_direction, int(shortest - to_go) + detour + 1, arrays
            )
            n_entries = _put_off(next_row, next_column, next_direction, next_detour, n_entries, grid.shape[1], search)
    for entry in search.entries[:n_entries]:
        search.detour[_key_of(entry[0], entry[1], entry[2], grid.shape[1])] = -1
    search.bucket[:] = -1
    return result
