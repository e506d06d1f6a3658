"""In which order the trains on the map could leave it, one after the other. Compiled, over ``ExitTables``.

A train *can leave* if there is a way to its target on which no other train stands, whatever its length. With that
train gone there may be a way for another one, and so on. If all trains can leave in some order, the positions are
safe: nobody is in a deadlock, and nobody needs to come into one. (The banker's algorithm of Dijkstra 1965, with cells
in place of money. Leaving is never in anybody's way, so the order found by taking any train that can leave next is
as good as any: who is left in the end does not depend on it. Trains left in the end are *stuck*.)

So one order and one way for each train are enough to know, and they are kept from step to step. When trains move, only
those have to be looked at again that have moved, those whose known way leads through their cells, those whose known way
leads through the cells of these, and so on: they are called the *party*. All others leave first, as before.
"""

import numpy as np

from utils.safe_moves.exit_tables import (
    ARRIVALS,
    ARRIVES,
    AT,
    BY_RANK,
    CHANGES_ORDER,
    FAILED,
    KEEPS_ORDER,
    LAST_MOVE,
    MET_BACK,
    MOVED,
    N_ARRIVALS,
    N_LEAVING,
    N_MOVES,
    N_PARTY,
    N_STUCK,
    NEW_MEMBERS,
    NO_WAY,
    OFF_MAP,
    PARTY,
    PLACE,
    STANDING,
    STANDS,
    STUCK,
    TARGET,
    WAITS_FOR,
    ExitTables,
    key_of,
    put_train,
    take_train,
)
from utils.safe_moves.known_ways import drop_way, follows_way, go_to_place, is_known_way_free, keep_way, place_in_way
from utils.safe_moves.train_sets import add_new, has_bit, next_bit
from utils.safe_moves.way_search import find_way
from utils.simulator.state_arrays import COLUMN, DIRECTION, DONE, ROW, STATE
from utils.system.compiled import Arrays, compiled, compiled_helper


@compiled_helper
def join(handle: int, exits: ExitTables) -> None:
    """Add a train to the party."""
    exits.trains[PARTY, exits.counts[N_PARTY]] = handle
    exits.counts[N_PARTY] += 1
    exits.trains[STANDS, handle] = 1
    exits.trains[FAILED, handle] = 0


@compiled_helper
def gather(exits: ExitTables) -> None:
    """Add to the party all whose known way leads through a cell of one of the party."""
    trains, counts = exits.trains, exits.counts
    sets = exits.sets[trains[PARTY, 0]]
    members, new = sets[MET_BACK], sets[NEW_MEMBERS]  # of which the first is free between searches
    members[:] = 0
    first = 0
    while first < counts[N_PARTY]:
        through = exits.crossing[trains[AT, trains[PARTY, first]] // 4]
        add_new(through, members, new)
        handle = next_bit(new, -1)
        while handle >= 0:
            if trains[STANDS, handle] == 0:
                join(handle, exits)
            handle = next_bit(new, handle)
        first += 1


@compiled_helper
def _leaves_next(handle: int, trains: np.ndarray, counts: np.ndarray) -> None:
    """Put a train behind those that are in the order already."""
    trains[BY_RANK, counts[N_LEAVING]] = handle
    counts[N_LEAVING] += 1


@compiled_helper
def has_left(handle: int, exits: ExitTables) -> None:
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
            has_left(handle, exits)
    return n_movers == 0


@compiled_helper
def _dissolve_party(are_stuck: bool, exits: ExitTables) -> None:
    """Who of the party has not left is stuck, or leaves as before, and the party is over."""
    trains, counts = exits.trains, exits.counts
    for handle in trains[PARTY, : counts[N_PARTY]]:
        trains[MOVED, handle] = 0
        remains = trains[STANDS, handle] == 1 and are_stuck
        counts[N_STUCK] += remains - trains[STUCK, handle]
        trains[STUCK, handle] = remains
        if remains:
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
                join(handle, exits)
    n_movers = counts[N_PARTY]
    gather(exits)
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
def _key_on_map(handle: int, dynamic: np.ndarray, cells: np.ndarray) -> int:
    row = dynamic[ROW, handle]
    if row < 0 or dynamic[STATE, handle] == DONE:
        return OFF_MAP
    return key_of(cells, row, dynamic[COLUMN, handle], dynamic[DIRECTION, handle])


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
    join(handle, exits)


@compiled
def follow_trains(dynamic: np.ndarray, exit_tables: Arrays) -> None:
    """Bring the order up to date with the positions in ``RailState.dynamic``, whatever has changed since.

    Args:
        exit_tables: the fields of ``ExitTables``.
    """
    exits = ExitTables(*exit_tables)
    trains, changed = exits.trains, exits.trains[STANDING]
    exits.counts[N_ARRIVALS] = 0
    n_changed = n_were_stuck = 0
    for handle in range(dynamic.shape[1]):
        if _key_on_map(handle, dynamic, exits.cells) != trains[AT, handle]:
            n_were_stuck += trains[STUCK, handle]
            take_train(handle, exits)
            changed[n_changed] = handle
            n_changed += 1
    for handle in changed[:n_changed]:
        _follow_train(handle, _key_on_map(handle, dynamic, exits.cells), exits)
    if n_changed > 0:
        _order_anew(n_were_stuck > 0, exits)


@compiled_helper
def is_arrived_at(key: int, exits: ExitTables) -> bool:
    """Whether a train reaches its target there in the step that is being put together.

    It leaves the map at once, but in that step no other train can come there.
    """
    trains, place = exits.trains, 0
    while place < exits.counts[N_ARRIVALS] and trains[TARGET, trains[ARRIVALS, place]] != key // 4:
        place += 1
    return place < exits.counts[N_ARRIVALS]


@compiled_helper
def make_move(handle: int, key: int, outcome: int, exits: ExitTables) -> None:
    """Carry out a safe move to the configuration ``key``, for further questions; ``judge_move`` gave the outcome."""
    trains = exits.trains
    was_stuck = trains[STUCK, handle] == 1
    if outcome == ARRIVES:
        trains[ARRIVALS, exits.counts[N_ARRIVALS]] = handle
        exits.counts[N_ARRIVALS] += 1
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
        join(handle, exits)
    if outcome != KEEPS_ORDER:
        _order_anew(was_stuck, exits)
