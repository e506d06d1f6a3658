"""What a train knows of its intermediate stops. Compiled.

Every feature lies in [-1, 1]; times are shares of the episode's length. All are 0 for a train without a stop to go to.
"""

from enum import IntEnum

import numpy as np

from utils.simulator.rail_grid import clip
from utils.simulator.state_arrays import (
    DENOMINATOR,
    DONE,
    HALTS,
    MAX_SPEED,
    NEXT_MAP,
    STATE,
    STOP_ARRIVAL,
    STOP_DEPARTURE,
    STOPS_TO_SERVE,
    StateArrays,
    configuration_of,
)
from utils.system.compiled import Arrays, compiled


class _Stop(IntEnum):
    """The features."""

    (
        GOES_TO_STOP,
        STANDS_AT_STOP,  # and is to stay there in the next step
        STOP_TRAVEL_TIME,  # to the next stop, at full speed
        SLACK_TO_STOP_ARRIVAL,  # the time left until its latest arrival, less the travel time
        TIME_TO_STOP_DEPARTURE,  # until the earliest departure from the stop where it stands, else from the next
        STOPS_TO_SERVE,
    ) = range(6)


STOP_FEATURE_NAMES = tuple(feature.name.lower() for feature in _Stop)

_MANY_STOPS = 6.0  # before the target


@compiled
def fill_stop_features(
    elapsed_steps: int, max_episode_steps: int, state_arrays: Arrays, is_observed: np.ndarray, features: np.ndarray
) -> None:
    """Fill ``features``, float32 [trains, features], in the order of ``STOP_FEATURE_NAMES``.

    Args:
        is_observed: bool [trains]; the rows of other trains are left as they are.
    """
    arrays = StateArrays(*state_arrays)
    constants, dynamic = arrays.constants, arrays.dynamic
    for handle in range(features.shape[0]):
        if not is_observed[handle]:
            continue
        of_train = features[handle]
        of_train[:] = 0.0
        if dynamic[STATE, handle] == DONE:
            continue
        of_train[_Stop.STANDS_AT_STOP] = dynamic[HALTS, handle]
        steps_to_departure = max(0, dynamic[STOP_DEPARTURE, handle] - elapsed_steps)
        of_train[_Stop.TIME_TO_STOP_DEPARTURE] = clip(steps_to_departure / max_episode_steps)
        if dynamic[STOPS_TO_SERVE, handle] > 0:
            row, column, direction = configuration_of(handle, constants, dynamic)
            cells = arrays.maps[dynamic[NEXT_MAP, handle], row, column, direction]
            steps = cells * constants[DENOMINATOR, handle] / constants[MAX_SPEED, handle]
            slack = dynamic[STOP_ARRIVAL, handle] - elapsed_steps - steps
            of_train[_Stop.GOES_TO_STOP] = 1.0
            of_train[_Stop.STOP_TRAVEL_TIME] = clip(steps / max_episode_steps)
            of_train[_Stop.SLACK_TO_STOP_ARRIVAL] = clip(slack / max_episode_steps)
            of_train[_Stop.STOPS_TO_SERVE] = clip(dynamic[STOPS_TO_SERVE, handle] / _MANY_STOPS)
