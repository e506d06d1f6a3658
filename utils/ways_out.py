"""The ways on which trains can leave the map, and the search for them. Compiled, over ``RailState``.

A way is a list of configurations, from where a train stands to its target. A configuration is written as one number,
its *key*: 4 x cell + direction.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.compiled import compiled
from utils.rail_grid import (
    MOVE_FORWARD,
    MOVE_LEFT,
    MOVE_RIGHT,
    count_exits,
    exits_of,
    possible_move,
    resource_of,
)
from utils.rail_state import TARGET_COLUMN, TARGET_ROW, RailState

NO_WAY = -1
OFF_MAP = -1
_BITS = 64  # in a word


class WaysOut(NamedTuple):
    """Where the trains of one level are, on which ways they can leave, and memory for the search.

    Attributes:
        grid, distance_map, level_free, constants: those of the ``RailState``, not copied.
        at: int64 [trains], the key of a train's configuration, or ``OFF_MAP``.
        occupant: int32 [2 x cells], handle + 1 of the train that stands there; see ``rail_grid.resource_of``.
        stands: bool [trains], whether a train is in the way of a search; the others are taken to have left.
        keys: int32 [trains, configurations], the known way of each train, which may have begun before it.
        place: int64 [trains], where in its way a train is.
        end: int64 [trains], the length of its way; 0 if none is known.
        crossing: int64 [cells, words], the trains, a bit each, whose known way leads on through a cell.
        waits_for: int64 [trains, words], the trains that the last search for a train has met, a bit each.
        visited: int32 [configurations], the last search that came by.
        n_searches: int64 [1].
        origin: int32 [configurations], from where the last search came.
        pending: int32 [configurations].
    """

    grid: NDArray[np.uint16]
    distance_map: NDArray[np.float64]
    level_free: NDArray[np.bool_]
    constants: NDArray[np.int32]
    at: NDArray[np.int64]
    occupant: NDArray[np.int32]
    stands: NDArray[np.bool_]
    keys: NDArray[np.int32]
    place: NDArray[np.int64]
    end: NDArray[np.int64]
    crossing: NDArray[np.int64]
    waits_for: NDArray[np.int64]
    visited: NDArray[np.int32]
    n_searches: NDArray[np.int64]
    origin: NDArray[np.int32]
    pending: NDArray[np.int32]

    @classmethod
    def for_state(cls, state: RailState) -> "WaysOut":
        """An empty map."""
        n_trains, n_cells = state.n_trains, state.grid.size
        n_words = (n_trains + _BITS - 1) // _BITS
        return cls(
            grid=state.grid,
            distance_map=state.distance_map,
            level_free=state.level_free,
            constants=state.constants,
            at=np.full(n_trains, OFF_MAP, dtype=np.int64),
            occupant=np.zeros(2 * n_cells, dtype=np.int32),
            stands=np.zeros(n_trains, dtype=np.bool_),
            # a search comes through a configuration once; what no way is long enough to use costs no memory
            keys=np.empty((n_trains, 4 * n_cells), dtype=np.int32),
            place=np.zeros(n_trains, dtype=np.int64),
            end=np.zeros(n_trains, dtype=np.int64),
            crossing=np.zeros((n_cells, n_words), dtype=np.int64),
            waits_for=np.zeros((n_trains, n_words), dtype=np.int64),
            visited=np.zeros(4 * n_cells, dtype=np.int32),
            n_searches=np.zeros(1, dtype=np.int64),
            origin=np.empty(4 * n_cells, dtype=np.int32),
            pending=np.empty(4 * n_cells, dtype=np.int32),
        )


@compiled
def put_bit(bits: np.ndarray, handle: int) -> None:
    """Enter a train into a set, int64 [words]."""
    bits[handle // _BITS] |= 1 << (handle % _BITS)


@compiled
def clear_bit(bits: np.ndarray, handle: int) -> None:
    """Take a train out of a set."""
    bits[handle // _BITS] &= ~(1 << (handle % _BITS))


@compiled
def has_bit(bits: np.ndarray, handle: int) -> bool:
    """Whether a train is in a set."""
    return (bits[handle // _BITS] >> (handle % _BITS)) & 1 == 1


@compiled
def next_bit(bits: np.ndarray, handle: int) -> int:
    """The first train in a set from ``handle`` on; -1 if there is none."""
    n_trains = bits.shape[0] * _BITS
    while handle < n_trains:
        rest = bits[handle // _BITS] >> (handle % _BITS)
        if rest == 0:
            handle = (handle // _BITS + 1) * _BITS
        elif rest & 1 == 1:
            return handle
        else:
            handle += 1
    return -1


@compiled
def key_of(ways: WaysOut, row: int, column: int, direction: int) -> int:
    """The number of a configuration."""
    return 4 * (row * ways.grid.shape[1] + column) + direction


@compiled
def configuration_at(ways: WaysOut, key: int) -> tuple[int, int, int]:
    """Row, column and direction."""
    cell = key // 4
    width = ways.grid.shape[1]
    return cell // width, cell % width, key % 4


@compiled
def is_at_target(
    handle: int, row: int, column: int, direction: int, distance_map: np.ndarray, constants: np.ndarray
) -> bool:
    """Whether a train that comes to a configuration has arrived."""
    return (
        row == constants[TARGET_ROW, handle]
        and column == constants[TARGET_COLUMN, handle]
        and distance_map[handle, row, column, direction] == 0
    )


@compiled
def put_train(handle: int, key: int, ways: WaysOut) -> None:
    """Let a train stand at a free place, or nowhere; where it was before must have been freed."""
    ways.at[handle] = key
    if key != OFF_MAP:
        row, column, direction = configuration_at(ways, key)
        ways.occupant[resource_of(ways.level_free, row, column, direction)] = handle + 1


@compiled
def take_train(handle: int, ways: WaysOut) -> None:
    """Free the place where a train stands, if it is on the map."""
    if ways.at[handle] != OFF_MAP:
        row, column, direction = configuration_at(ways, ways.at[handle])
        ways.occupant[resource_of(ways.level_free, row, column, direction)] = 0


@compiled
def _in_the_way(
    handle: int,
    row: int,
    column: int,
    direction: int,
    level_free: np.ndarray,
    occupant: np.ndarray,
    stands: np.ndarray,
) -> int:
    """Another train that stands at a place, or -1."""
    holder = occupant[resource_of(level_free, row, column, direction)] - 1
    return holder if holder >= 0 and holder != handle and stands[holder] else -1


@compiled
def find_way(handle: int, ways: WaysOut) -> int:
    """Search a way to the target past the trains that stand; the key of its last configuration, or ``NO_WAY``.

    Depth first, nearest to the target first: where nothing is in the way it walks the shortest path and is done.
    ``ways.origin`` then leads back. ``ways.waits_for`` are the trains but for which there might be a way.
    """
    # The loop below makes up most of a step with many trains: it must not hand over the whole of ``ways``.
    grid, level_free, occupant, stands = ways.grid, ways.level_free, ways.occupant, ways.stands
    visited, origin, pending, waits_for = ways.visited, ways.origin, ways.pending, ways.waits_for[handle]
    distances = ways.distance_map[handle]
    target_row, target_column = ways.constants[TARGET_ROW, handle], ways.constants[TARGET_COLUMN, handle]
    width = grid.shape[1]
    ways.n_searches[0] += 1
    search = ways.n_searches[0]
    waits_for[:] = 0
    key = ways.at[handle]
    row, column, direction = key // 4 // width, key // 4 % width, key % 4
    if distances[row, column, direction] == np.inf:
        return NO_WAY
    visited[key] = search
    origin[key] = NO_WAY
    pending[0] = key
    n_pending = 1
    while n_pending > 0:
        n_pending -= 1
        key = int(pending[n_pending])
        row, column, direction = key // 4 // width, key // 4 % width, key % 4
        while True:
            if row == target_row and column == target_column and distances[row, column, direction] == 0:
                return key
            if count_exits(exits_of(int(grid[row, column]), direction)) != 1:
                break
            # from where there is a way to the target the only way on leads there: no need to look at the distance
            row, column, direction = possible_move(grid, row, column, direction, MOVE_FORWARD)
            next_key = 4 * (row * width + column) + direction
            if row < 0 or visited[next_key] == search:
                row = -1
                break
            other = _in_the_way(handle, row, column, direction, level_free, occupant, stands)
            if other >= 0:
                put_bit(waits_for, other)
                row = -1
                break
            visited[next_key] = search
            origin[next_key] = key
            key = next_key
        if row < 0:
            continue
        first = n_pending
        for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
            next_row, next_column, next_direction = possible_move(grid, row, column, direction, action)
            next_key = 4 * (next_row * width + next_column) + next_direction
            if next_row < 0 or visited[next_key] == search:
                continue
            distance = distances[next_row, next_column, next_direction]
            if distance == np.inf:
                continue
            other = _in_the_way(handle, next_row, next_column, next_direction, level_free, occupant, stands)
            if other >= 0:
                put_bit(waits_for, other)
                continue
            visited[next_key] = search
            origin[next_key] = key
            place = n_pending  # the nearest to the target last
            while place > first:
                before = int(pending[place - 1])
                if distances[before // 4 // width, before // 4 % width, before % 4] >= distance:
                    break
                pending[place] = before
                place -= 1
            pending[place] = next_key
            n_pending += 1
    return NO_WAY


@compiled
def drop_way(handle: int, ways: WaysOut) -> None:
    """Forget the known way of a train."""
    for key in ways.keys[handle, ways.place[handle] + 1 : ways.end[handle]]:
        clear_bit(ways.crossing[key // 4], handle)
    ways.end[handle] = 0


@compiled
def keep_way(handle: int, last: int, ways: WaysOut) -> None:
    """Note the way that ``find_way`` has just found as the known one."""
    drop_way(handle, ways)
    length = 1
    key = last
    while ways.origin[key] != NO_WAY:
        key = ways.origin[key]
        length += 1
    ways.place[handle] = 0
    ways.end[handle] = length
    key = last
    for place in range(length - 1, 0, -1):
        ways.keys[handle, place] = key
        put_bit(ways.crossing[key // 4], handle)
        key = ways.origin[key]
    ways.keys[handle, 0] = key


@compiled
def place_in_way(handle: int, key: int, ways: WaysOut) -> int:
    """Where in a train's known way a configuration is; ``NO_WAY`` if it is not."""
    for place in range(ways.end[handle]):
        if ways.keys[handle, place] == key:
            return place
    return NO_WAY


