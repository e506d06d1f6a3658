"""In which order the trains on the map could leave it, one after the other. Compiled, over ``RailState``.

A train *can leave* if there is a way to its target on which no other train stands, whatever its length. With that
train gone there may be a way for another one, and so on. If all trains can leave in some order, the positions are
safe: nobody is in a deadlock, and nobody needs to come into one. (The banker's algorithm of Dijkstra 1965, with cells
in place of money. Leaving is never in anybody's way, so the order found by taking any train that can leave next is
as good as any: who is left in the end does not depend on it. Trains left in the end are *stuck*.)

So one order and one way for each train are enough to know, and they are kept from step to step. When trains move, only
those have to be looked at again that have moved, those whose known way leads through their cells, those whose known way
leads through the cells of these, and so on: they are called the *party*. All others leave first, as before.

:func:`is_safe_after` asks whether the positions stay safe if one train moves on. If that one train can leave while the
rest of its party stands still, all the others follow as before, and that is most often so. Else it is looked for a
train of the party that stands in its way and could leave before it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.compiled import compiled
from utils.rail_state import COLUMN, DIRECTION, DONE, ROW, STATE, RailState
from utils.ways_out import (
    NO_WAY,
    OFF_MAP,
    WaysOut,
    drop_way,
    find_way,
    go_to_place,
    has_bit,
    holder_of,
    is_at_target,
    is_known_way_free,
    keep_way,
    key_of,
    next_bit,
    place_in_way,
    put_bit,
    put_train,
    take_train,
)


class ExitOrder(NamedTuple):
    """What is known about the order for one level, and memory.

    Attributes:
        ways: where the trains are, and their ways. Outside of the functions here ``ways.stands`` holds the stuck ones.
        by_rank: int64 [trains], the trains in the order in which they leave.
        n_leaving: int64 [1], how many of them there are.
        stuck: bool [trains], the trains on the map that cannot leave.
        n_stuck: int64 [1].
        party: int64 [trains], see above.
        moved: bool [trains], the trains of the party that have moved; all False between calls.
        failed: bool [trains], the trains of the party for which there was no way past those that stand.
        waiting: bool [trains], the trains of the party that have not left yet; all False between calls.
        queue: int64 [trains].
        n_moves: int64 [1], how many trains have moved since the beginning.
        last_move: int64 [trains], the number of a train's last move.
        asked: int64 [trains, 4], by direction, the keys of moves that were unsafe when they were asked for last.
        asked_at: int64 [trains, 4], ``n_moves`` then.
        locked: int64 [trains, 4, words], the trains, a bit each, whose positions made the move unsafe.
    """

    ways: WaysOut
    by_rank: NDArray[np.int64]
    n_leaving: NDArray[np.int64]
    stuck: NDArray[np.bool_]
    n_stuck: NDArray[np.int64]
    party: NDArray[np.int64]
    moved: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    waiting: NDArray[np.bool_]
    queue: NDArray[np.int64]
    n_moves: NDArray[np.int64]
    last_move: NDArray[np.int64]
    asked: NDArray[np.int64]
    asked_at: NDArray[np.int64]
    locked: NDArray[np.int64]

    @classmethod
    def for_state(cls, state: RailState) -> "ExitOrder":
        """The order on an empty map of that level."""
        n_trains, ways = state.n_trains, WaysOut.for_state(state)
        return cls(
            ways=ways,
            by_rank=np.zeros(n_trains, dtype=np.int64),
            n_leaving=np.zeros(1, dtype=np.int64),
            stuck=np.zeros(n_trains, dtype=np.bool_),
            n_stuck=np.zeros(1, dtype=np.int64),
            party=np.zeros(n_trains, dtype=np.int64),
            moved=np.zeros(n_trains, dtype=np.bool_),
            failed=np.zeros(n_trains, dtype=np.bool_),
            waiting=np.zeros(n_trains, dtype=np.bool_),
            queue=np.zeros(n_trains, dtype=np.int64),
            n_moves=np.zeros(1, dtype=np.int64),
            last_move=np.zeros(n_trains, dtype=np.int64),
            asked=np.full((n_trains, 4), NO_WAY, dtype=np.int64),
            asked_at=np.zeros((n_trains, 4), dtype=np.int64),
            locked=np.zeros((n_trains, 4, ways.crossing.shape[1]), dtype=np.int64),
        )


@compiled
def _join(handle: int, n_party: int, exits: ExitOrder) -> int:
    """Add a train to the party; returns how many they are."""
    exits.party[n_party] = handle
    exits.ways.stands[handle] = True
    exits.failed[handle] = False
    return n_party + 1


@compiled
def _gather(n_party: int, exits: ExitOrder) -> int:
    """Add to the party all whose known way leads through a cell of one of the party; returns how many they are."""
    ways = exits.ways
    first = 0
    while first < n_party:
        through = ways.crossing[ways.at[exits.party[first]] // 4]
        handle = next_bit(through, 0)
        while handle >= 0:
            if not ways.stands[handle]:
                n_party = _join(handle, n_party, exits)
            handle = next_bit(through, handle + 1)
        first += 1
    return n_party


@compiled
def _leaves_now(handle: int, keep: bool, exits: ExitOrder) -> bool:
    """Whether a train can leave past those that stand; with ``keep`` the way found becomes the known one."""
    if is_known_way_free(handle, exits.ways):
        return True
    last = find_way(handle, exits.ways)
    if last != NO_WAY and keep:
        keep_way(handle, last, exits.ways)
    return last != NO_WAY


@compiled
def _has_left(handle: int, n_party: int, exits: ExitOrder) -> None:
    """Give those another chance that were held up by a train."""
    exits.ways.stands[handle] = False
    for other in exits.party[:n_party]:
        if exits.failed[other] and has_bit(exits.ways.waits_for[other], handle):
            exits.failed[other] = False


@compiled
def _order_anew(n_moved: int, reconsider_stuck: bool, exits: ExitOrder) -> None:
    """Put the party behind the others in the order; it begins with the ``n_moved`` trains that have moved."""
    ways, party, by_rank = exits.ways, exits.party, exits.by_rank
    for handle in party[:n_moved]:
        exits.moved[handle] = True
    if reconsider_stuck:
        for handle in range(exits.stuck.shape[0]):
            if exits.stuck[handle] and not exits.moved[handle]:
                exits.moved[handle] = True
                n_moved = _join(handle, n_moved, exits)
    _gather(n_moved, exits)
    n_leaving, n_party = 0, n_moved
    for rank in range(exits.n_leaving[0]):
        handle = by_rank[rank]
        if ways.stands[handle] and not exits.moved[handle]:
            party[n_party] = handle
            n_party += 1
        elif not ways.stands[handle] and ways.at[handle] != OFF_MAP:
            by_rank[n_leaving] = handle
            n_leaving += 1
    progress = True
    while progress and n_moved > 0:  # when those that have moved are gone the others leave as before
        progress = False
        for handle in party[:n_party]:
            if n_moved == 0 or exits.failed[handle] or not ways.stands[handle]:
                continue
            exits.failed[handle] = not _leaves_now(handle, True, exits)
            if not exits.failed[handle]:
                progress = True
                n_moved -= int(exits.moved[handle])
                by_rank[n_leaving] = handle
                n_leaving += 1
                _has_left(handle, n_party, exits)
    for handle in party[:n_party]:
        exits.moved[handle] = False
        remains = ways.stands[handle] and n_moved > 0
        exits.n_stuck[0] += int(remains) - int(exits.stuck[handle])
        exits.stuck[handle] = remains
        if remains:
            drop_way(handle, ways)
        elif ways.stands[handle]:
            ways.stands[handle] = False
            by_rank[n_leaving] = handle
            n_leaving += 1
    exits.n_leaving[0] = n_leaving


@compiled
def _move(handle: int, key: int, exits: ExitOrder) -> None:
    """Let a train stand elsewhere; where it was before must have been freed."""
    put_train(handle, key, exits.ways)
    exits.n_moves[0] += 1
    exits.last_move[handle] = exits.n_moves[0]


@compiled
def _take_off_map(handle: int, exits: ExitOrder) -> None:
    """Forget a train whose place is free already."""
    _move(handle, OFF_MAP, exits)
    drop_way(handle, exits.ways)
    exits.ways.stands[handle] = False
    exits.n_stuck[0] -= int(exits.stuck[handle])
    exits.stuck[handle] = False


@compiled
def follow_trains(dynamic: np.ndarray, exits: ExitOrder) -> None:
    """Bring the order up to date with the positions in ``RailState.dynamic``, whatever has changed since."""
    ways, changed = exits.ways, exits.queue
    n_changed = n_moved = 0
    reconsider_stuck = False
    for handle in range(dynamic.shape[1]):
        if _key_on_map(handle, dynamic, ways) != ways.at[handle]:
            reconsider_stuck = reconsider_stuck or exits.stuck[handle]
            take_train(handle, ways)
            changed[n_changed] = handle
            n_changed += 1
    if n_changed == 0:
        return
    for handle in changed[:n_changed]:
        key = _key_on_map(handle, dynamic, ways)
        if key == OFF_MAP:
            _take_off_map(handle, exits)
            continue
        _move(handle, key, exits)
        place = place_in_way(handle, key, ways)
        if place == NO_WAY:
            drop_way(handle, ways)
        else:
            go_to_place(handle, place, ways)
        n_moved = _join(handle, n_moved, exits)
    _order_anew(n_moved, reconsider_stuck, exits)


@compiled
def _key_on_map(handle: int, dynamic: np.ndarray, ways: WaysOut) -> int:
    row = int(dynamic[ROW, handle])
    if row < 0 or dynamic[STATE, handle] == DONE:
        return OFF_MAP
    return key_of(ways, row, int(dynamic[COLUMN, handle]), int(dynamic[DIRECTION, handle]))


@compiled
def _first_in_the_way(handle: int, last: int, exits: ExitOrder) -> int:
    """The first of the party, or -1, on the way that a search has found, or on the known one for ``NO_WAY``."""
    ways = exits.ways
    if last == NO_WAY:
        for key in ways.keys[handle, ways.place[handle] + 1 : ways.end[handle]]:
            other = holder_of(key, ways)
            if other >= 0 and other != handle and exits.waiting[other]:
                return other
        return -1
    first = -1
    while ways.origin[last] != NO_WAY:
        other = holder_of(last, ways)
        if other >= 0 and other != handle and exits.waiting[other]:
            first = other
        last = int(ways.origin[last])
    return first


@compiled
def _can_leave(goal: int, mover: int, n_party: int, exits: ExitOrder) -> bool:
    """Whether a train of the party can leave, after others of the party if need be.

    A few trains that all are in each other's way are proof that it cannot: mostly two, nose to nose at the ends of a
    track. So only ``goal`` stands in the way at first, and others when it turns out that they matter: they stand on
    the way that was found for one of those that stand already.
    """
    ways, standing = exits.ways, exits.queue
    locked = exits.locked[mover, ways.at[mover] % 4]
    n_standing = 0
    for handle in exits.party[:n_party]:
        exits.failed[handle] = False
        ways.stands[handle] = exits.waiting[handle] and has_bit(locked, handle)
        if ways.stands[handle]:
            standing[n_standing] = handle
            n_standing += 1
    handle = goal
    while True:
        if not ways.stands[handle]:
            ways.stands[handle] = True
            exits.failed[handle] = False
            standing[n_standing] = handle
            n_standing += 1
        last = NO_WAY
        if not is_known_way_free(handle, ways):
            last = find_way(handle, ways)
            exits.failed[handle] = last == NO_WAY
        other = -1
        if not exits.failed[handle]:
            other = _first_in_the_way(handle, last, exits)
            if other < 0:
                exits.waiting[handle] = False
                _has_left(handle, n_party, exits)
                if handle == goal:
                    return True
        for i in range(n_standing if other < 0 else 0):
            if ways.stands[standing[i]] and not exits.failed[standing[i]]:
                other = standing[i]
        if other < 0:
            locked[:] = 0
            for i in range(n_standing):
                if ways.stands[standing[i]]:
                    put_bit(locked, standing[i])
            return False
        handle = other


@compiled
def _is_party_safe(was_stuck: bool, n_party: int, exits: ExitOrder) -> bool:
    """Whether all can leave that could before the first of the party moved, and that one itself unless it was stuck."""
    if n_party == 1 and (was_stuck or exits.n_stuck[0] == 0):
        return True
    for handle in exits.party[:n_party]:
        exits.waiting[handle] = True
    is_safe = True
    if was_stuck:
        for handle in exits.party[1:n_party]:
            is_safe = is_safe and (not exits.waiting[handle] or _can_leave(handle, exits.party[0], n_party, exits))
    else:
        is_safe = _can_leave(exits.party[0], exits.party[0], n_party, exits)  # the others follow as before
    for handle in exits.party[:n_party]:
        exits.waiting[handle] = False
    return is_safe


@compiled
def _is_still_unsafe(handle: int, key: int, exits: ExitOrder) -> bool:
    """Whether a move was unsafe when it was asked for last and none has moved since of the trains that made it so."""
    if exits.asked[handle, key % 4] != key:
        return False
    locked = exits.locked[handle, key % 4]
    other = next_bit(locked, 0)
    while other >= 0:
        if exits.last_move[other] > exits.asked_at[handle, key % 4]:
            return False
        other = next_bit(locked, other + 1)
    return True


@compiled
def _leaves_before(handle: int, through: np.ndarray, exits: ExitOrder) -> bool:
    """Whether a train leaves before all others in the set ``through``."""
    for other in exits.by_rank[: exits.n_leaving[0]]:
        if other == handle:
            return True
        if has_bit(through, other):
            return False
    return False


@compiled
def is_safe_after(handle: int, row: int, column: int, direction: int, commit: bool, exits: ExitOrder) -> bool:
    """Whether as many trains as before can leave after one train has moved to, or entered the map at, a free place.

    Where there is a deadlock already a move is safe if it makes none worse. With ``commit`` a safe move is carried
    out in ``exits``, for further questions.
    """
    ways = exits.ways
    if is_at_target(handle, row, column, direction, ways.distance_map, ways.constants):
        if commit and ways.at[handle] != OFF_MAP:
            was_stuck = exits.stuck[handle]
            take_train(handle, ways)
            _take_off_map(handle, exits)
            _order_anew(0, was_stuck, exits)
        return True
    if ways.distance_map[handle, row, column, direction] == np.inf:
        return False
    key = key_of(ways, row, column, direction)
    was_at, was_stuck, place, end = ways.at[handle], exits.stuck[handle], ways.place[handle], ways.end[handle]
    follows_way = place + 1 < end and ways.keys[handle, place + 1] == key
    through = ways.crossing[key // 4]
    if follows_way and _leaves_before(handle, through, exits):
        if commit:
            take_train(handle, ways)
            _move(handle, key, exits)
            go_to_place(handle, place + 1, ways)
        return True
    if not commit and exits.n_stuck[0] == 0 and next_bit(through, 0) == -1:
        return True
    if _is_still_unsafe(handle, key, exits):
        return False
    # as if it had moved, with what is left of its known way
    take_train(handle, ways)
    put_train(handle, key, ways)
    ways.place[handle] = place + 1
    ways.end[handle] = end if follows_way else 0
    exits.stuck[handle] = False
    n_party = _gather(_join(handle, 0, exits), exits)
    is_safe = _is_party_safe(was_stuck, n_party, exits)
    for other in exits.party[:n_party]:
        ways.stands[other] = False
    ways.place[handle], ways.end[handle] = place, end
    exits.stuck[handle] = ways.stands[handle] = was_stuck
    take_train(handle, ways)
    if not is_safe or not commit:
        put_train(handle, was_at, ways)
        exits.asked[handle, direction] = NO_WAY if is_safe or exits.n_stuck[0] > 0 else key
        exits.asked_at[handle, direction] = exits.n_moves[0]
        return is_safe
    _move(handle, key, exits)
    if follows_way:
        go_to_place(handle, place + 1, ways)
    else:
        drop_way(handle, ways)
    if n_party > 1 or not follows_way:
        _order_anew(_join(handle, 0, exits), was_stuck, exits)
    return True
