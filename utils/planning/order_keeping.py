"""Playing a plan by its order: a train enters a cell when it is its turn there.

Whatever breaks down, the order in which the trains come to each cell stays the planned one, so nobody is ever in the
way of a train that has to go first, and all trains can leave the map. The same rule, played ahead without further
malfunctions, gives the earliest times that keep the order: a longest path in the graph of who waits for whom
(Li et al. 2021, «Scalable Rail Planning and Replanning», their partial replanning and MCP).
"""

from utils.planning.plan_tables import (
    AT_VISIT,
    BEFORE,
    ENTER,
    FIRST,
    HEADWAY,
    KEY,
    LEAVE,
    LEG,
    LEG_AFTER,
    MOST_STEPS,
    MOVES,
    N_CELLS,
    NEXT,
    NO_VISIT,
    PLANNED_ARRIVAL,
    PLAYED_AT,
    PLAYED_CELLS,
    PLAYED_FIRST,
    PLAYED_READY,
    READY,
    TRAIN,
    PlanTables,
    earliest_to_leave,
    relink,
    steps_to_run,
    unlink,
)
from utils.simulator.rail_keys import CANNOT_STOP
from utils.system.compiled import Arrays, compiled, compiled_helper

# What ``MOVES`` holds.
ENTERS = -1
_STAYS, _UNKNOWN, _ASKED = -2, 0, 1


@compiled_helper
def _can_go_on(visit: int, tables: PlanTables) -> bool:
    """Whether a train would find the cells free that come after those where it cannot stop, see ``CANNOT_STOP``."""
    visits = tables.visits
    while tables.tracks[visits[visit, KEY], CANNOT_STOP] and visits[visit, NEXT] != NO_VISIT:
        visit = visits[visit, NEXT]
        if visits[visit, BEFORE] >= 2 * tables.counts[N_CELLS]:
            return False
    return True


@compiled_helper
def _blocker(handle: int, step: int, tables: PlanTables) -> int:
    """The train that a train has to follow into its next cell; or ``ENTERS`` or ``_STAYS`` if it depends on none."""
    trains, visits = tables.trains, tables.visits
    first = trains[PLAYED_FIRST, handle]
    if first == NO_VISIT or trains[PLAYED_READY, handle] > step:
        return _STAYS
    before = visits[first, BEFORE]
    if before < 2 * tables.counts[N_CELLS]:
        return ENTERS if tables.counts[HEADWAY] == 0 or _can_go_on(first, tables) else _STAYS
    other = visits[before, TRAIN]
    if tables.counts[HEADWAY] > 0 or trains[PLAYED_AT, other] != before:
        return _STAYS
    return other


@compiled_helper
def decide_moves(step: int, tables: PlanTables) -> None:
    """Fill ``MOVES`` with whether each train enters its next cell in a step, or the map.

    A train whose next cell is held by one that leaves it in this very step may follow it, unless there has to be a
    headway. So one train may wait for a second one and that for a third; where they wait for each other in a ring,
    all of them move. Where the trains are is what ``begin_play`` has noted, and what was played since.
    """
    moves = tables.trains[MOVES]
    moves[:] = _UNKNOWN
    for handle in range(moves.shape[0]):
        asked = handle
        while moves[asked] == _UNKNOWN:
            moves[asked] = _ASKED
            other = _blocker(asked, step, tables)
            if other < 0:
                moves[asked] = other
            else:
                asked = other
        verdict = ENTERS if moves[asked] == _ASKED else moves[asked]
        asked = handle
        while asked >= 0 and moves[asked] == _ASKED:
            moves[asked] = verdict
            asked = _blocker(asked, step, tables)


@compiled_helper
def ready_after_stops(train: int, tables: PlanTables) -> int:
    """The earliest step in which a train can enter its next cell as planned, that is after the stops where it is."""
    trains = tables.trains
    at, ready, leg = trains[AT_VISIT, train], trains[READY, train], trains[LEG, train]
    if at == NO_VISIT:
        return ready
    return earliest_to_leave(ready, leg, tables.visits[at, LEG_AFTER], train, tables)


@compiled_helper
def begin_play(tables: PlanTables) -> int:
    """Note where the trains are now, for a play ahead; returns how many have visits to come."""
    trains, n_left = tables.trains, 0
    for handle in range(trains.shape[1]):  # numba compiles long to assign one array to another
        trains[PLAYED_AT, handle], trains[PLAYED_FIRST, handle] = trains[AT_VISIT, handle], trains[FIRST, handle]
        trains[PLAYED_CELLS, handle] = 0
        trains[PLAYED_READY, handle] = ready_after_stops(handle, tables)
        n_left += trains[FIRST, handle] != NO_VISIT
    return n_left


@compiled_helper
def _note_entry(handle: int, step: int, tables: PlanTables) -> None:
    """A train enters its next cell in the play that looks ahead."""
    trains, visits = tables.trains, tables.visits
    visit, at = trains[PLAYED_FIRST, handle], trains[PLAYED_AT, handle]
    visits[visit, ENTER] = step
    if at != NO_VISIT:
        visits[at, LEAVE] = step
        trains[PLAYED_CELLS, handle] += 1
    trains[PLAYED_AT, handle] = visit
    trains[PLAYED_FIRST, handle] = visits[visit, NEXT]
    if visits[visit, NEXT] == NO_VISIT:
        visits[visit, LEAVE] = step + 1 - tables.counts[HEADWAY]
        trains[PLANNED_ARRIVAL, handle] = step
    else:
        n_cells = trains[PLAYED_CELLS, handle]
        ready = step + steps_to_run(n_cells + 1, handle, trains) - steps_to_run(n_cells, handle, trains)
        leg = trains[LEG, handle]
        if at != NO_VISIT:
            leg = max(leg, visits[at, LEG_AFTER])
        trains[PLAYED_READY, handle] = earliest_to_leave(ready, leg, visits[visit, LEG_AFTER], handle, tables)


@compiled
def keep_order(table_arrays: Arrays, step: int) -> bool:
    """Give all visits to come the earliest times that keep their order, as if nothing broke any more.

    The order is played ahead: visits that are over are taken out of their lists, and put back in the end.

    Args:
        step: the first step to come.

    Returns:
        Whether all trains that have a plan arrive; anything else would be a fault of the plan.
    """
    tables = PlanTables(*table_arrays)
    trains, visits = tables.trains, tables.visits
    n_left, n_over, over = begin_play(tables), 0, tables.heap
    while n_left > 0 and step < MOST_STEPS:
        decide_moves(step, tables)
        soonest = MOST_STEPS
        any_moves = False
        for handle in range(trains.shape[1]):
            if trains[MOVES, handle] == ENTERS:
                any_moves = True
                at = trains[PLAYED_AT, handle]
                if at != NO_VISIT:
                    unlink(at, visits)
                    over[n_over] = at
                    n_over += 1
                _note_entry(handle, step, tables)
                if trains[PLAYED_FIRST, handle] == NO_VISIT:
                    unlink(trains[PLAYED_AT, handle], visits)
                    over[n_over] = trains[PLAYED_AT, handle]
                    n_over += 1
                    n_left -= 1
            elif trains[PLAYED_FIRST, handle] != NO_VISIT and trains[PLAYED_READY, handle] > step:
                soonest = min(soonest, trains[PLAYED_READY, handle])
        step = step + 1 if any_moves else soonest
    while n_over > 0:
        n_over -= 1
        relink(over[n_over], visits)
    return n_left == 0
