"""The ways on which trains can leave the map, and the search for them. Compiled, over ``ExitTables``.

A way is a list of configurations, from where a train stands to its target, written as keys.
"""

import numpy as np

from utils.compiled import compiled_helper
from utils.exit_tables import (
    AT,
    END,
    N_SEARCHES,
    NO_WAY,
    OFF_MAP,
    ORIGIN,
    PENDING,
    PLACE,
    RESOURCE,
    STANDS,
    TARGET,
    VISITED,
    WAITS_FOR,
    ExitTables,
)
from utils.rail_grid import (
    MOVE_FORWARD,
    MOVE_LEFT,
    MOVE_RIGHT,
    count_exits,
    exits_of,
    possible_move,
)
from utils.rail_state import as_int64
from utils.train_sets import clear_bit, put_bit


@compiled_helper
def key_of(grid: np.ndarray, row: int, column: int, direction: int) -> int:
    """The number of a configuration."""
    return 4 * (row * grid.shape[1] + column) + direction


@compiled_helper
def put_train(handle: int, key: int, exits: ExitTables) -> None:
    """Let a train stand at a free place, or nowhere; where it was before must have been freed."""
    exits.trains[AT, handle] = key
    if key != OFF_MAP:
        exits.occupant[exits.places[RESOURCE, key]] = handle + 1


@compiled_helper
def take_train(handle: int, exits: ExitTables) -> None:
    """Free the place where a train stands, if it is on the map."""
    key = exits.trains[AT, handle]
    if key != OFF_MAP:
        exits.occupant[exits.places[RESOURCE, key]] = 0


@compiled_helper
def holder_of(key: int, occupant: np.ndarray, places: np.ndarray) -> int:
    """The train at the place of a configuration, or -1."""
    return as_int64(occupant[places[RESOURCE, key]]) - 1


@compiled_helper
def _in_the_way(handle: int, key: int, occupant: np.ndarray, places: np.ndarray, trains: np.ndarray) -> int:
    """Another train that stands at the place of a configuration, or -1."""
    holder = holder_of(key, occupant, places)
    return holder if holder >= 0 and holder != handle and trains[STANDS, holder] == 1 else -1


