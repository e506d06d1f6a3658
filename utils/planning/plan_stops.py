"""The intermediate stops of a plan: where a train serves them, when it may leave them, and what they cost."""

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
    NEXT,
    NO_VISIT,
    NOT_SERVED,
    PlanTables,
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
