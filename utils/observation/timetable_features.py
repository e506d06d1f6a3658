"""What the tree does not say: a train's own state, its timetable, and what each move leads to. Compiled.

Every feature lies in [-1, 1]; times are shares of the episode's length.
"""

from enum import IntEnum

import numpy as np

from utils.simulator.rail_grid import MOVE_LEFT, MOVE_RIGHT, clip, possible_move, resource_of
from utils.simulator.state_arrays import (
    DENOMINATOR,
    DIRECTION,
    DONE,
    EARLIEST_DEPARTURE,
    LATEST_ARRIVAL,
    MALFUNCTION_COUNTER,
    MAX_SPEED,
    MOVING,
    NEXT_MAP,
    READY_TO_DEPART,
    STATE,
    STOPPED,
    WAITING,
    StateArrays,
    configuration_of,
    travel_time_of,
)
from utils.system.compiled import compiled_helper


class _Train(IntEnum):
    """The features of the train itself."""

    (
        ON_MAP,
        READY_TO_DEPART,
        WAITING,
        STOPPED,
        MALFUNCTIONING,
        MALFUNCTION_STEPS,
        MAX_SPEED,
        ELAPSED,
        TRAVEL_TIME,
        SLACK_TO_LATEST_ARRIVAL,
        SLACK_TO_EPISODE_END,
        SHARE_ON_MAP,
        SHARE_ARRIVED,
        TIME_TO_EARLIEST_DEPARTURE,
    ) = range(14)


class _Move(IntEnum):
    """The features of left, of forward and of right."""

    POSSIBLE, DISTANCE_CHANGE, OCCUPIED, OPPOSED = range(4)


_N_TRAIN_FEATURES, _N_MOVE_FEATURES = len(_Train), len(_Move)
TIMETABLE_FEATURE_NAMES = tuple(feature.name.lower() for feature in _Train) + tuple(
    f"{move}_{feature.name.lower()}" for move in ("left", "forward", "right") for feature in _Move
)
N_TIMETABLE_FEATURES = len(TIMETABLE_FEATURE_NAMES)

# Malfunctions of the usual configurations last 20 to 50 steps.
_MALFUNCTION_SCALE = 20.0
# Cells by which a move can bring a train nearer to its target or take it away before the feature saturates.
_DISTANCE_SCALE = 10.0


@compiled_helper
def shares_of_trains(dynamic: np.ndarray) -> tuple[float, float]:
    """The shares of trains that are on the map and that have arrived."""
    n_on_map = 0
    n_arrived = 0
    for handle in range(dynamic.shape[1]):
        n_on_map += MOVING <= dynamic[STATE, handle] < DONE
        n_arrived += dynamic[STATE, handle] == DONE
    return n_on_map / dynamic.shape[1], n_arrived / dynamic.shape[1]


@compiled_helper
def _fill_move_features(handle: int, arrays: StateArrays, features: np.ndarray) -> None:
    """For left, forward, right: possible, change of distance, occupied, occupied by an opposing train.

    The distance is that to the next stop, or to the target. Off the map the moves are those from the initial
    configuration; an arrived train has none. A train on the other axis of a level-free crossing is in nobody's way and
    does not count.
    """
    maps, dynamic = arrays.maps, arrays.dynamic
    way_map = dynamic[NEXT_MAP, handle]
    row, column, direction = configuration_of(handle, arrays.constants, dynamic)
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
        move = features[(action - MOVE_LEFT) * _N_MOVE_FEATURES : (action - MOVE_LEFT + 1) * _N_MOVE_FEATURES]
        move[:] = 0.0
        move[_Move.DISTANCE_CHANGE] = 1.0
        if dynamic[STATE, handle] == DONE:
            continue
        next_row, next_column, next_direction = possible_move(arrays.grid, row, column, direction, action)
        if next_row < 0:
            continue
        move[_Move.POSSIBLE] = 1.0
        distance = maps[way_map, next_row, next_column, next_direction]
        if distance < np.inf:
            move[_Move.DISTANCE_CHANGE] = clip((distance - maps[way_map, row, column, direction]) / _DISTANCE_SCALE)
        other = arrays.occupant[resource_of(arrays.level_free, next_row, next_column, next_direction)] - 1
        if other >= 0:
            move[_Move.OCCUPIED] = 1.0
            move[_Move.OPPOSED] = 1.0 if dynamic[DIRECTION, other] != next_direction else 0.0


@compiled_helper
def fill_timetable_features(
    handle: int,
    elapsed_steps: int,
    max_episode_steps: int,
    share_on_map: float,
    share_arrived: float,
    arrays: StateArrays,
    features: np.ndarray,
) -> None:
    """Fill ``features``, float32, in the order of ``TIMETABLE_FEATURE_NAMES``; ``arrays.occupant`` holds the trains."""
    constants, dynamic = arrays.constants, arrays.dynamic
    state = dynamic[STATE, handle]
    travel_time = travel_time_of(handle, arrays.maps, constants, dynamic)
    features[_Train.ON_MAP] = MOVING <= state < DONE
    features[_Train.READY_TO_DEPART] = state == READY_TO_DEPART
    features[_Train.WAITING] = state == WAITING
    features[_Train.STOPPED] = state == STOPPED
    features[_Train.MALFUNCTIONING] = dynamic[MALFUNCTION_COUNTER, handle] > 0
    features[_Train.MALFUNCTION_STEPS] = clip(dynamic[MALFUNCTION_COUNTER, handle] / _MALFUNCTION_SCALE)
    features[_Train.MAX_SPEED] = constants[MAX_SPEED, handle] / constants[DENOMINATOR, handle]
    features[_Train.ELAPSED] = elapsed_steps / max_episode_steps
    features[_Train.TRAVEL_TIME] = clip(travel_time / max_episode_steps)
    features[_Train.SLACK_TO_LATEST_ARRIVAL] = clip(
        (constants[LATEST_ARRIVAL, handle] - elapsed_steps - travel_time) / max_episode_steps
    )
    features[_Train.SLACK_TO_EPISODE_END] = clip((max_episode_steps - elapsed_steps - travel_time) / max_episode_steps)
    features[_Train.SHARE_ON_MAP] = share_on_map
    features[_Train.SHARE_ARRIVED] = share_arrived
    steps_to_departure = max(0, constants[EARLIEST_DEPARTURE, handle] - elapsed_steps)
    features[_Train.TIME_TO_EARLIEST_DEPARTURE] = clip(steps_to_departure / max_episode_steps)
    _fill_move_features(handle, arrays, features[_N_TRAIN_FEATURES:])
