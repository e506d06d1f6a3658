"""The rewards of flatland's ``DefaultRewards`` with any parameters, intermediate stops included, compiled.

A train is rewarded when it arrives, or at the end of the episode if it has not arrived. What its intermediate
stops cost falls due in the same step. Until then it is noted when the train came to the places where it could stop.

Source: ``BaseDefaultRewards`` in flatland-rl's ``envs/rewards.py``. Terms are added up in the same order.
"""

import numpy as np

from utils.simulator.rail_state import (
    COLUMN,
    DENOMINATOR,
    DIRECTION,
    LATEST_ARRIVAL,
    MALFUNCTION_OFF_MAP,
    MAX_SPEED,
    ROW,
    STATE,
    STOPPED,
    StateArrays,
    configuration_of,
)
from utils.system.compiled import compiled, compiled_helper

# Rows of ``halts``, float64 [N_HALTS, halts]: one column for each configuration in which an intermediate stop of a
# train can be served.
(
    HALT_STOP,  # the number of the stop: a station may have several tracks to halt at
    HALT_ROW,
    HALT_COLUMN,
    HALT_DIRECTION,
    HALT_LATEST_ARRIVAL,  # step
    HALT_EARLIEST_DEPARTURE,  # step
    HALT_REACHED,  # the step in which the train came here, NOT_HERE if it is not here
    HALT_SERVED,  # 1 if the train has ever stopped here
    HALT_LATE,  # rewards, at most 0, of the best visit that is over; NO_VISIT before the first
    HALT_EARLY,
    HALT_LEFT,  # the step of a departure that waits for the arrival it is paired with, NOT_LEFT for none
    N_HALTS,
) = range(12)
NOT_HERE = -1.0
SINCE_BEFORE = -2.0  # instead of HALT_REACHED: the train is here, but no arrival waits for its departure
NOT_LEFT = -1.0
NO_VISIT = -np.inf

# Places in ``weights``, float64 [N_WEIGHTS]: the parameters of flatland's DefaultRewards, and how scores count them.
(
    CANCELLATION_FACTOR,
    CANCELLATION_TIME_BUFFER,
    NOT_REACHED_MINIMUM_PENALTY,
    NOT_SERVED_PENALTY,
    LATE_ARRIVAL_FACTOR,
    EARLY_DEPARTURE_FACTOR,
    COLLISION_FACTOR,
    CLIPS_LOSSES,  # 1 where ``rail_losses.clips_losses`` is true
    N_WEIGHTS,
) = range(9)


@compiled_helper
def _late_reward(halt: int, halts: np.ndarray, weights: np.ndarray) -> float:
    """For the arrival of the visit that is going on at a halt."""
    return weights[LATE_ARRIVAL_FACTOR] * min(halts[HALT_LATEST_ARRIVAL, halt] - halts[HALT_REACHED, halt], 0.0)


@compiled_helper
def _end_visit(halt: int, departure: float, halts: np.ndarray, weights: np.ndarray) -> None:
    """Keep the cheapest visit to a halt, of those before and the one that is over now."""
    late = _late_reward(halt, halts, weights)
    early = weights[EARLY_DEPARTURE_FACTOR] * min(departure - halts[HALT_EARLIEST_DEPARTURE, halt], 0.0)
    if late + early > halts[HALT_LATE, halt] + halts[HALT_EARLY, halt]:
        halts[HALT_LATE, halt] = late
        halts[HALT_EARLY, halt] = early


