"""Plans for all trains of a level: one after the other, then better and better by large-neighbourhood search.

Prioritised planning (Erdmann and Lozano-Perez 1987) makes the first plan. Then, round after round, the plans of a few
trains are taken out and made anew in a random order; what comes of it stays if it costs no more (Li et al. 2021,
«Scalable Rail Planning and Replanning»). A round gives up as soon as it costs more than before, or when its work is
used up. Its trains are of three kinds of neighbourhoods (Li, Chen, Harabor, Stuckey and Koenig 2021, «Anytime
Multi-Agent Path Finding via Large Neighborhood Search»): a late train with the trains in its way, trains that meet at
one place, and trains taken at random.
"""

import numpy as np

from utils.planning.path_search import plan_train
from utils.planning.plan_costs import cost_of_plan, last_affordable
from utils.planning.plan_legs import TO_GO_ROW, UNREACHABLE
from utils.planning.plan_tables import (
    AFTER,
    AT_VISIT,
    CANCELLED,
    FIRST,
    FIRST_LEG,
    HAS_ARRIVED,
    IS_CHOSEN,
    KEY,
    LAST_STEP,
    LEG,
    MAX_EXPANSIONS,
    MOST_STEPS,
    N_CELLS,
    N_EXPANSIONS,
    N_ROUNDS,
    NO_VISIT,
    NOBODY,
    OLD_FIRST,
    PLANNED,
    START,
    TRAIN,
    PlanTables,
    drop_path,
    ends_at,
    free_path,
    put_back_path,
    take_out_path,
)
from utils.simulator.rail_keys import N_ONWARD, RESOURCE
from utils.system.compiled import Arrays, compiled, compiled_helper

# Rows of ``chosen``.
CHOSEN, CANDIDATES = range(2)
_SMALLEST_COST = 0.05  # so that a train that costs nothing may be taken too
_FEW_VISITS = 3  # of a resource that is not busy
_MOST_TRAINS = 8  # of a neighbourhood
_BUSY_TRIES = 50  # to find a busy resource
_LONGEST_WAY = 400  # cells of a late train's way that are looked at
_TINY = 1e-9


@compiled_helper
def _plan_one(handle: int, last: int, tables: PlanTables) -> bool:
    """Plan the way of a train that has no path; returns whether it can arrive by the step ``last``.

    A train off the map is only planned if it arrives before the episode ends.
    """
    if tables.trains[AT_VISIT, handle] == NO_VISIT:
        last = min(last, tables.counts[LAST_STEP])
    return plan_train(handle, min(last, MOST_STEPS), tables)


@compiled
def price_plans(table_arrays: Arrays) -> float:
    """Fill ``own_costs`` with what the plans cost; returns the sum over the trains under way."""
    tables = PlanTables(*table_arrays)
    total = 0.0
    for handle in range(tables.trains.shape[1]):
        cost = 0.0
        if tables.trains[HAS_ARRIVED, handle] == 0:
            cost = cost_of_plan(handle, tables)
        tables.own_costs[PLANNED, handle] = cost
        total += cost
    return total


@compiled
def plan_all(table_arrays: Arrays, order: np.ndarray) -> int:
    """Plan the trains that have no plan, in an order of handles; returns how many trains on the map have none then."""
    tables = PlanTables(*table_arrays)
    n_missing = 0
    for handle in order:
        if tables.trains[HAS_ARRIVED, handle] == 0 and tables.trains[FIRST, handle] == NO_VISIT:
            planned = _plan_one(handle, MOST_STEPS, tables)
            if not planned and tables.trains[AT_VISIT, handle] != NO_VISIT:
                n_missing += 1
    return n_missing


@compiled_helper
def _below(limit: int, random: np.ndarray) -> int:
    """A random whole number below a limit.

    Args:
        random: int64 [1], the state of a linear congruential generator modulo 2**64 (Knuth, MMIX).
    """
    random[0] = random[0] * 6364136223846793005 + 1442695040888963407
    return ((random[0] >> 33) & 0x7FFFFFFF) % limit


