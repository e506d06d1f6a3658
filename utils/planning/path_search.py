"""Safe-interval path planning: the way of one train on which it arrives first, given the visits of all others.

A* over (configuration, safe interval), Phillips and Likhachev 2011, «SIPP: Safe Interval Path Planning for Dynamic
Environments». A train may wait at the end of any cell as long as the interval of the cell lasts. It may enter a cell
in the step in which another one leaves it, as in flatland, unless they swap places or the level asks for a headway;
trains that follow each other in a ring all move at the same moment.

A train with intermediate stops has a copy of all that for each leg of its way, see ``plan_legs``. Where it may serve
the stop at the end of its leg, it goes on in the same leg at once, or in the next one after it has stood there.
"""

import numpy as np

from utils.planning.plan_legs import LATEST, REST, SOONEST, TO_GO_ROW, UNREACHABLE
from utils.planning.plan_tables import (
    AFTER,
    AT_KEY,
    AT_VISIT,
    CELLS,
    ENTER,
    FIRST,
    FIRST_LEG,
    HEADWAY,
    ID_BITS,
    KEY,
    LEAVE,
    LEG,
    LEG_AFTER,
    MAX_EXPANSIONS,
    MAY_WAIT,
    N_EXPANSIONS,
    N_LEGS,
    N_PATH_SEARCHES,
    NEVER,
    NEXT,
    NO_VISIT,
    PARENT,
    PLANNED_ARRIVAL,
    READY,
    STAMP,
    STANDS_STILL,
    START,
    STRIDE,
    TIME,
    TRAIN,
    WAIT,
    PlanTables,
    drop_path,
    earliest_to_leave,
    ends_at,
    link,
    new_visit,
    steps_to_run,
    unlink,
)
from utils.simulator.rail_keys import CANNOT_STOP, N_ONWARD, RESOURCE
from utils.system.compiled import Arrays, compiled_helper

NOT_FOUND = -1
_ROOT = -1
_ID_MASK = 2**ID_BITS - 1
_LONGEST_WAIT = 500  # steps for which a train that must not stop waits to set out
# Bits of an entry of the heap, below those of the step of the arrival and above those of the row.
_LEGS_BITS, _LATE_BITS, _CELLS_BITS = 3, 6, 12
_CELLS_MASK = 2**_CELLS_BITS - 1