@compiled
def go_to_place(handle: int, place: int, ways: WaysOut) -> None:
    """Let a train's known way begin elsewhere, farther on or farther back."""
    known, end, before = ways.keys[handle], ways.end[handle], ways.place[handle]
    for ahead in range(place + 1, before + 1):
        put_bit(ways.crossing[known[ahead] // 4], handle)
    for passed in range(before + 1, place + 1):
        cell = known[passed] // 4
        clear_bit(ways.crossing[cell], handle)
        for ahead in range(place + 1, end):  # a way may come through a cell twice
            if known[ahead] // 4 == cell:
                put_bit(ways.crossing[cell], handle)
    ways.place[handle] = place


@compiled
def holder_of(key: int, ways: WaysOut) -> int:
    """The train at the place of a configuration, or -1."""
    row, column, direction = configuration_at(ways, int(key))
    return ways.occupant[resource_of(ways.level_free, row, column, direction)] - 1


@compiled
def is_known_way_free(handle: int, ways: WaysOut) -> bool:
    """Whether a train has a known way on which no other train stands."""
    for key in ways.keys[handle, ways.place[handle] + 1 : ways.end[handle]]:
        holder = holder_of(key, ways)
        if holder >= 0 and holder != handle and ways.stands[holder]:
            return False
    return ways.end[handle] > 0