@compiled_helper
def _take(handle: int, row: int, n_taken: int, tables: PlanTables) -> int:
    """Add a train to a list if it is still under way and in no list of this round; returns the length of the list."""
    trains, n_rounds = tables.trains, tables.counts[N_ROUNDS]
    if handle == NOBODY or trains[HAS_ARRIVED, handle] == 1 or trains[IS_CHOSEN, handle] == n_rounds:
        return n_taken
    trains[IS_CHOSEN, handle] = n_rounds
    tables.chosen[row, n_taken] = handle
    return n_taken + 1


@compiled_helper
def _choose_costly(random: np.ndarray, tables: PlanTables) -> int:
    """A train under way, the likelier the more its plan costs; NOBODY if all have arrived."""
    costs, arrived, total = tables.own_costs[PLANNED], tables.trains[HAS_ARRIVED], 0.0
    for handle in range(arrived.shape[0]):
        if arrived[handle] == 0:
            total += costs[handle] + _SMALLEST_COST
    threshold, chosen = total * _below(2**24, random) / 2.0**24, NOBODY
    for handle in range(arrived.shape[0]):
        if arrived[handle] == 0:
            chosen = handle
            threshold -= costs[handle] + _SMALLEST_COST
            if threshold < 0.0:
                break
    return chosen


@compiled_helper
def _take_visitors(resource: int, row: int, n_taken: int, tables: PlanTables) -> int:
    """Add all trains that visit a resource to a list."""
    visit = tables.visits[resource, AFTER]
    while visit != NO_VISIT:
        n_taken = _take(tables.visits[visit, TRAIN], row, n_taken, tables)
        visit = tables.visits[visit, AFTER]
    return n_taken


@compiled_helper
def _candidates_on_way(handle: int, tables: PlanTables) -> int:
    """List the trains that visit the cells of a train's shortest way; returns how many."""
    at, leg = tables.trains[AT_VISIT, handle], tables.trains[LEG, handle]
    key = tables.visits[at, KEY] if at != NO_VISIT else tables.trains[START, handle]
    to_go = tables.to_go[tables.legs[TO_GO_ROW, tables.trains[FIRST_LEG, handle] + leg]]
    n_taken, n_cells = 0, 0
    while 0 < to_go[key] < UNREACHABLE and n_cells < _LONGEST_WAY:
        best = -1
        for n in range(N_ONWARD):
            to_key = tables.tracks[key, n]
            if to_key >= 0 and (best < 0 or to_go[to_key] < to_go[best]):
                best = to_key
        key = best
        n_cells += 1
        while ends_at(key, leg, handle, tables):
            leg += 1
            to_go = tables.to_go[tables.legs[TO_GO_ROW, tables.trains[FIRST_LEG, handle] + leg]]
        n_taken = _take_visitors(tables.tracks[key, RESOURCE], CANDIDATES, n_taken, tables)
    return n_taken


@compiled_helper
def _candidates_at_busy_place(random: np.ndarray, tables: PlanTables) -> int:
    """List the trains that visit a busy resource; returns how many."""
    n_resources = 2 * tables.counts[N_CELLS]
    for _ in range(_BUSY_TRIES):
        resource = _below(n_resources, random)
        visit, n_visits = tables.visits[resource, AFTER], 0
        while visit != NO_VISIT and n_visits < _FEW_VISITS:
            visit = tables.visits[visit, AFTER]
            n_visits += 1
        if visit != NO_VISIT:
            return _take_visitors(resource, CANDIDATES, 0, tables)
    return 0


