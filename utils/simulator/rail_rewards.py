"""The rewards of flatland's ``DefaultRewards`` with any parameters, intermediate stops included, compiled.

A train is rewarded when it arrives, or at the end of the episode if it has not arrived. What its intermediate
stops cost falls due in the same step. Until then it is noted when the train came to the places where it could stop.

Source: ``BaseDefaultRewards`` in flatland-rl's ``envs/rewards.py``. Terms are added up in the same order.
"""

import numpy as np

from utils.simulator.state_arrays import (
    COLUMN,
    DENOMINATOR,
    DIRECTION,
    DONE,
    LATEST_ARRIVAL,
    MALFUNCTION_OFF_MAP,
    MAX_SPEED,
    PREVIOUS_STATE,
    ROW,
    STATE,
    StateArrays,
    configuration_of,
)
from utils.simulator.stops import Stops
from utils.system.compiled import Arrays, compiled, compiled_helper

# Rows of ``halts``, float64 [N_HALTS, n_places]: what is noted of a train's visits to one of the places of its stops.
(
    HALT_REACHED,  # the step in which the train came here, NOT_HERE if it is not here
    HALT_LATE,  # rewards, at most 0, of the best visit that is over; NOT_VISITED before the first
    HALT_EARLY,
    HALT_LEFT,  # the step of a departure that waits for the arrival it is paired with, NOT_LEFT for none
    N_HALTS,
) = range(5)
NOT_HERE = -1.0
SINCE_BEFORE = -2.0  # instead of HALT_REACHED: the train is here, but no arrival waits for its departure
NOT_LEFT = -1.0
NOT_VISITED = -np.inf

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
def _late_reward(latest_arrival: int, reached: float, weights: np.ndarray) -> float:
    """For the arrival of a visit that is going on."""
    return weights[LATE_ARRIVAL_FACTOR] * min(latest_arrival - reached, 0.0)


@compiled_helper
def end_visit(place: int, stop: int, departure: float, stops: Stops, halts: np.ndarray, weights: np.ndarray) -> None:
    """Keep the cheapest visit to a place, of those before and the one that is over now; also called from Python."""
    late = _late_reward(stops.latest_arrival[stop], halts[HALT_REACHED, place], weights)
    early = weights[EARLY_DEPARTURE_FACTOR] * min(departure - stops.earliest_departure[stop], 0.0)
    if late + early > halts[HALT_LATE, place] + halts[HALT_EARLY, place]:
        halts[HALT_LATE, place] = late
        halts[HALT_EARLY, place] = early


@compiled_helper
def _note_visits(
    handle: int, elapsed_steps: int, dynamic: np.ndarray, stops: Stops, halts: np.ndarray, weights: np.ndarray
) -> None:
    """Note to which places of its stops a train has come in this step, and which it has left.

    A train can visit a place several times. In the end flatland takes the cheapest of all visits to a place at which
    the train has ever stopped, so it is enough to keep the cheapest one.

    flatland pairs first arrivals with first departures. Where a train stood on the place before the notes began, as
    in an environment from a file, each departure is therefore paired with the arrival that follows it.
    """
    row, column, direction = dynamic[ROW, handle], dynamic[COLUMN, handle], dynamic[DIRECTION, handle]
    places = stops.places
    for stop in range(stops.first_stop[handle], stops.first_stop[handle + 1]):
        for place in range(stops.first_place[stop], stops.first_place[stop + 1]):
            was_here = halts[HALT_REACHED, place] != NOT_HERE
            is_here = row == places[place, 0] and column == places[place, 1] and direction == places[place, 2]
            if was_here and not is_here:
                if halts[HALT_REACHED, place] == SINCE_BEFORE:
                    halts[HALT_LEFT, place] = elapsed_steps
                else:
                    end_visit(place, stop, float(elapsed_steps), stops, halts, weights)
                halts[HALT_REACHED, place] = NOT_HERE
            elif is_here and not was_here:
                halts[HALT_REACHED, place] = elapsed_steps
                if halts[HALT_LEFT, place] != NOT_LEFT:
                    end_visit(place, stop, halts[HALT_LEFT, place], stops, halts, weights)
                    halts[HALT_LEFT, place] = NOT_LEFT
                    halts[HALT_REACHED, place] = SINCE_BEFORE


