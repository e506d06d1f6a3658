"""The ways on which trains can leave the map. Compiled, over ``ExitTables``.

A way is a list of configurations, from where a train stands to its target, written as keys.
"""

import numpy as np

from utils.safe_moves.exit_tables import END, NO_WAY, ORIGIN, PLACE, ExitTables, in_the_way
from utils.safe_moves.train_sets import clear_bit, put_bit
from utils.system.compiled import compiled_helper


@compiled_helper
def drop_way(handle: int, exits: ExitTables) -> None:
    """Forget the known way of a train."""
    for place in range(exits.trains[PLACE, handle] + 1, exits.trains[END, handle]):
        clear_bit(exits.crossing[exits.keys[handle, place] // 4], handle)
    exits.trains[END, handle] = 0


@compiled_helper
def way_length(last: int, places: np.ndarray) -> int:
    """How many configurations the way has that a search has found."""
    length = 1
    while places[last, ORIGIN] != NO_WAY:
        last = places[last, ORIGIN]
        length += 1
    return length


@compiled_helper
def keep_way(handle: int, last: int, exits: ExitTables) -> None:
    """Note the way that ``find_way`` has just found as the known one."""
    drop_way(handle, exits)
    places, known = exits.places, exits.keys[handle]
    length = way_length(last, places)
    exits.trains[PLACE, handle] = 0
    exits.trains[END, handle] = length
    key = last
    for place in range(length - 1, 0, -1):
        known[place] = key
        put_bit(exits.crossing[key // 4], handle)
        key = places[key, ORIGIN]
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
        if in_the_way(handle, known[place], occupant, places, trains) >= 0:
            return False
    return trains[END, handle] > 0
