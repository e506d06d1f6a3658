"""Which stops are served, and where trains go next: to a stop, or to their target. Compiled, over ``RailState``."""

import numpy as np

from utils.simulator.state_arrays import (
    CELLS_AFTER,
    COLUMN,
    DIRECTION,
    DONE,
    EARLIEST_DEPARTURE,
    HALTS,
    LATEST_ARRIVAL,
    MOVING,
    NEXT_MAP,
    NEXT_STOP,
    ROW,
    STATE,
    STOP_ARRIVAL,
    STOP_DEPARTURE,
    STOPPED,
    STOPS_TO_SERVE,
    StateArrays,
    configuration_of,
    travel_time_of,
)
from utils.simulator.stops import Stops
from utils.system.compiled import Arrays, compiled, compiled_helper


@compiled
def follow_stops(
    goes_to_stops: bool,
    elapsed_steps: int,
    max_episode_steps: int,
    state_arrays: Arrays,
    stop_arrays: Arrays,
    served: np.ndarray,
    was_step: bool,
) -> None:
    """Note, after a step, in which places trains have stopped; fill the rows of ``dynamic`` from NEXT_STOP on.

    A train goes to the first stop that it has not served, can reach, and has time for before the episode ends; if
    there is time for none of them, nor for the way to the target alone, to the first one. It stands still there until
    it has served it, and then until the earliest departure, unless it would be late at its target for that.

    Args:
        goes_to_stops: whether trains go to their stops and stand still there.
        elapsed_steps, max_episode_steps, served: see ``RailState``.
        was_step: False where no step was made since ``served`` was filled: nothing is noted then.
    """
    arrays, stops = StateArrays(*state_arrays), Stops(*stop_arrays)
    for handle in range(arrays.dynamic.shape[1]):
        if stops.first_stop[handle] < stops.first_stop[handle + 1]:
            stop_here = _note_served(handle, was_step, arrays.dynamic, stops, served)
            _go_to(handle, -1, arrays.dynamic, stops)
            if goes_to_stops and arrays.dynamic[STATE, handle] != DONE:
                _choose_stop(handle, elapsed_steps, max_episode_steps, arrays, stops, served)
                _choose_halt(handle, stop_here, elapsed_steps, arrays, stops)


@compiled_helper
def _is_served(stop: int, stops: Stops, served: np.ndarray) -> bool:
    place, end = stops.first_place[stop], stops.first_place[stop + 1]
    while place < end and not served[place]:
        place += 1
    return place < end


@compiled_helper
def _note_served(handle: int, was_step: bool, dynamic: np.ndarray, stops: Stops, served: np.ndarray) -> int:
    """Fill NEXT_STOP; returns the last stop that the train has served where it is, -1 for none."""
    stop_here, places = -1, stops.places
    end = stops.first_stop[handle + 1]
    for stop in range(stops.first_stop[handle], end):
        for place in range(stops.first_place[stop], stops.first_place[stop + 1]):
            is_here = places[place, 0] == dynamic[ROW, handle] and places[place, 1] == dynamic[COLUMN, handle]
            if is_here and places[place, 2] == dynamic[DIRECTION, handle]:
                served[place] = served[place] or (was_step and dynamic[STATE, handle] == STOPPED)
                if served[place]:
                    stop_here = stop
    next_stop = stops.first_stop[handle] + dynamic[NEXT_STOP, handle]
    while next_stop < end and _is_served(next_stop, stops, served):
        next_stop += 1
    dynamic[NEXT_STOP, handle] = next_stop - stops.first_stop[handle]
    return stop_here


@compiled_helper
def _go_to(handle: int, stop: int, dynamic: np.ndarray, stops: Stops) -> None:
    """Let a train go to a stop next, or to its target for -1."""
    is_stop = stop >= 0
    dynamic[NEXT_MAP, handle] = dynamic.shape[1] + stops.map_of_stop[stop] if is_stop else handle
    dynamic[CELLS_AFTER, handle] = stops.cells_after[stop] if is_stop else 0
    dynamic[STOPS_TO_SERVE, handle] = stops.stops_after[stop] + 1 if is_stop else 0
    dynamic[STOP_ARRIVAL, handle] = stops.latest_arrival[stop] if is_stop else 0
    dynamic[STOP_DEPARTURE, handle] = stops.earliest_departure[stop] if is_stop else 0
    dynamic[HALTS, handle] = 0


@compiled_helper
def _choose_stop(
    handle: int, elapsed_steps: int, max_episode_steps: int, arrays: StateArrays, stops: Stops, served: np.ndarray
) -> None:
    """Let a train that goes to its target go to a stop before that, see ``follow_stops``."""
    maps, constants, dynamic = arrays.maps, arrays.constants, arrays.dynamic
    time = max_episode_steps - elapsed_steps
    if dynamic[ROW, handle] < 0:
        time = max_episode_steps - max(elapsed_steps, constants[EARLIEST_DEPARTURE, handle])
    has_time_for_target = travel_time_of(handle, maps, constants, dynamic) <= time
    row, column, direction = configuration_of(handle, constants, dynamic)
    first = -1
    for stop in range(stops.first_stop[handle] + dynamic[NEXT_STOP, handle], stops.first_stop[handle + 1]):
        is_near = maps[dynamic.shape[1] + stops.map_of_stop[stop], row, column, direction] < np.inf
        if not is_near or _is_served(stop, stops, served):
            continue
        first = stop if first < 0 else first
        _go_to(handle, stop, dynamic, stops)
        if travel_time_of(handle, maps, constants, dynamic) <= time:
            return
    _go_to(handle, -1 if has_time_for_target else first, dynamic, stops)


@compiled_helper
def _choose_halt(handle: int, stop_here: int, elapsed_steps: int, arrays: StateArrays, stops: Stops) -> None:
    """Let a train on the map stand still at the stop that it goes to, or at ``stop_here``, which it has served."""
    maps, constants, dynamic = arrays.maps, arrays.constants, arrays.dynamic
    if dynamic[ROW, handle] < 0:
        return
    row, column, direction = configuration_of(handle, constants, dynamic)
    if dynamic[STOPS_TO_SERVE, handle] > 0 and maps[dynamic[NEXT_MAP, handle], row, column, direction] == 0:
        dynamic[HALTS, handle] = 1
    elif stop_here >= 0 and dynamic[STATE, handle] != MOVING:
        dynamic[STOP_DEPARTURE, handle] = stops.earliest_departure[stop_here]
        in_time = elapsed_steps + 1 + travel_time_of(handle, maps, constants, dynamic)
        # who leaves in the next step leaves at elapsed_steps + 1
        early = elapsed_steps + 1 < dynamic[STOP_DEPARTURE, handle]
        dynamic[HALTS, handle] = early and in_time <= constants[LATEST_ARRIVAL, handle]