@compiled_helper
def _stop_rewards(
    handle: int, stops: Stops, served: np.ndarray, halts: np.ndarray, weights: np.ndarray
) -> tuple[float, float, float]:
    """What a train's intermediate stops cost it in the end: not served, late arrival and early departure."""
    not_served = late = early = 0.0
    for stop in range(stops.first_stop[handle], stops.first_stop[handle + 1]):
        best_late = best_early = NOT_VISITED
        for place in range(stops.first_place[stop], stops.first_place[stop + 1]):
            if served[place]:
                if halts[HALT_LATE, place] + halts[HALT_EARLY, place] > best_late + best_early:
                    best_late, best_early = halts[HALT_LATE, place], halts[HALT_EARLY, place]
                if halts[HALT_REACHED, place] >= 0:  # it has not departed, so it has not departed early
                    last_late = _late_reward(stops.latest_arrival[stop], halts[HALT_REACHED, place], weights)
                    if last_late > best_late + best_early:
                        best_late, best_early = last_late, 0.0
        if best_late == NOT_VISITED:
            not_served -= weights[NOT_SERVED_PENALTY]
        else:
            late += best_late
            early += best_early
    return not_served, late, early


@compiled_helper
def _final_reward(
    handle: int,
    elapsed_steps: int,
    arrays: StateArrays,
    stops: Stops,
    served: np.ndarray,
    halts: np.ndarray,
    weights: np.ndarray,
) -> float:
    """The reward of a train that has not arrived when the episode ends."""
    constants, dynamic = arrays.constants, arrays.dynamic
    row, column, direction = configuration_of(handle, constants, dynamic)
    cells = arrays.maps[handle, row, column, direction]
    # flatland counts the cells of the path with both ends, and none at all where there is no path.
    path_length = 0 if cells == np.inf else int(cells) + 1
    max_speed = constants[MAX_SPEED, handle]
    travel_time = (path_length * constants[DENOMINATOR, handle] + max_speed - 1) // max_speed
    if dynamic[STATE, handle] <= MALFUNCTION_OFF_MAP:
        reward = -1.0 * weights[CANCELLATION_FACTOR] * (travel_time + weights[CANCELLATION_TIME_BUFFER])
    else:
        delay = float(constants[LATEST_ARRIVAL, handle] - elapsed_steps - travel_time)
        reward = min(-1.0 * weights[NOT_REACHED_MINIMUM_PENALTY], delay)
    not_served, late, early = _stop_rewards(handle, stops, served, halts, weights)
    return reward + not_served + late + early


@compiled
def reward_stops_and_end(
    state_arrays: Arrays,
    stop_arrays: Arrays,
    served: np.ndarray,
    halts: np.ndarray,
    weights: np.ndarray,
    elapsed_steps: int,
    is_over: bool,
    rewards: np.ndarray,
) -> None:
    """Add to the rewards of a step what stops have cost the trains that arrive, and in the end those that do not.

    It is due after the last step, and after each one where trains have stops: all visits are noted here.

    Args:
        served: see ``RailState``, after ``follow_stops``.
        halts, weights: see above.
        elapsed_steps: the number of the step.
        is_over: whether it is the last one.
        rewards: float64 [trains], those of the step.
    """
    arrays, stops = StateArrays(*state_arrays), Stops(*stop_arrays)
    dynamic = arrays.dynamic
    for handle in range(rewards.shape[0]):
        _note_visits(handle, elapsed_steps, dynamic, stops, halts, weights)
        if dynamic[STATE, handle] != DONE:
            if is_over:
                rewards[handle] += _final_reward(handle, elapsed_steps, arrays, stops, served, halts, weights)
        elif dynamic[PREVIOUS_STATE, handle] != DONE:
            not_served, late, early = _stop_rewards(handle, stops, served, halts, weights)
            rewards[handle] = rewards[handle] + not_served + late + early
