"""Where trains stop in a plan: which intermediate stops they serve, when they may leave them, and what it costs."""

from utils.planning.plan_legs import EARLIEST, END_OF_PLACES, FIRST_PLACE, LATEST
from utils.planning.plan_tables import (
    AT,
    EARLY_AT_STOP,
    ENTER,
    FIRST,
    FIRST_LEG,
    LAST_STEP,
    LATE_AT_STOP,
    LEAVE,
    LEG,
    LEG_AFTER,
    N_LEGS,
    NEVER,
    NEXT,
    NO_VISIT,
    NOT_SERVED,
    READY,
    SPEED,
    STANDS,
    UNITS,
    WAIT,
    PlanTables,
    steps_to_run,
)
from utils.system.compiled import compiled_helper


@compiled_helper
def ends_at(key: int, leg: int, train: int, tables: PlanTables) -> bool:
    """Whether a train can serve the stop at the end of a leg at a rail key; the last leg has none."""
    column = tables.trains[FIRST_LEG, train] + leg
    for place in range(tables.legs[FIRST_PLACE, column], tables.legs[END_OF_PLACES, column]):
        if tables.places[place] == key:
            return True
    return False


@compiled_helper
def earliest_to_leave(ready: int, leg: int, leg_after: int, train: int, tables: PlanTables) -> int:
    """The step from which a train may go on from where it comes from one leg to another one.

    Args:
        ready: the step from which it could go on without a stop. Each stop takes one step more.
    """
    for column in range(tables.trains[FIRST_LEG, train] + leg, tables.trains[FIRST_LEG, train] + leg_after):
        ready = max(ready + 1, int(tables.legs[EARLIEST, column]))
    return ready


@compiled_helper
def cost_of_stops(train: int, tables: PlanTables) -> float:
    """What the stops to come of a train cost in its plan: late arrival, early departure, or not to be served."""
    trains, visits, legs, shared = tables.trains, tables.visits, tables.legs, tables.shared_costs
    leg, cost = trains[LEG, train], 0.0
    visit = trains[AT, train] if trains[AT, train] != NO_VISIT else trains[FIRST, train]
    while visit != NO_VISIT and leg < trains[N_LEGS, train] - 1 and visits[visit, ENTER] <= tables.counts[LAST_STEP]:
        while leg < visits[visit, LEG_AFTER]:
            column = trains[FIRST_LEG, train] + leg
            cost += shared[LATE_AT_STOP] * max(0, visits[visit, ENTER] - legs[LATEST, column])
            cost += shared[EARLY_AT_STOP] * max(0, legs[EARLIEST, column] - visits[visit, LEAVE])
            leg += 1
        visit = visits[visit, NEXT]
    return cost + shared[NOT_SERVED] * (trains[N_LEGS, train] - 1 - leg)


@compiled_helper
def cost_of_waits(train: int, tables: PlanTables) -> float:
    """What a train's waits on the map cost in its plan, where a stop costs as much as a collision."""
    trains, visits, n_cells, n_waits = tables.trains, tables.visits, 0, 0
    visit = trains[AT, train]
    leaves_from = trains[READY, train]
    if visit == NO_VISIT or trains[STANDS, train] == 1:
        visit = trains[FIRST, train] if visit == NO_VISIT else visits[visit, NEXT]
        leaves_from = NEVER
    while visit != NO_VISIT and visits[visit, NEXT] != NO_VISIT:
        if leaves_from == NEVER:
            run = steps_to_run(n_cells + 1, train, trains) - steps_to_run(n_cells, train, trains)
            leaves_from = visits[visit, ENTER] + run
        n_waits += visits[visit, LEAVE] > leaves_from
        visit, n_cells, leaves_from = visits[visit, NEXT], n_cells + 1, NEVER
    return tables.shared_costs[WAIT] * n_waits * trains[SPEED, train] / trains[UNITS, train]
