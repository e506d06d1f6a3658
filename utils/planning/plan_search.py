"""Plans for all trains of a level: one after the other, then better and better by large-neighbourhood search.

Prioritised planning (Erdmann and Lozano-Perez 1987) makes the first plan. Then, round after round, the plans of a few
trains are taken out and made anew in a random order; what comes of it stays if it costs no more (Li et al. 2021,
«Scalable Rail Planning and Replanning»). A round gives up as soon as it costs more than before, or when its work is
used up.
"""

import numpy as np

from utils.planning.neighbourhoods import CHOSEN, choose_trains
from utils.planning.path_search import free_path, plan_train, put_back_path, remove_path
from utils.planning.plan_costs import cost_of_plan, last_affordable
from utils.planning.plan_tables import (
    ARRIVAL,
    AT,
    CANCELLED,
    FIRST,
    HAS_ARRIVED,
    LAST_STEP,
    LEG_AFTER,
    LONGEST,
    MAX_EXPANSIONS,
    N_EXPANSIONS,
    N_ROUNDS,
    NO_VISIT,
    OLD_ARRIVAL,
    OLD_FIRST,
    OLD_LEG_AFTER,
    PLANNED,
    PlanTables,
)
from utils.system.compiled import Arrays, compiled, compiled_helper

_TINY = 1e-9


@compiled_helper
def _plan_one(handle: int, last: int, tables: PlanTables) -> bool:
    """Plan the way of a train that has no path; returns whether it can arrive by the step ``last``.

    A train off the map is only planned if it arrives before the episode ends.
    """
    if tables.trains[AT, handle] == NO_VISIT:
        last = min(last, int(tables.counts[LAST_STEP]))
    return plan_train(handle, min(last, LONGEST), tables)


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
            planned = _plan_one(handle, LONGEST, tables)
            if not planned and tables.trains[AT, handle] != NO_VISIT:
                n_missing += 1
    return n_missing


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
            if gives_up or tables.trains[AT, handle] != NO_VISIT or cancelled > most + _TINY:
                return place
        spent += cost_of_plan(handle, tables)
        if spent > most + _TINY:
            return place + 1
    return -1


@compiled_helper
def _play_round(random: np.ndarray, tables: PlanTables) -> None:
    """One round: what comes of it stays if it costs no more."""
    trains, chosen = tables.trains, tables.chosen
    tables.counts[N_ROUNDS] += 1
    n_chosen = choose_trains(random, tables)
    before = 0.0
    for place in range(n_chosen):
        handle = chosen[CHOSEN, place]
        before += tables.own_costs[PLANNED, handle]
        trains[OLD_FIRST, handle] = trains[FIRST, handle]
        trains[OLD_ARRIVAL, handle] = trains[ARRIVAL, handle]
        if trains[AT, handle] != NO_VISIT:
            trains[OLD_LEG_AFTER, handle] = tables.visits[trains[AT, handle], LEG_AFTER]
        remove_path(handle, tables)
    n_planned = _plan_chosen(n_chosen, before, tables)
    if n_planned < 0:
        for place in range(n_chosen):
            handle = chosen[CHOSEN, place]
            free_path(trains[OLD_FIRST, handle], tables)
            tables.own_costs[PLANNED, handle] = cost_of_plan(handle, tables)
        return
    for place in range(n_planned - 1, -1, -1):
        handle = chosen[CHOSEN, place]
        first = trains[FIRST, handle]
        remove_path(handle, tables)
        free_path(first, tables)
    for place in range(n_chosen - 1, -1, -1):
        handle = chosen[CHOSEN, place]
        put_back_path(
            handle, trains[OLD_FIRST, handle], trains[OLD_ARRIVAL, handle], int(trains[OLD_LEG_AFTER, handle]), tables
        )


@compiled
def improve_plans(table_arrays: Arrays, random: np.ndarray, n_rounds: int, n_expansions: int) -> int:
    """Large-neighbourhood search.

    Args:
        random: int64 [1], see ``neighbourhoods.below``.
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
