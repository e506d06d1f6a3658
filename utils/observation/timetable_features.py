"""What the tree does not say: a train's own state, its timetable, and what each move leads to. Compiled.

Every feature lies in [-1, 1]; times are shares of the episode's length.
"""

import numpy as np

from utils.simulator.rail_grid import MOVE_LEFT, MOVE_RIGHT, clip, possible_move, resource_of
from utils.simulator.rail_state import (
    DENOMINATOR,
    DIRECTION,
    DONE,
    EARLIEST_DEPARTURE,
    LATEST_ARRIVAL,
    MALFUNCTION_COUNTER,
    MAX_SPEED,
    MOVING,
    READY_TO_DEPART,
    STATE,
    STOPPED,
    WAITING,
    configuration_of,
    travel_time_of,
)
from utils.system.compiled import compiled_helper

_STATE_NAMES = (
    "on_map",
    "ready_to_depart",
    "waiting",
    "stopped",
    "malfunctioning",
    "malfunction_steps",
    "max_speed",
    "elapsed",
    "travel_time",
    "slack_to_latest_arrival",
    "slack_to_episode_end",
    "share_on_map",
    "share_arrived",
    "time_to_earliest_departure",
)
_MOVE_NAMES = ("possible", "distance_change", "occupied", "opposed")
_N_STATE_FEATURES = len(_STATE_NAMES)
_N_MOVE_FEATURES = len(_MOVE_NAMES)

TIMETABLE_FEATURE_NAMES = _STATE_NAMES + tuple(
    f"{move}_{name}" for move in ("left", "forward", "right") for name in _MOVE_NAMES
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
def _fill_move_features(
    handle: int,
    grid: np.ndarray,
    distance_map: np.ndarray,
    level_free: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    occupant: np.ndarray,
    features: np.ndarray,
) -> None:
    """For left, forward, right: possible, change of distance to the target, occupied, occupied by an opposing train.

    Off the map the moves are those from the initial configuration; an arrived train has none. A train on the other
    axis of a level-free crossing is in nobody's way and does not count.
    """
    row, column, direction = configuration_of(handle, constants, dynamic)
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
        move = features[(action - MOVE_LEFT) * _N_MOVE_FEATURES : (action - MOVE_LEFT + 1) * _N_MOVE_FEATURES]
        move[:] = 0.0
        move[1] = 1.0
        if dynamic[STATE, handle] == DONE:
            continue
        next_row, next_column, next_direction = possible_move(grid, row, column, direction, action)
        if next_row < 0:
            continue
        move[0] = 1.0
        distance = distance_map[handle, next_row, next_column, next_direction]
        if distance < np.inf:
            move[1] = clip((distance - distance_map[handle, row, column, direction]) / _DISTANCE_SCALE)
        other = occupant[resource_of(level_free, next_row, next_column, next_direction)] - 1
        if other >= 0:
            move[2] = 1.0
            move[3] = 1.0 if dynamic[DIRECTION, other] != next_direction else 0.0


@compiled_helper
def fill_timetable_features(
    handle: int,
    elapsed_steps: int,
    max_episode_steps: int,
    share_on_map: float,
    share_arrived: float,
    grid: np.ndarray,
    distance_map: np.ndarray,
    level_free: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    occupant: np.ndarray,
    features: np.ndarray,
) -> None:
    """Fill ``features``, float32, in the order of ``TIMETABLE_FEATURE_NAMES``; ``occupant`` holds the trains."""
    state = dynamic[STATE, handle]
    travel_time = travel_time_of(handle, distance_map, constants, dynamic)
    features[0] = MOVING <= state < DONE
    features[1] = state == READY_TO_DEPART
    features[2] = state == WAITING
    features[3] = state == STOPPED
    features[4] = dynamic[MALFUNCTION_COUNTER, handle] > 0
    features[5] = clip(dynamic[MALFUNCTION_COUNTER, handle] / _MALFUNCTION_SCALE)
    features[6] = constants[MAX_SPEED, handle] / constants[DENOMINATOR, handle]
    features[7] = elapsed_steps / max_episode_steps
    features[8] = clip(travel_time / max_episode_steps)
    features[9] = clip((constants[LATEST_ARRIVAL, handle] - elapsed_steps - travel_time) / max_episode_steps)
    features[10] = clip((max_episode_steps - elapsed_steps - travel_time) / max_episode_steps)
    features[11] = share_on_map
    features[12] = share_arrived
    steps_to_departure = max(0, constants[EARLIEST_DEPARTURE, handle] - elapsed_steps)
    features[13] = clip(steps_to_departure / max_episode_steps)
    _fill_move_features(
        handle, grid, distance_map, level_free, constants, dynamic, occupant, features[_N_STATE_FEATURES:]
    )
