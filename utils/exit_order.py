"""In which order the trains on the map could leave it, one after the other. Compiled, over ``ExitTables``.

A train *can leave* if there is a way to its target on which no other train stands, whatever its length. With that
train gone there may be a way for another one, and so on. If all trains can leave in some order, the positions are
safe: nobody is in a deadlock, and nobody needs to come into one. (The banker's algorithm of Dijkstra 1965, with cells
in place of money. Leaving is never in anybody's way, so the order found by taking any train that can leave next is
as good as any: who is left in the end does not depend on it. Trains left in the end are *stuck*.)

So one order and one way for each train are enough to know, and they are kept from step to step. When trains move, only
those have to be looked at again that have moved, those whose known way leads through their cells, those whose known way
leads through the cells of these, and so on: they are called the *party*. All others leave first, as before.

:func:`judge_move` asks whether the positions stay safe if one train moves on. If that one train can leave while the
rest of its party stands still, all the others follow as before, and that is most often so. Else it is looked for a
train of the party that stands in its way and could leave before it.
"""

import numpy as np

from utils.compiled import compiled, compiled_helper
from utils.exit_tables import (
    ASKED,
    ASKED_AT,
    AT,
    BY_RANK,
    END,
    FAILED,
    LAST_MOVE,
    MOVED,
    N_LEAVING,
    N_MOVES,
    N_PARTY,
    N_STANDING,
    N_STUCK,
    NO_WAY,
    OFF_MAP,
    ORIGIN,
    PARTY,
    PLACE,
    STANDING,
    STANDS,
    STUCK,
    TARGET,
    WAITING,
    WAITS_FOR,
    ExitTables,
)
from utils.rail_state import COLUMN, DIRECTION, DONE, ROW, STATE, as_int64
from utils.train_sets import has_bit, next_bit, put_bit
from utils.ways_out import (
    drop_way,
    find_way,
    follows_way,
    go_to_place,
    holder_of,
    is_known_way_free,
    keep_way,
    key_of,
    place_in_way,
    put_train,
    take_train,
)

# What comes of a move.
UNSAFE, ARRIVES, KEEPS_ORDER, CHANGES_ORDER = range(4)


@compiled_helper
def _join(handle: int, exits: ExitTables) -> None:
    """Add a train to the party."""
    exits.trains[PARTY, exits.counts[N_PARTY]] = handle
    exits.counts[N_PARTY] += 1
    exits.trains[STANDS, handle] = 1
    exits.trains[FAILED, handle] = 0


