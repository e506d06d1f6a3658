"""What a plan will cost under the parameters of flatland's ``DefaultRewards``: the reward that a train will miss.

Source: ``BaseDefaultRewards`` in flatland-rl's ``envs/rewards.py``; see ``rail_rewards``.
"""

import numpy as np
from numpy.typing import NDArray

from utils.planning.plan_legs import EARLIEST, LATEST, TO_GO_ROW, UNREACHABLE
from utils.planning.plan_tables import (
    AT_VISIT,
    CANCELLED,
    DUE,
    EARLY_AT_STOP,
    ENTER,
    FIRST,
    FIRST_LEG,
    LAST_STEP,
    LATE_AT_STOP,
    LEAVE,
    LEG,
    LEG_AFTER,
    MOST_LOST,
    MOST_STEPS,
    N_LEGS,
    NEVER,
    NEXT,
    NO_VISIT,
    NOT_COMPLETED,
    NOT_REACHED,
    NOT_SERVED,
    PLANNED,
    PLANNED_ARRIVAL,
    READY,
    STANDS_STILL,
    START,
    UNITS,
    UNITS_A_STEP,
    WAIT,
    PlanTables,
    steps_to_run,
)
from utils.simulator.flatland_versions import CHOSEN_STOPS_COST
from utils.simulator.rail_rewards import (
    CANCELLATION_FACTOR,
    CANCELLATION_TIME_BUFFER,
    CLIPS_LOSSES,
    COLLISION_FACTOR,
    EARLY_DEPARTURE_FACTOR,
    LATE_ARRIVAL_FACTOR,
    NOT_REACHED_MINIMUM_PENALTY,
    NOT_SERVED_PENALTY,
)
from utils.system.compiled import compiled_helper

_EARLINESS = 1e-3  # for each step: of two plans that cost the same the one that arrives earlier is better