@compiled_helper
def _push(heap: np.ndarray, size: int, entry: int) -> None:
    """Add to a binary heap, lowest first, of ``size`` entries."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent] <= entry:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = entry


@compiled_helper
def _pop(heap: np.ndarray, size: int) -> int:
    """Take the lowest of ``size`` entries."""
    lowest = heap[0]
    size -= 1
    entry, place = heap[size], 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = entry
    return lowest


@compiled_helper
def _entry(soonest: int, n_legs_left: int, late: int, to_go: int, row: int) -> int:
    """An entry of the heap: the soonest arrival first, of these what is farthest on its way.

    Of rows in the same leg that one comes first that is less late at the next stop: the way to a target that is
    reached at the same time does not depend on it, but its cost does.
    """
    entry = (soonest << _LEGS_BITS) + min(n_legs_left, 2**_LEGS_BITS - 1)
    entry = (entry << _LATE_BITS) + max(0, min(late, 2**_LATE_BITS - 1))
    return (((entry << _CELLS_BITS) + min(to_go, _CELLS_MASK)) << ID_BITS) + row


@compiled_helper
def _reach(
    place: int,
    leg: int,
    key: int,
    to_go: int,
    time: int,
    cells: int,
    parent: int,
    train: int,
    last: int,
    size: int,
    arrays: Arrays,
) -> int:
    """Note a way to a row of ``search`` if it is the first or an earlier one; returns the size of the heap.

    Args:
        place: the safe interval and the direction.
        leg: the train's own.
        to_go: cells from there to the target.
        time: step in which the train is there.
        cells: how many it has entered since the way began.
        last: the step by which it must be at its target.
        arrays: ``search``, ``heap``, ``counts``, ``trains`` and ``legs``: each more costs time in every call.
    """
    search, heap, counts, trains, legs = arrays
    row, stamp = place + leg * counts[STRIDE], 2 * counts[N_PATH_SEARCHES]
    if search[row, STAMP] >= stamp and search[row, TIME] <= time:
        return size
    n_legs_left = trains[N_LEGS, train] - 1 - leg
    # at full speed, with one step at each stop: never too long, and the same along the way
    run_before = time - steps_to_run(cells, train, trains)
    soonest, late = run_before + steps_to_run(cells + to_go, train, trains) + n_legs_left, 0
    if n_legs_left > 0:
        column = trains[FIRST_LEG, train] + leg
        late = run_before + steps_to_run(cells + to_go - legs[REST, column], train, trains) - legs[LATEST, column]
        soonest = max(soonest, legs[SOONEST, column])
    if soonest > last or size >= heap.shape[0]:
        return size
    search[row, STAMP] = stamp
    search[row, TIME] = time
    search[row, CELLS] = cells
    search[row, PARENT] = parent
    search[row, AT_KEY] = key
    _push(heap, size, _entry(soonest, n_legs_left, late, to_go, row))
    return size + 1


@compiled_helper
def _begin(train: int, last: int, tables: PlanTables) -> int:
    """Reach where the way may begin; returns the size of the heap."""
    visits, trains = tables.visits, tables.trains
    ready, leg = trains[READY, train], trains[LEG, train]
    arrays = (tables.search, tables.heap, tables.counts, trains, tables.legs)
    to_go = tables.to_go[tables.legs[TO_GO_ROW, trains[FIRST_LEG, train] + leg]]
    at = trains[AT_VISIT, train]
    key = visits[at, KEY] if at != NO_VISIT else trains[START, train]
    if to_go[key] >= UNREACHABLE:
        return 0
    before, size = tables.tracks[key, RESOURCE], 0
    headway, stay = tables.counts[HEADWAY], steps_to_run(1, train, trains)
    if at != NO_VISIT:
        return _reach(4 * before + key % 4, leg, key, to_go[key], ready - stay, 0, _ROOT, train, last, 0, arrays)
    while before != NO_VISIT and visits[before, LEAVE] < NEVER:
        after = visits[before, AFTER]
        end = NEVER if after == NO_VISIT else visits[after, ENTER] - headway
        time = max(ready, visits[before, LEAVE] + headway)
        if time + stay <= end:
            size = _reach(4 * before + key % 4, leg, key, to_go[key], time, 0, _ROOT, train, last, size, arrays)
        before = after
    return size


@compiled_helper
def _first_without_a_stop(row: int, tables: PlanTables) -> int:
    """The step in which a train came to the first of the cells behind each other where it cannot stop."""
    time = tables.search[row, TIME]
    while tables.search[row, PARENT] != _ROOT:
        row = tables.search[row, PARENT]
        if not tables.tracks[tables.search[row, AT_KEY], CANNOT_STOP]:
            break
        time = tables.search[row, TIME]
    return time


@compiled_helper
def _leave(row: int, train: int, last: int, size: int, tables: PlanTables) -> int:
    """Reach all that comes after a row of ``search``; returns the size of the heap."""
    visits, search, trains, counts = tables.visits, tables.search, tables.trains, tables.counts
    key, cells, headway = search[row, AT_KEY], search[row, CELLS], counts[HEADWAY]
    arrays = (search, tables.heap, counts, trains, tables.legs)
    leg, last_leg = 0, trains[N_LEGS, train] - 1
    if last_leg > 0:
        leg = row // counts[STRIDE]
    next_one = visits[(row - leg * counts[STRIDE]) >> 2, AFTER]
    run_before = steps_to_run(cells + 1, train, trains)
    stay = steps_to_run(cells + 2, train, trains) - run_before
    earliest = search[row, TIME] + run_before - steps_to_run(cells, train, trains)
    while True:
        latest = NEVER if next_one == NO_VISIT else visits[next_one, ENTER] - headway
        free_from = latest  # of the next cell, at the latest
        if counts[MAY_WAIT] == 0:
            latest = min(latest, earliest)
        elif headway > 0 and tables.tracks[key, CANNOT_STOP]:
            latest = min(latest, earliest)
            free_from = _first_without_a_stop(row, tables)
        if earliest > latest:
            return size
        to_go_row = tables.legs[TO_GO_ROW, trains[FIRST_LEG, train] + leg]
        for n in range(N_ONWARD):
            to_key = tables.tracks[key, n]
            if to_key < 0:
                break
            to_go = tables.to_go[to_go_row, to_key]
            if to_go >= UNREACHABLE:
                continue
            # at its target the train is gone after the step in which it comes
            stay_there = stay if to_go > 0 else 1 - headway
            before = tables.tracks[to_key, RESOURCE]
            while before != NO_VISIT:
                begin = visits[before, LEAVE] + headway
                if begin > min(latest, free_from) or begin >= NEVER:
                    break
                after = visits[before, AFTER]
                end = NEVER if after == NO_VISIT else visits[after, ENTER] - headway
                time = max(earliest, begin)
                if time + stay_there <= end:
                    swaps = time == begin == latest and next_one != NO_VISIT and visits[before, NEXT] == next_one
                    if not swaps:
                        place = 4 * before + to_key % 4
                        size = _reach(place, leg, to_key, to_go, time, cells + 1, row, train, last, size, arrays)
                before = after
        if leg == last_leg or not ends_at(key, leg, train, tables):
            return size
        leg += 1
        earliest = earliest_to_leave(earliest, leg - 1, leg, train, tables)


@compiled_helper
def find_path(train: int, last: int, tables: PlanTables) -> int:
    """The row of ``search`` in which a train arrives first, NOT_FOUND if it cannot arrive by the step ``last``.

    A train on the map must not be in the list of its resource while its way is searched.
    """
    search, heap, counts = tables.search, tables.heap, tables.counts
    counts[N_PATH_SEARCHES] += 1
    size = _begin(train, last, tables)
    while size > 0:
        entry = _pop(heap, size)
        size -= 1
        row = entry & _ID_MASK
        if search[row, STAMP] != 2 * counts[N_PATH_SEARCHES]:
            continue  # all that comes after it was reached from here before
        search[row, STAMP] += 1
        if (entry >> ID_BITS) & _CELLS_MASK == 0:
            return row
        counts[N_EXPANSIONS] += 1
        if counts[N_EXPANSIONS] >= counts[MAX_EXPANSIONS]:
            return NOT_FOUND
        size = _leave(row, train, last, size, tables)
    return NOT_FOUND


@compiled_helper
def _find_path_without_stops(train: int, last: int, tables: PlanTables) -> int:
    """As ``find_path``, for a train that does not wait once it moves: it sets out a step later again and again."""
    trains, counts = tables.trains, tables.counts
    ready, row = trains[READY, train], NOT_FOUND
    counts[MAY_WAIT] = 0
    for _ in range(_LONGEST_WAIT):
        row = find_path(train, last, tables)
        gives_up = counts[N_EXPANSIONS] >= counts[MAX_EXPANSIONS]
        if row != NOT_FOUND or trains[STANDS_STILL, train] == 0 or gives_up or trains[READY, train] >= last:
            break
        trains[READY, train] += 1
    counts[MAY_WAIT] = 1
    trains[READY, train] = ready
    return row


@compiled_helper
def _enter_visits(train: int, row: int, tables: PlanTables) -> bool:
    """Make visits of the way that ends in a row of ``search``; returns whether there were enough of them.

    From the target backwards: of two visits in one interval the earlier one then comes to stand first.
    """
    visits, search, trains, counts = tables.visits, tables.search, tables.trains, tables.counts
    following, leave, leg = NO_VISIT, search[row, TIME] + 1 - counts[HEADWAY], row // counts[STRIDE]
    while row != _ROOT:
        at = trains[AT_VISIT, train]
        if search[row, PARENT] == _ROOT and at != NO_VISIT:
            visits[at, LEAVE] = leave
            visits[at, NEXT] = following
            visits[at, LEG_AFTER] = leg
            break
        visit = new_visit(visits, counts)
        if visit == NO_VISIT:
            trains[FIRST, train] = following
            return False
        visits[visit, TRAIN] = train
        visits[visit, KEY] = search[row, AT_KEY]
        visits[visit, ENTER] = search[row, TIME]
        visits[visit, LEAVE] = leave
        visits[visit, NEXT] = following
        visits[visit, LEG_AFTER] = leg
        link(visit, (row % counts[STRIDE]) >> 2, visits)
        following, leave, leg = visit, search[row, TIME], row // counts[STRIDE]
        row = search[row, PARENT]
    trains[FIRST, train] = following
    return True


@compiled_helper
def plan_train(train: int, last: int, tables: PlanTables) -> bool:
    """Plan the way of a train that has no path; returns whether it can arrive by the step ``last``."""
    visits, trains, at = tables.visits, tables.trains, tables.trains[AT_VISIT, train]
    if at != NO_VISIT:
        unlink(at, visits)
    row = NOT_FOUND
    if tables.shared_costs[WAIT] > 0.0:
        row = _find_path_without_stops(train, last, tables)
    if row == NOT_FOUND:
        row = find_path(train, last, tables)
    found = row != NOT_FOUND and _enter_visits(train, row, tables)
    if at != NO_VISIT:
        link(at, tables.tracks[visits[at, KEY], RESOURCE], visits)
    if found:
        trains[PLANNED_ARRIVAL, train] = tables.search[row, TIME]
    elif row != NOT_FOUND:
        drop_path(train, tables)
    return found
