"""The search for ways on which trains can leave the map. Compiled, over ``ExitTables``.

Most searches fail, and most of these because of a few trains around where the train is or around its target. So a
search goes from both ends: on from the train until it is at the target, and as many steps back from the target, only
to find out whether anything leads there.
"""

import numpy as np

from utils.safe_moves.exit_tables import (
    ARRIVES_IN,
    AT,
    AT_RESOURCE,
    BACKWARD,
    CUT_FROM,
    CUT_PLACES,
    CUT_SIZE,
    MET_BACK,
    N_CUT_PLACES,
    N_CUTS,
    N_SEARCHES,
    N_WAY_KEYS,
    N_WAYS,
    NO_WAY,
    ONWARD,
    ORIGIN,
    PENDING,
    PENDING_BACK,
    SEVERAL,
    STANDS,
    TARGET,
    VISITED,
    VISITED_BACK,
    WAITS_FOR,
    WAY_KEYS,
    ExitTables,
    in_the_way,
)
from utils.safe_moves.known_ways import way_length
from utils.safe_moves.train_sets import copy_set, next_bit, put_bit
from utils.system.compiled import compiled_helper


@compiled_helper
def _put_by_distance(choice: int, first: int, n_pending: int, places: np.ndarray, distances: np.ndarray) -> None:
    """Add a place in ``forks`` to those to look at, of which from ``first`` on they are sorted, the nearest last."""
    place = n_pending
    while place > first:
        before = places[place - 1, PENDING]
        if distances[before] >= distances[choice]:
            break
        places[place, PENDING] = before
        place -= 1
    places[place, PENDING] = choice


@compiled_helper
def _put_back(key: int, n_pending: int, search: int, places: np.ndarray) -> int:
    """Add a configuration to those to look at on the way back, once; returns how many these are then."""
    if key == NO_WAY or places[key, VISITED_BACK] == search:
        return n_pending
    places[key, VISITED_BACK] = search
    places[n_pending, PENDING_BACK] = key
    return n_pending + 1


@compiled_helper
def _begin_at_target(handle: int, search: int, trains: np.ndarray, places: np.ndarray) -> int:
    """Let the way back begin at the target, in the directions in which the train may arrive; returns how many."""
    n_pending = 0
    for direction in range(4):
        if (trains[ARRIVES_IN, handle] >> direction) & 1 == 1:
            n_pending = _put_back(4 * trains[TARGET, handle] + direction, n_pending, search, places)
    return n_pending


@compiled_helper
def _step_back(
    handle: int,
    n_pending: int,
    search: int,
    forks: np.ndarray,
    trains: np.ndarray,
    occupant: np.ndarray,
    places: np.ndarray,
    met: np.ndarray,
) -> int:
    """Look at one configuration on the way back; returns how many are left to look at."""
    n_pending -= 1
    key = places[n_pending, PENDING_BACK]
    other = in_the_way(handle, key, occupant, places, trains)
    if other >= 0:
        put_bit(met, other)
        return n_pending
    before = places[key, BACKWARD]
    if before > SEVERAL:
        return _put_back(before, n_pending, search, places)
    for one_before in forks[SEVERAL - before]:
        n_pending = _put_back(one_before, n_pending, search, places)
    return n_pending


