"""What a plan will cost under the parameters of flatland's ``DefaultRewards``: the reward that a train will miss.

Source: ``BaseDefaultRewards`` in flatland-rl's ``envs/rewards.py``; see ``rail_rewards``.
"""

import numpy as np
from numpy.typing import NDArray

from utils.planning.plan_tables import (
    CANCELLED,
    LAST_STEP,
    LATEST_ARRIVAL,
    LONGEST,
    NEVER,
    SPEED,
    START,
    UNITS,
    UNREACHABLE,
    PlanTables,
)
from utils.simulator.rail_rewards import CANCELLATION_FACTOR, CANCELLATION_TIME_BUFFER, NOT_REACHED_MINIMUM_PENALTY
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
    latest = tables.trains[LATEST_ARRIVAL]
    tables.costs[:] = np.maximum(steps[None, :] - latest[:, None], 0) + _EARLINESS * steps
    handles = np.arange(len(latest))
    cells = tables.to_go[handles, tables.trains[START]].astype(np.int64)
    n_visited = np.where(cells < UNREACHABLE, cells + 1, 0)  # flatland counts both ends, and nothing without a path
    travel_time = -(-n_visited * tables.trains[UNITS] // tables.trains[SPEED])
    cancelled = weights[CANCELLATION_FACTOR] * (travel_time + weights[CANCELLATION_TIME_BUFFER])
    tables.own_costs[CANCELLED] = cancelled + for_completion
    tables.late_costs[:] = weights[NOT_REACHED_MINIMUM_PENALTY], for_completion


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
    late = max(tables.late_costs[0], float(arrival - tables.trains[LATEST_ARRIVAL, handle]))
    return late + tables.late_costs[1]


@compiled_helper
def last_affordable(handle: int, most: float, tables: PlanTables) -> int:
    """The last step in which a train may arrive for its plan to cost ``most`` or less; -1 if there is none.

    Costs grow with the time of the arrival.
    """
    last_step = int(tables.counts[LAST_STEP])
    if cost_of_arrival(handle, last_step + 1, tables) <= most:
        return LONGEST
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