@compiled_helper
def _put_by_distance(key: int, first: int, n_pending: int, places: np.ndarray, distances: np.ndarray) -> None:
    """Add a configuration to those to look at, of which the ones from ``first`` on are sorted, the nearest last."""
    cell, width = key // 4, distances.shape[1]
    distance = distances[cell // width, cell % width, key % 4]
    place = n_pending
    while place > first:
        before = as_int64(places[PENDING, place - 1])
        if distances[before // 4 // width, before // 4 % width, before % 4] >= distance:
            break
        places[PENDING, place] = before
        place -= 1
    places[PENDING, place] = key


@compiled_helper
def find_way(handle: int, exits: ExitTables) -> int:
    """Search a way to the target past the trains that stand; the key of its last configuration, or ``NO_WAY``.

    Depth first, nearest to the target first: where nothing is in the way it walks the shortest path and is done.
    ``ORIGIN`` then leads back. The set ``WAITS_FOR`` are the trains but for which there might be a way.
    """
    # The loop below makes up most of a step with many trains: it must not hand over the whole of ``exits``.
    grid, trains, occupant, places = exits.grid, exits.trains, exits.occupant, exits.places
    distances, waits_for = exits.distance_map[handle], exits.sets[handle, WAITS_FOR]
    target, width = trains[TARGET, handle], grid.shape[1]
    exits.counts[N_SEARCHES] += 1
    search = exits.counts[N_SEARCHES]
    waits_for[:] = 0
    key = trains[AT, handle]
    row, column, direction = key // 4 // width, key // 4 % width, key % 4
    if distances[row, column, direction] == np.inf:
        return NO_WAY
    places[VISITED, key] = search
    places[ORIGIN, key] = NO_WAY
    places[PENDING, 0] = key
    n_pending = 1
    while n_pending > 0:
        n_pending -= 1
        key = as_int64(places[PENDING, n_pending])
        row, column, direction = key // 4 // width, key // 4 % width, key % 4
        while True:
            if key // 4 == target and distances[row, column, direction] == 0:
                return key
            if count_exits(exits_of(int(grid[row, column]), direction)) != 1:
                break
            # from where there is a way to the target the only way on leads there: no need to look at the distance
            row, column, direction = possible_move(grid, row, column, direction, MOVE_FORWARD)
            next_key = 4 * (row * width + column) + direction
            if row < 0 or places[VISITED, next_key] == search:
                row = -1
                break
            other = _in_the_way(handle, next_key, occupant, places, trains)
            if other >= 0:
                put_bit(waits_for, other)
                row = -1
                break
            places[VISITED, next_key] = search
            places[ORIGIN, next_key] = key
            key = next_key
        if row < 0:
            continue
        first = n_pending
        for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
            next_row, next_column, next_direction = possible_move(grid, row, column, direction, action)
            next_key = 4 * (next_row * width + next_column) + next_direction
            if next_row < 0 or places[VISITED, next_key] == search:
                continue
            if distances[next_row, next_column, next_direction] == np.inf:
                continue
            other = _in_the_way(handle, next_key, occupant, places, trains)
            if other >= 0:
                put_bit(waits_for, other)
                continue
            places[VISITED, next_key] = search
            places[ORIGIN, next_key] = key
            _put_by_distance(next_key, first, n_pending, places, distances)
            n_pending += 1
    return NO_WAY


@compiled_helper
def drop_way(handle: int, exits: ExitTables) -> None:
    """Forget the known way of a train."""
    for place in range(exits.trains[PLACE, handle] + 1, exits.trains[END, handle]):
        clear_bit(exits.crossing[exits.keys[handle, place] // 4], handle)
    exits.trains[END, handle] = 0


@compiled_helper
def keep_way(handle: int, last: int, exits: ExitTables) -> None:
    """Note the way that ``find_way`` has just found as the known one."""
    drop_way(handle, exits)
    places, known = exits.places, exits.keys[handle]
    length, key = 1, last
    while places[ORIGIN, key] != NO_WAY:
        key = as_int64(places[ORIGIN, key])
        length += 1
    exits.trains[PLACE, handle] = 0
    exits.trains[END, handle] = length
    key = last
    for place in range(length - 1, 0, -1):
        known[place] = key
        put_bit(exits.crossing[key // 4], handle)
        key = as_int64(places[ORIGIN, key])
    known[0] = key


@compiled_helper
def place_in_way(handle: int, key: int, exits: ExitTables) -> int:
    """Where in a train's known way a configuration is; ``NO_WAY`` if it is not."""
    for place in range(exits.trains[END, handle]):
        if exits.keys[handle, place] == key:
            return place
    return NO_WAY


@compiled_helper
def follows_way(handle: int, key: int, exits: ExitTables) -> bool:
    """Whether a configuration is the next one in a train's known way."""
    next_place = exits.trains[PLACE, handle] + 1
    return next_place < exits.trains[END, handle] and exits.keys[handle, next_place] == key


@compiled_helper
def go_to_place(handle: int, place: int, exits: ExitTables) -> None:
    """Let a train's known way begin elsewhere, farther on or farther back."""
    known, crossing = exits.keys[handle], exits.crossing
    end, before = exits.trains[END, handle], exits.trains[PLACE, handle]
    for ahead in range(place + 1, before + 1):
        put_bit(crossing[known[ahead] // 4], handle)
    for passed in range(before + 1, place + 1):
        cell = known[passed] // 4
        clear_bit(crossing[cell], handle)
        for ahead in range(place + 1, end):  # a way may come through a cell twice
            if known[ahead] // 4 == cell:
                put_bit(crossing[cell], handle)
    exits.trains[PLACE, handle] = place


@compiled_helper
def is_known_way_free(handle: int, exits: ExitTables) -> bool:
    """Whether a train has a known way on which no other train stands."""
    trains, occupant, places, known = exits.trains, exits.occupant, exits.places, exits.keys[handle]
    for place in range(trains[PLACE, handle] + 1, trains[END, handle]):
        if _in_the_way(handle, as_int64(known[place]), occupant, places, trains) >= 0:
            return False
    return trains[END, handle] > 0