@compiled_helper
def _search(handle: int, exits: ExitTables) -> int:
    """``find_way`` without what is known of earlier searches.

    Depth first, nearest to the target first: where nothing is in the way it walks the shortest path and is done.
    """
    # The loop below makes up most of a step with many trains: it must not hand over the whole of ``exits``.
    trains, occupant, places, forks = exits.trains, exits.occupant, exits.places, exits.forks
    distances, met, met_back = exits.fork_distances[handle], exits.sets[handle, WAITS_FOR], exits.sets[handle, MET_BACK]
    target, arrives_in, start = trains[TARGET, handle], trains[ARRIVES_IN, handle], trains[AT, handle]
    exits.counts[N_SEARCHES] += 1
    search = exits.counts[N_SEARCHES]
    met[:] = 0
    met_back[:] = 0
    places[start, VISITED] = search
    places[start, ORIGIN] = NO_WAY
    key, n_pending, n_back = start, 0, _begin_at_target(handle, search, trains, places)
    n_steps = n_steps_back = 0
    while True:
        while True:
            if key // 4 == target and (arrives_in >> (key % 4)) & 1 == 1:
                return key
            next_key = places[key, ONWARD]
            # from where there is a way to the target the only way on leads there: no need to look at the distance
            if next_key < 0 or places[next_key, VISITED] == search:
                break
            other = in_the_way(handle, next_key, occupant, places, trains)
            if other >= 0:
                put_bit(met, other)
                break
            places[next_key, VISITED] = search
            places[next_key, ORIGIN] = key
            key = next_key
            n_steps += 1
        n_steps += 1
        if next_key <= SEVERAL:
            first, fork = n_pending, 4 * (SEVERAL - next_key)
            for choice in range(fork, fork + 4):
                next_key = forks[choice // 4, choice % 4]
                if next_key == NO_WAY or places[next_key, VISITED] == search or distances[choice] == np.inf:
                    continue
                other = in_the_way(handle, next_key, occupant, places, trains)
                if other >= 0:
                    put_bit(met, other)
                    continue
                places[next_key, VISITED] = search
                places[next_key, ORIGIN] = key
                _put_by_distance(choice, first, n_pending, places, distances)
                n_pending += 1
        if n_pending == 0:
            return NO_WAY
        while n_steps_back < n_steps and places[start, VISITED_BACK] != search:
            if n_back == 0:
                copy_set(met_back, met)
                return NO_WAY
            n_back = _step_back(handle, n_back, search, forks, trains, occupant, places, met_back)
            n_steps_back += 1
        n_pending -= 1
        choice = places[n_pending, PENDING]
        key = forks[choice // 4, choice % 4]


@compiled_helper
def _holds(handle: int, cut: np.ndarray, occupant: np.ndarray, trains: np.ndarray) -> bool:
    """Whether other trains stand at all places of a cut."""
    for place in cut[CUT_PLACES : CUT_PLACES + cut[N_CUT_PLACES]]:
        other = occupant[place] - 1
        if other < 0 or other == handle or trains[STANDS, other] == 0:
            return False
    return True


@compiled_helper
def _is_cut_off(handle: int, found: np.ndarray, met: np.ndarray, occupant: np.ndarray, trains: np.ndarray) -> bool:
    """Whether a cut holds that an earlier search has found; then the trains there are in ``met``."""
    for first in range(0, N_CUTS * CUT_SIZE, CUT_SIZE):
        cut = found[first : first + CUT_SIZE]
        if cut[CUT_FROM] == trains[AT, handle] and _holds(handle, cut, occupant, trains):
            met[:] = 0
            for place in cut[CUT_PLACES : CUT_PLACES + cut[N_CUT_PLACES]]:
                put_bit(met, occupant[place] - 1)
            return True
    return False


@compiled_helper
def _note_cut(at: int, cut: np.ndarray, met: np.ndarray, trains: np.ndarray, places: np.ndarray) -> None:
    """Remember that a search has failed, unless it has met too many trains."""
    cut[CUT_FROM] = NO_WAY
    end = CUT_PLACES
    other = next_bit(met, -1)
    while other >= 0:
        if end == CUT_SIZE:
            return
        cut[end] = places[trains[AT, other], AT_RESOURCE]
        end += 1
        other = next_bit(met, other)
    cut[CUT_FROM] = at
    cut[N_CUT_PLACES] = end - CUT_PLACES


@compiled_helper
def _follow(handle: int, way: np.ndarray, occupant: np.ndarray, places: np.ndarray, trains: np.ndarray) -> int:
    """Let ``ORIGIN`` lead back along a way; its last configuration, or ``NO_WAY`` if another train stands there."""
    key = way[WAY_KEYS]
    places[key, ORIGIN] = NO_WAY
    for next_key in way[WAY_KEYS + 1 : WAY_KEYS + way[N_WAY_KEYS]]:
        if in_the_way(handle, next_key, occupant, places, trains) >= 0:
            return NO_WAY
        places[next_key, ORIGIN] = key
        key = next_key
    return key


@compiled_helper
def _known_earlier(handle: int, found: np.ndarray, occupant: np.ndarray, places: np.ndarray, trains: np.ndarray) -> int:
    """The last configuration of a way that an earlier search has found and that is free, or ``NO_WAY``."""
    way_size = (found.shape[0] - N_CUTS * CUT_SIZE) // N_WAYS
    for first in range(N_CUTS * CUT_SIZE, found.shape[0], way_size):
        way = found[first : first + way_size]
        if way[N_WAY_KEYS] > 0 and way[WAY_KEYS] == trains[AT, handle]:
            last = _follow(handle, way, occupant, places, trains)
            if last != NO_WAY:
                return last
    return NO_WAY


@compiled_helper
def _note_way(last: int, number: int, found: np.ndarray, places: np.ndarray) -> None:
    """Remember what a search has found, unless it is very long."""
    way_size, length = (found.shape[0] - N_CUTS * CUT_SIZE) // N_WAYS, way_length(last, places)
    if WAY_KEYS + length > way_size:
        return
    first = N_CUTS * CUT_SIZE + number % N_WAYS * way_size
    found[first + N_WAY_KEYS] = length
    for place in range(first + WAY_KEYS + length - 1, first + WAY_KEYS - 1, -1):
        found[place] = last
        last = places[last, ORIGIN]


@compiled_helper
def find_way(handle: int, exits: ExitTables) -> int:
    """A way to the target past the trains that stand; the key of its last configuration, or ``NO_WAY``.

    ``ORIGIN`` then leads back. Else the set ``WAITS_FOR`` are trains of which one must leave before there is a way.
    """
    trains, occupant, places = exits.trains, exits.occupant, exits.places
    found, met = exits.found[handle], exits.sets[handle, WAITS_FOR]
    if _is_cut_off(handle, found, met, occupant, trains):
        return NO_WAY
    last = _known_earlier(handle, found, occupant, places, trains)
    if last != NO_WAY:
        return last
    last, number = _search(handle, exits), exits.counts[N_SEARCHES]
    if last == NO_WAY:
        first = number % N_CUTS * CUT_SIZE
        _note_cut(trains[AT, handle], found[first : first + CUT_SIZE], met, trains, places)
    else:
        _note_way(last, number, found, places)
    return last