@compiled_helper
def _gather(exits: ExitTables) -> None:
    """Add to the party all whose known way leads through a cell of one of the party."""
    trains, counts = exits.trains, exits.counts
    first = 0
    while first < counts[N_PARTY]:
        through = exits.crossing[trains[AT, trains[PARTY, first]] // 4]
        handle = next_bit(through, -1)
        while handle >= 0:
            if trains[STANDS, handle] == 0:
                _join(handle, exits)
            handle = next_bit(through, handle)
        first += 1


@compiled_helper
def _leaves_next(handle: int, trains: np.ndarray, counts: np.ndarray) -> None:
    """Put a train behind those that are in the order already."""
    trains[BY_RANK, counts[N_LEAVING]] = handle
    counts[N_LEAVING] += 1


@compiled_helper
def _has_left(handle: int, exits: ExitTables) -> None:
    """Give those another chance that were held up by a train."""
    trains = exits.trains
    trains[STANDS, handle] = 0
    for other in trains[PARTY, : exits.counts[N_PARTY]]:
        if trains[FAILED, other] == 1 and has_bit(exits.sets[other, WAITS_FOR], handle):
            trains[FAILED, other] = 0


@compiled_helper
def _divide_order(trains: np.ndarray, counts: np.ndarray) -> None:
    """Leave in the order who is not of the party; those of the party that have not moved join it in their order."""
    n_ranked = counts[N_LEAVING]
    counts[N_LEAVING] = 0
    for handle in trains[BY_RANK, :n_ranked]:
        if trains[STANDS, handle] == 0 and trains[AT, handle] != OFF_MAP:
            _leaves_next(handle, trains, counts)
        elif trains[STANDS, handle] == 1 and trains[MOVED, handle] == 0:
            trains[PARTY, counts[N_PARTY]] = handle
            counts[N_PARTY] += 1


@compiled_helper
def _let_movers_leave(n_movers: int, exits: ExitTables) -> bool:
    """Let trains of the party leave until all that have moved are gone; returns whether it comes to that."""
    trains, counts = exits.trains, exits.counts
    progress = True
    while progress and n_movers > 0:
        progress = False
        for handle in trains[PARTY, : counts[N_PARTY]]:
            if n_movers == 0 or trains[FAILED, handle] == 1 or trains[STANDS, handle] == 0:
                continue
            if not is_known_way_free(handle, exits):
                last = find_way(handle, exits)
                if last == NO_WAY:
                    trains[FAILED, handle] = 1
                    continue
                keep_way(handle, last, exits)
            progress = True
            n_movers -= trains[MOVED, handle]
            _leaves_next(handle, trains, counts)
            _has_left(handle, exits)
    return n_movers == 0


@compiled_helper
def _dissolve_party(are_stuck: bool, exits: ExitTables) -> None:
    """Who of the party has not left is stuck, or leaves as before, and the party is over."""
    trains, counts = exits.trains, exits.counts
    for handle in trains[PARTY, : counts[N_PARTY]]:
        trains[MOVED, handle] = 0
        remains = int(trains[STANDS, handle] == 1 and are_stuck)
        counts[N_STUCK] += remains - trains[STUCK, handle]
        trains[STUCK, handle] = remains
        if remains == 1:
            drop_way(handle, exits)
        elif trains[STANDS, handle] == 1:
            trains[STANDS, handle] = 0
            _leaves_next(handle, trains, counts)
    counts[N_PARTY] = 0


@compiled_helper
def _order_anew(reconsider_stuck: bool, exits: ExitTables) -> None:
    """Put the party behind the others in the order; so far it is the trains that have moved."""
    trains, counts = exits.trains, exits.counts
    for handle in trains[PARTY, : counts[N_PARTY]]:
        trains[MOVED, handle] = 1
    if reconsider_stuck:
        for handle in range(trains.shape[1]):
            if trains[STUCK, handle] == 1 and trains[MOVED, handle] == 0:
                trains[MOVED, handle] = 1
                _join(handle, exits)
    n_movers = counts[N_PARTY]
    _gather(exits)
    counts[N_PARTY] = n_movers
    _divide_order(trains, counts)
    # when those that have moved are gone the others leave as before
    _dissolve_party(not _let_movers_leave(n_movers, exits), exits)


@compiled_helper
def _move(handle: int, key: int, exits: ExitTables) -> None:
    """Let a train stand elsewhere; where it was before must have been freed."""
    put_train(handle, key, exits)
    exits.counts[N_MOVES] += 1
    exits.trains[LAST_MOVE, handle] = exits.counts[N_MOVES]


@compiled_helper
def _take_off_map(handle: int, exits: ExitTables) -> None:
    """Forget a train whose place is free already."""
    _move(handle, OFF_MAP, exits)
    drop_way(handle, exits)
    exits.trains[STANDS, handle] = 0
    exits.counts[N_STUCK] -= exits.trains[STUCK, handle]
    exits.trains[STUCK, handle] = 0


@compiled_helper
def _key_on_map(handle: int, dynamic: np.ndarray, grid: np.ndarray) -> int:
    row = as_int64(dynamic[ROW, handle])
    if row < 0 or dynamic[STATE, handle] == DONE:
        return OFF_MAP
    return key_of(grid, row, as_int64(dynamic[COLUMN, handle]), as_int64(dynamic[DIRECTION, handle]))


@compiled_helper
def _follow_train(handle: int, key: int, exits: ExitTables) -> None:
    """Note where a train is now, whose place is free already; if it is on the map it joins the party."""
    if key == OFF_MAP:
        _take_off_map(handle, exits)
        return
    _move(handle, key, exits)
    place = place_in_way(handle, key, exits)
    if place == NO_WAY:
        drop_way(handle, exits)
    else:
        go_to_place(handle, place, exits)
    _join(handle, exits)


@compiled
def follow_trains(dynamic: np.ndarray, exits: ExitTables) -> None:
    """Bring the order up to date with the positions in ``RailState.dynamic``, whatever has changed since."""
    trains, changed = exits.trains, exits.trains[STANDING]
    n_changed = n_were_stuck = 0
    for handle in range(dynamic.shape[1]):
        if _key_on_map(handle, dynamic, exits.grid) != trains[AT, handle]:
            n_were_stuck += trains[STUCK, handle]
            take_train(handle, exits)
            changed[n_changed] = handle
            n_changed += 1
    for handle in changed[:n_changed]:
        _follow_train(handle, _key_on_map(handle, dynamic, exits.grid), exits)
    if n_changed > 0:
        _order_anew(n_were_stuck > 0, exits)


@compiled_helper
def _first_in_the_way(handle: int, last: int, exits: ExitTables) -> int:
    """The first of the party, or -1, on the way that a search has found, or on the known one for ``NO_WAY``."""
    trains, occupant, places = exits.trains, exits.occupant, exits.places
    if last == NO_WAY:
        for key in exits.keys[handle, trains[PLACE, handle] + 1 : trains[END, handle]]:
            other = holder_of(as_int64(key), occupant, places)
            if other >= 0 and other != handle and trains[WAITING, other] == 1:
                return other
        return -1
    first = -1
    while places[ORIGIN, last] != NO_WAY:
        other = holder_of(last, occupant, places)
        if other >= 0 and other != handle and trains[WAITING, other] == 1:
            first = other
        last = as_int64(places[ORIGIN, last])
    return first


@compiled_helper
def _stand_up(handle: int, exits: ExitTables) -> None:
    """Let a train of the party be in the way of searches."""
    if exits.trains[STANDS, handle] == 0:
        exits.trains[STANDS, handle] = 1
        exits.trains[FAILED, handle] = 0
        exits.trains[STANDING, exits.counts[N_STANDING]] = handle
        exits.counts[N_STANDING] += 1


@compiled_helper
def _try_to_leave(handle: int, exits: ExitTables) -> int:
    """Let a train leave past those that stand, unless it has failed; returns who else hinders it, or -1."""
    last = NO_WAY
    if not is_known_way_free(handle, exits):
        last = find_way(handle, exits)
        if last == NO_WAY:
            exits.trains[FAILED, handle] = 1
            return -1
    other = _first_in_the_way(handle, last, exits)
    if other < 0:
        exits.trains[WAITING, handle] = 0
        _has_left(handle, exits)
    return other


@compiled_helper
def _last_with_a_chance(trains: np.ndarray, n_standing: int) -> int:
    """Who stood up last of those that stand and have not failed, or -1."""
    for i in range(n_standing - 1, -1, -1):
        handle = trains[STANDING, i]
        if trains[STANDS, handle] == 1 and trains[FAILED, handle] == 0:
            return handle
    return -1


@compiled_helper
def _can_leave(goal: int, mover: int, exits: ExitTables) -> bool:
    """Whether a train of the party can leave, after others of the party if need be.

    A few trains that all are in each other's way are proof that it cannot: mostly two, nose to nose at the ends of a
    track. So only ``goal`` stands in the way at first, and others when it turns out that they matter: they stand on
    the way that was found for one of those that stand already.
    """
    trains, counts = exits.trains, exits.counts
    locked = exits.sets[mover, trains[AT, mover] % 4]
    counts[N_STANDING] = 0
    for handle in trains[PARTY, : counts[N_PARTY]]:
        trains[FAILED, handle] = trains[STANDS, handle] = 0
        if trains[WAITING, handle] == 1 and has_bit(locked, handle):
            _stand_up(handle, exits)
    handle = goal
    while handle >= 0:
        _stand_up(handle, exits)
        handle = _try_to_leave(handle, exits)
        if trains[WAITING, goal] == 0:
            return True
        if handle < 0:
            handle = _last_with_a_chance(trains, counts[N_STANDING])
    locked[:] = 0
    for handle in trains[STANDING, : counts[N_STANDING]]:
        if trains[STANDS, handle] == 1:
            put_bit(locked, handle)
    return False


@compiled_helper
def _is_party_safe(was_stuck: bool, exits: ExitTables) -> bool:
    """Whether all can leave that could before the first of the party moved, and that one itself unless it was stuck."""
    trains, n_party = exits.trains, exits.counts[N_PARTY]
    if n_party == 1 and (was_stuck or exits.counts[N_STUCK] == 0):
        return True
    for handle in trains[PARTY, :n_party]:
        trains[WAITING, handle] = 1
    mover, is_safe = trains[PARTY, 0], True
    # if it was not stuck and can leave the others follow as before
    for handle in trains[PARTY, 1 if was_stuck else 0 : n_party if was_stuck else 1]:
        is_safe = is_safe and (trains[WAITING, handle] == 0 or _can_leave(handle, mover, exits))
    for handle in trains[PARTY, :n_party]:
        trains[WAITING, handle] = 0
    return is_safe


@compiled_helper
def _is_still_unsafe(handle: int, key: int, exits: ExitTables) -> bool:
    """Whether a move was unsafe when it was asked for last and none has moved since of the trains that made it so."""
    trains, direction = exits.trains, key % 4
    if trains[ASKED + direction, handle] != key:
        return False
    locked = exits.sets[handle, direction]
    other = next_bit(locked, -1)
    while other >= 0:
        if trains[LAST_MOVE, other] > trains[ASKED_AT + direction, handle]:
            return False
        other = next_bit(locked, other)
    return True


@compiled_helper
def _leaves_before(handle: int, through: np.ndarray, trains: np.ndarray, n_leaving: int) -> bool:
    """Whether a train leaves before all others in the set ``through``."""
    for other in trains[BY_RANK, :n_leaving]:
        if other == handle:
            return True
        if has_bit(through, other):
            return False
    return False


@compiled_helper
def _try_out(handle: int, key: int, exits: ExitTables) -> int:
    """What would come of a move, found out as if the train had moved, with what is left of its known way."""
    trains = exits.trains
    was_at, place, end = trains[AT, handle], trains[PLACE, handle], trains[END, handle]
    was_stuck, follows = trains[STUCK, handle] == 1, follows_way(handle, key, exits)
    take_train(handle, exits)
    put_train(handle, key, exits)
    trains[PLACE, handle] = place + 1
    trains[END, handle] = end if follows else 0
    trains[STUCK, handle] = 0
    exits.counts[N_PARTY] = 0
    _join(handle, exits)
    _gather(exits)
    n_party, is_safe = exits.counts[N_PARTY], _is_party_safe(was_stuck, exits)
    for other in trains[PARTY, :n_party]:
        trains[STANDS, other] = 0
    exits.counts[N_PARTY] = 0
    trains[PLACE, handle], trains[END, handle] = place, end
    trains[STUCK, handle] = trains[STANDS, handle] = int(was_stuck)
    take_train(handle, exits)
    put_train(handle, was_at, exits)
    if not is_safe:
        return UNSAFE
    return KEEPS_ORDER if follows and n_party == 1 else CHANGES_ORDER


@compiled_helper
def judge_move(handle: int, row: int, column: int, direction: int, exits: ExitTables) -> int:
    """What comes of a move to a free place, or of entering the map there.

    It is ``UNSAFE`` if not as many trains as before can leave afterwards. Where there is a deadlock already a move is
    safe if it makes none worse. What else it returns is for ``make_move``.
    """
    trains, counts = exits.trains, exits.counts
    key = key_of(exits.grid, row, column, direction)
    distance = exits.distance_map[handle, row, column, direction]
    if distance == 0 and key // 4 == trains[TARGET, handle]:
        return ARRIVES
    if distance == np.inf:
        return UNSAFE
    through = exits.crossing[key // 4]
    if follows_way(handle, key, exits) and _leaves_before(handle, through, trains, counts[N_LEAVING]):
        return KEEPS_ORDER
    if counts[N_STUCK] == 0 and next_bit(through, -1) == -1:
        return CHANGES_ORDER
    if _is_still_unsafe(handle, key, exits):
        return UNSAFE
    outcome = _try_out(handle, key, exits)
    trains[ASKED + direction, handle] = NO_WAY if outcome != UNSAFE or counts[N_STUCK] > 0 else key
    trains[ASKED_AT + direction, handle] = counts[N_MOVES]
    return outcome


@compiled_helper
def make_move(handle: int, key: int, outcome: int, exits: ExitTables) -> None:
    """Carry out a safe move to the configuration ``key``, for further questions; ``judge_move`` gave the outcome."""
    trains = exits.trains
    was_stuck = trains[STUCK, handle] == 1
    if outcome == ARRIVES and trains[AT, handle] == OFF_MAP:
        return
    take_train(handle, exits)
    if outcome == ARRIVES:
        _take_off_map(handle, exits)
    else:
        follows = follows_way(handle, key, exits)
        _move(handle, key, exits)
        if follows:
            go_to_place(handle, trains[PLACE, handle] + 1, exits)
        else:
            drop_way(handle, exits)
    if outcome == CHANGES_ORDER:
        _join(handle, exits)
    if outcome != KEEPS_ORDER:
        _order_anew(was_stuck, exits)