@compiled_helper
def note_visits(
    handle: int,
    first_halt: int,
    end_of_halts: int,
    elapsed_steps: int,
    dynamic: np.ndarray,
    halts: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Note at which of its halts a train has come, left or stopped in this step.

    A train can visit a halt several times. In the end flatland takes the cheapest of all visits to a halt at which
    the train has ever stopped, so it is enough to keep the cheapest one.

    flatland pairs first arrivals with first departures. Where a train stood on the halt before the notes began, as in
    an environment from a file, each departure is therefore paired with the arrival that follows it.
    """
    row, column, direction = dynamic[ROW, handle], dynamic[COLUMN, handle], dynamic[DIRECTION, handle]
    for halt in range(first_halt, end_of_halts):
        was_here = halts[HALT_REACHED, halt] != NOT_HERE
        is_here = row == halts[HALT_ROW, halt] and column == halts[HALT_COLUMN, halt]
        is_here = is_here and direction == halts[HALT_DIRECTION, halt]
        if was_here and not is_here:
            if halts[HALT_REACHED, halt] == SINCE_BEFORE:
                halts[HALT_LEFT, halt] = elapsed_steps
            else:
                _end_visit(halt, elapsed_steps, halts, weights)
            halts[HALT_REACHED, halt] = NOT_HERE
        elif is_here and not was_here:
            halts[HALT_REACHED, halt] = elapsed_steps
            if halts[HALT_LEFT, halt] != NOT_LEFT:
                _end_visit(halt, halts[HALT_LEFT, halt], halts, weights)
                halts[HALT_LEFT, halt] = NOT_LEFT
                halts[HALT_REACHED, halt] = SINCE_BEFORE
        if is_here and dynamic[STATE, handle] == STOPPED:
            halts[HALT_SERVED, halt] = 1.0


@compiled_helper
def _stop_rewards(
    first_halt: int, end_of_halts: int, halts: np.ndarray, weights: np.ndarray
) -> tuple[float, float, float]:
    """What a train's intermediate stops cost it in the end: not served, late arrival and early departure."""
    not_served = late = early = 0.0
    halt = first_halt
    while halt < end_of_halts:
        stop = halts[HALT_STOP, halt]
        best_late = best_early = NO_VISIT
        while halt < end_of_halts and halts[HALT_STOP, halt] == stop:
            if halts[HALT_SERVED, halt]:
                if halts[HALT_LATE, halt] + halts[HALT_EARLY, halt] > best_late + best_early:
                    best_late, best_early = halts[HALT_LATE, halt], halts[HALT_EARLY, halt]
                if halts[HALT_REACHED, halt] >= 0:  # it has not departed, so it has not departed early
                    last_late = _late_reward(halt, halts, weights)
                    if last_late > best_late + best_early:
                        best_late, best_early = last_late, 0.0
            halt += 1
        if best_late == NO_VISIT:
            not_served -= weights[NOT_SERVED_PENALTY]
        else:
            late += best_late
            early += best_early
    return not_served, late, early


@compiled_helper
def final_reward(
    handle: int,
    first_halt: int,
    end_of_halts: int,
    elapsed_steps: int,
    arrays: StateArrays,
    halts: np.ndarray,
    weights: np.ndarray,
) -> float:
    """The reward of a train that has not arrived when the episode ends."""
    constants, dynamic = arrays.constants, arrays.dynamic
    row, column, direction = configuration_of(handle, constants, dynamic)
    cells = arrays.distance_map[handle, row, column, direction]
    # flatland counts the cells of the path with both ends, and none at all where there is no path.
    path_length = 0 if cells == np.inf else int(cells) + 1
    max_speed = int(constants[MAX_SPEED, handle])
    travel_time = (path_length * int(constants[DENOMINATOR, handle]) + max_speed - 1) // max_speed
    if dynamic[STATE, handle] <= MALFUNCTION_OFF_MAP:
        reward = -1.0 * weights[CANCELLATION_FACTOR] * (travel_time + weights[CANCELLATION_TIME_BUFFER])
    else:
        delay = float(int(constants[LATEST_ARRIVAL, handle]) - elapsed_steps - travel_time)
        reward = min(-1.0 * weights[NOT_REACHED_MINIMUM_PENALTY], delay)
    not_served, late, early = _stop_rewards(first_halt, end_of_halts, halts, weights)
    return reward + not_served + late + early


@compiled
def arrival_reward(
    handle: int,
    first_halt: int,
    end_of_halts: int,
    elapsed_steps: int,
    constants: np.ndarray,
    halts: np.ndarray,
    weights: np.ndarray,
) -> float:
    """The reward of a train that arrives in this step."""
    late_at_target = float(min(int(constants[LATEST_ARRIVAL, handle]) - elapsed_steps, 0))
    not_served, late, early = _stop_rewards(first_halt, end_of_halts, halts, weights)
    return late_at_target + not_served + late + early