def fill_costs(tables: PlanTables, weights: NDArray[np.float64], completion_weight: float) -> None:
    """Fill ``costs`` and the costs of not departing.

    Args:
        weights: the parameters of the rewards.
        completion_weight: what an arrival counts beside the reward, as a share of the episode's length in steps.
    """
    last_step = tables.counts[LAST_STEP]
    for_completion = completion_weight * last_step
    steps = np.arange(last_step + 1)
    trains, shared = tables.trains, tables.shared_costs
    latest, last_leg = trains[DUE], trains[FIRST_LEG] + trains[N_LEGS] - 1
    shared[NOT_REACHED], shared[NOT_COMPLETED] = weights[NOT_REACHED_MINIMUM_PENALTY], for_completion
    shared[NOT_SERVED] = weights[NOT_SERVED_PENALTY]
    shared[LATE_AT_STOP], shared[EARLY_AT_STOP] = weights[LATE_ARRIVAL_FACTOR], weights[EARLY_DEPARTURE_FACTOR]
    shared[WAIT] = weights[COLLISION_FACTOR] if CHOSEN_STOPS_COST else 0.0
    shared[MOST_LOST] = last_step if weights[CLIPS_LOSSES] else np.inf
    lost = np.minimum(np.maximum(steps[None, :] - latest[:, None], 0), shared[MOST_LOST])
    tables.costs[:] = lost + _EARLINESS * steps
    cells = tables.to_go[tables.legs[TO_GO_ROW, last_leg], trains[START]].astype(np.int64)
    n_visited = np.where(cells < UNREACHABLE, cells + 1, 0)  # flatland counts both ends, and nothing without a path
    travel_time = -(-n_visited * trains[UNITS] // trains[UNITS_A_STEP])
    cancelled = weights[CANCELLATION_FACTOR] * (travel_time + weights[CANCELLATION_TIME_BUFFER])
    cancelled += shared[NOT_SERVED] * (trains[N_LEGS] - 1)
    tables.own_costs[CANCELLED] = np.minimum(cancelled, shared[MOST_LOST]) + for_completion


@compiled_helper
def cost_of_arrival(handle: int, arrival: int, tables: PlanTables) -> float:
    """What the plan of a train costs that arrives in a step; NEVER if it does not depart."""
    last_step = tables.counts[LAST_STEP]
    if arrival <= last_step:
        return tables.costs[handle, arrival]
    if arrival == NEVER:
        return tables.own_costs[CANCELLED, handle]
    # On its way at the end of the episode, as far from its target as the steps tell that are missing. A plan that is
    # later still costs a little more, so that the search has something to go by.
    shared = tables.shared_costs
    late = max(shared[NOT_REACHED], float(arrival - tables.trains[DUE, handle]))
    return min(late, shared[MOST_LOST]) + shared[NOT_COMPLETED]


@compiled_helper
def _cost_of_stops(train: int, tables: PlanTables) -> float:
    """What the stops to come of a train cost in its plan: late arrival, early departure, or not to be served."""
    trains, visits, legs, shared = tables.trains, tables.visits, tables.legs, tables.shared_costs
    leg, cost = trains[LEG, train], 0.0
    visit = trains[AT_VISIT, train] if trains[AT_VISIT, train] != NO_VISIT else trains[FIRST, train]
    while visit != NO_VISIT and leg < trains[N_LEGS, train] - 1 and visits[visit, ENTER] <= tables.counts[LAST_STEP]:
        while leg < visits[visit, LEG_AFTER]:
            column = trains[FIRST_LEG, train] + leg
            cost += shared[LATE_AT_STOP] * max(0, visits[visit, ENTER] - legs[LATEST, column])
            cost += shared[EARLY_AT_STOP] * max(0, legs[EARLIEST, column] - visits[visit, LEAVE])
            leg += 1
        visit = visits[visit, NEXT]
    return cost + shared[NOT_SERVED] * (trains[N_LEGS, train] - 1 - leg)


@compiled_helper
def _cost_of_waits(train: int, tables: PlanTables) -> float:
    """What a train's waits on the map cost in its plan, where a stop costs as much as a collision."""
    trains, visits, n_cells, n_waits = tables.trains, tables.visits, 0, 0
    visit = trains[AT_VISIT, train]
    leaves_from = trains[READY, train]
    if visit == NO_VISIT or trains[STANDS_STILL, train] == 1:
        visit = trains[FIRST, train] if visit == NO_VISIT else visits[visit, NEXT]
        leaves_from = NEVER
    while visit != NO_VISIT and visits[visit, NEXT] != NO_VISIT:
        if leaves_from == NEVER:
            run = steps_to_run(n_cells + 1, train, trains) - steps_to_run(n_cells, train, trains)
            leaves_from = visits[visit, ENTER] + run
        n_waits += visits[visit, LEAVE] > leaves_from
        visit, n_cells, leaves_from = visits[visit, NEXT], n_cells + 1, NEVER
    return tables.shared_costs[WAIT] * n_waits * trains[UNITS_A_STEP, train] / trains[UNITS, train]


@compiled_helper
def cost_of_plan(handle: int, tables: PlanTables) -> float:
    """What the plan of a train costs, its stops included."""
    arrival = tables.trains[PLANNED_ARRIVAL, handle]
    cost = cost_of_arrival(handle, arrival, tables)
    if arrival == NEVER:
        return cost
    more = 0.0
    if tables.trains[N_LEGS, handle] > 1:
        more += _cost_of_stops(handle, tables)
    if tables.shared_costs[WAIT] > 0.0:
        more += _cost_of_waits(handle, tables)
    return min(cost + more, max(cost, tables.shared_costs[MOST_LOST]))


def has_costly_stops(tables: PlanTables) -> NDArray[np.bool_]:
    """Whether the stops to come of each train cost anything in its plan, bool [trains]; after ``price_plans``."""
    trains = tables.trains
    is_planned = trains[PLANNED_ARRIVAL] <= tables.counts[LAST_STEP]
    arrivals = np.where(is_planned, trains[PLANNED_ARRIVAL], 0)
    costs = tables.costs[np.arange(trains.shape[1]), arrivals]
    return is_planned & (tables.own_costs[PLANNED] > costs + _EARLINESS)


@compiled_helper
def last_affordable(handle: int, most: float, tables: PlanTables) -> int:
    """The last step in which a train may arrive for its plan to cost ``most`` or less; -1 if there is none.

    Costs grow with the time of the arrival.
    """
    last_step = tables.counts[LAST_STEP]
    if cost_of_arrival(handle, last_step + 1, tables) <= most:
        return MOST_STEPS
    if tables.costs[handle, 0] > most:
        return -1
    low, high = 0, last_step + 1  # affordable, not affordable
    while high - low > 1:
        middle = (low + high) >> 1
        if tables.costs[handle, middle] <= most:
            low = middle
        else:
            high = middle
    return low