@compiled_helper
def _take_some(n_candidates: int, n_taken: int, size: int, random: np.ndarray, tables: PlanTables) -> int:
    """Move random candidates to the chosen trains until there are ``size`` of these; returns how many there are."""
    chosen = tables.chosen
    while n_candidates > 0 and n_taken < size:
        place = _below(n_candidates, random)
        chosen[CHOSEN, n_taken] = chosen[CANDIDATES, place]
        n_taken += 1
        n_candidates -= 1
        chosen[CANDIDATES, place] = chosen[CANDIDATES, n_candidates]
    return n_taken


@compiled_helper
def choose_trains(random: np.ndarray, tables: PlanTables) -> int:
    """Fill the first row of ``chosen`` with the trains to plan anew, in a random order; returns how many."""
    size, kind = 2 + _below(_MOST_TRAINS - 1, random), _below(4, random)
    n_taken = n_candidates = 0
    if kind == 0:
        n_candidates = _candidates_at_busy_place(random, tables)
    elif kind == 1:
        for _ in range(size):
            n_taken = _take(_choose_costly(random, tables), CHOSEN, n_taken, tables)
    if n_candidates + n_taken == 0:
        first = _choose_costly(random, tables)
        n_taken = _take(first, CHOSEN, 0, tables)
        if n_taken > 0:
            n_candidates = _candidates_on_way(first, tables)
    n_taken = _take_some(n_candidates, n_taken, size, random, tables)
    for place in range(n_taken - 1, 0, -1):
        other = _below(place + 1, random)
        chosen = tables.chosen[CHOSEN]
        chosen[place], chosen[other] = chosen[other], chosen[place]
    return n_taken


@compiled_helper
def _plan_chosen(n_chosen: int, most: float, tables: PlanTables) -> int:
    """Plan the chosen trains one after the other for at most a cost; returns how many, or -1 if all are."""
    spent = 0.0
    for place in range(n_chosen):
        handle = tables.chosen[CHOSEN, place]
        last = last_affordable(handle, most - spent + _TINY, tables)
        if last < 0 or not _plan_one(handle, last, tables):
            gives_up = tables.counts[N_EXPANSIONS] >= tables.counts[MAX_EXPANSIONS]
            cancelled = spent + tables.own_costs[CANCELLED, handle]
            if gives_up or tables.trains[AT_VISIT, handle] != NO_VISIT or cancelled > most + _TINY:
                return place
        spent += cost_of_plan(handle, tables)
        if spent > most + _TINY:
            return place + 1
    return -1


@compiled_helper
def _play_round(random: np.ndarray, tables: PlanTables) -> None:
    """One round: what comes of it stays if it costs no more."""
    chosen = tables.chosen
    tables.counts[N_ROUNDS] += 1
    n_chosen = choose_trains(random, tables)
    before = 0.0
    for place in range(n_chosen):
        handle = chosen[CHOSEN, place]
        before += tables.own_costs[PLANNED, handle]
        take_out_path(handle, tables)
    n_planned = _plan_chosen(n_chosen, before, tables)
    if n_planned < 0:
        for place in range(n_chosen):
            handle = chosen[CHOSEN, place]
            free_path(tables.trains[OLD_FIRST, handle], tables)
            tables.own_costs[PLANNED, handle] = cost_of_plan(handle, tables)
        return
    for place in range(n_planned - 1, -1, -1):
        drop_path(chosen[CHOSEN, place], tables)
    for place in range(n_chosen - 1, -1, -1):
        put_back_path(chosen[CHOSEN, place], tables)


@compiled
def improve_plans(table_arrays: Arrays, random: np.ndarray, n_rounds: int, n_expansions: int) -> int:
    """Large-neighbourhood search.

    Args:
        random: int64 [1], see ``_below``.
        n_rounds: how many at most.
        n_expansions: no more rounds begin after so many nodes of path searches.

    Returns:
        The rounds that were played.
    """
    tables = PlanTables(*table_arrays)
    n_played, end = 0, tables.counts[N_EXPANSIONS] + n_expansions
    while n_played < n_rounds and tables.counts[N_EXPANSIONS] < end:
        _play_round(random, tables)
        n_played += 1
    return n_played
