"""Whether the trains on the map could still leave it one after the other if one of them moved on. Compiled.

If that one train can leave while the rest of its party (see ``exit_order``) stands still, all the others follow as
before, and that is most often so. Else it is looked for a train of the party that stands in its way and could leave
before it.
"""

import numpy as np

from utils.safe_moves.exit_order import gather, has_left, join
from utils.safe_moves.exit_tables import (
    ARRIVES,
    ASKED,
    ASKED_AT,
    AT,
    BY_RANK,
    CHANGES_ORDER,
    END,
    FAILED,
    HAS_NOT_LEFT,
    KEEPS_ORDER,
    LAST_MOVE,
    N_LEAVING,
    N_MOVES,
    N_PARTY,
    N_STANDING,
    N_STUCK,
    NO_WAY,
    ORIGIN,
    OUTCOME,
    PARTY,
    PLACE,
    STANDING,
    STANDS,
    STUCK,
    TARGET,
    UNSAFE,
    WAITS_FOR,
    ExitTables,
    holder_of,
    key_of,
    put_train,
    take_train,
)
from utils.safe_moves.known_ways import follows_way, is_known_way_free
from utils.safe_moves.train_sets import add_set, has_bit, next_bit, put_bit
from utils.safe_moves.way_search import find_way
from utils.system.compiled import compiled_helper


@compiled_helper
def _first_in_the_way(handle: int, last: int, exits: ExitTables) -> int:
    """The first of the party, or -1, on the way that a search has found, or on the known one for ``NO_WAY``."""
    trains, occupant, places = exits.trains, exits.occupant, exits.places
    if last == NO_WAY:
        for key in exits.keys[handle, trains[PLACE, handle] + 1 : trains[END, handle]]:
            other = holder_of(key, occupant, places)
            if other >= 0 and other != handle and trains[HAS_NOT_LEFT, other] == 1:
                return other
        return -1
    first = -1
    while places[last, ORIGIN] != NO_WAY:
        other = holder_of(last, occupant, places)
        if other >= 0 and other != handle and trains[HAS_NOT_LEFT, other] == 1:
            first = other
        last = places[last, ORIGIN]
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
        exits.trains[HAS_NOT_LEFT, handle] = 0
        has_left(handle, exits)
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
def _note_locked(goal: int, locked: np.ndarray, exits: ExitTables) -> None:
    """Fill the set of those but for whom ``goal`` could leave, but for whom these could leave, and so on."""
    trains = exits.trains
    locked[:] = 0
    put_bit(locked, goal)
    grows = True
    while grows:
        grows = False
        for handle in trains[STANDING, : exits.counts[N_STANDING]]:
            if trains[STANDS, handle] == 1 and has_bit(locked, handle):
                grows = add_set(exits.sets[handle, WAITS_FOR], locked) or grows


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
        if trains[HAS_NOT_LEFT, handle] == 1 and has_bit(locked, handle):
            _stand_up(handle, exits)
    handle = goal
    while handle >= 0:
        _stand_up(handle, exits)
        handle = _try_to_leave(handle, exits)
        if trains[HAS_NOT_LEFT, goal] == 0:
            return True
        if handle < 0:
            handle = _last_with_a_chance(trains, counts[N_STANDING])
    _note_locked(goal, locked, exits)
    return False


@compiled_helper
def _is_party_safe(was_stuck: bool, exits: ExitTables) -> bool:
    """Whether all can leave that could before the first of the party moved, and that one itself unless it was stuck."""
    trains, n_party = exits.trains, exits.counts[N_PARTY]
    if n_party == 1 and (was_stuck or exits.counts[N_STUCK] == 0):
        return True
    for handle in trains[PARTY, :n_party]:
        trains[HAS_NOT_LEFT, handle] = 1
    mover, is_safe = trains[PARTY, 0], True
    # if it was not stuck and can leave the others follow as before
    for handle in trains[PARTY, 1 if was_stuck else 0 : n_party if was_stuck else 1]:
        is_safe = is_safe and (trains[HAS_NOT_LEFT, handle] == 0 or _can_leave(handle, mover, exits))
    for handle in trains[PARTY, :n_party]:
        trains[HAS_NOT_LEFT, handle] = 0
    return is_safe


@compiled_helper
def _is_still_unsafe(handle: int, key: int, exits: ExitTables) -> bool:
    """Whether a move was unsafe when it was asked for last and none has moved since of the trains that made it so.

    A train that has become stuck in between makes nothing worse for itself, so that is asked anew.
    """
    trains, direction = exits.trains, key % 4
    if trains[ASKED + direction, handle] != key or trains[STUCK, handle] == 1:
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
    join(handle, exits)
    gather(exits)
    n_party, is_safe = exits.counts[N_PARTY], _is_party_safe(was_stuck, exits)
    for other in trains[PARTY, :n_party]:
        trains[STANDS, other] = 0
    exits.counts[N_PARTY] = 0
    trains[PLACE, handle], trains[END, handle] = place, end
    trains[STUCK, handle] = trains[STANDS, handle] = was_stuck
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
    key = key_of(exits.cells, row, column, direction)
    distance = exits.maps[handle, row, column, direction]
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
    answer = trains[OUTCOME + direction, handle]
    if trains[ASKED_AT + direction, handle] == counts[N_MOVES] and answer // 4 == key:
        return answer % 4
    outcome = _try_out(handle, key, exits)
    trains[OUTCOME + direction, handle] = 4 * key + outcome
    trains[ASKED + direction, handle] = NO_WAY if outcome != UNSAFE or counts[N_STUCK] > 0 else key
    trains[ASKED_AT + direction, handle] = counts[N_MOVES]
    return outcome
