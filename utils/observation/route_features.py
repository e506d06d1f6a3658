"""What each way out of a cell would cost a train, with the other trains where they are now. Compiled.

See ``route_search`` for what a detour is. Ways lead to the next stop, if there is one.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from utils.rules.route_search import MAX_DETOUR, RouteSearch, find_detour
from utils.simulator.rail_grid import MOVE_LEFT, MOVE_RIGHT, clip, possible_move
from utils.simulator.state_arrays import (
    CELLS_AFTER,
    DENOMINATOR,
    DONE,
    MAX_SPEED,
    NEXT_MAP,
    STATE,
    STOPS_TO_SERVE,
    StateArrays,
    configuration_of,
    mark_trains,
    unmark_trains,
)
from utils.system.compiled import Arrays, compiled


class _Way(IntEnum):
    """The features of left, of forward and of right."""

    SAFE, DETOUR, EXTRA_DETOUR, SLACK = range(4)


_N_WAY_FEATURES = len(_Way)
ROUTE_FEATURE_NAMES = tuple(
    f"{move}_{feature.name.lower()}" for move in ("left", "forward", "right") for feature in _Way
)

_EXTRA_DETOUR_SCALE = 10.0  # cells
_SLACK_SCALE = 30.0  # steps: about a malfunction


def least_detour_actions(features: NDArray[np.float32], action_mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The possible move with the least detour for each train, the first if there are several; else what is possible.

    Args:
        features: float32 [k, features], those of ``ROUTE_FEATURE_NAMES``.
        action_mask: bool [k, 5].
    """
    moves = action_mask[:, MOVE_LEFT : MOVE_RIGHT + 1]
    detours = np.where(moves, features[:, _Way.DETOUR :: _N_WAY_FEATURES], np.inf)
    return np.where(moves.any(axis=1), MOVE_LEFT + detours.argmin(axis=1), action_mask.argmax(axis=1))


@compiled
def fill_route_features(
    elapsed_steps: int,
    max_episode_steps: int,
    state_arrays: Arrays,
    safe: np.ndarray,
    is_observed: np.ndarray,
    search_arrays: Arrays,
    features: np.ndarray,
) -> None:
    """Fill ``features``, float32 [trains, features], in the order of ``ROUTE_FEATURE_NAMES``, all in [-1, 1].

    For left, forward and right: whether the move is safe (-1 if not, 0 where there is no choice); the detour of this
    way out against the shortest path of all, its detour against the best of the ways out; the time left at the end of
    the episode when the train arrives this way. A way that does not exist has the detours 1 and the slack -1.

    Args:
        safe: int8 [trains, 3], see ``SafeMoves.restrict``.
        is_observed: bool [trains]; the rows of other trains are left as they are.
    """
    arrays, search = StateArrays(*state_arrays), RouteSearch(*search_arrays)
    grid, maps, constants, dynamic = arrays.grid, arrays.maps, arrays.constants, arrays.dynamic
    costs = np.empty(3, dtype=np.float64)
    mark_trains(arrays.occupant, arrays.level_free, dynamic)
    for handle in range(features.shape[0]):
        if not is_observed[handle]:
            continue
        of_train = features[handle]
        of_train[:] = 0.0
        if dynamic[STATE, handle] == DONE:
            continue
        row, column, direction = configuration_of(handle, constants, dynamic)
        way_map = dynamic[NEXT_MAP, handle]
        shortest = maps[way_map, row, column, direction]
        steps_for_cell = constants[DENOMINATOR, handle] / constants[MAX_SPEED, handle]
        steps_after = dynamic[CELLS_AFTER, handle] * steps_for_cell + dynamic[STOPS_TO_SERVE, handle]
        costs[:] = least = np.inf
        for branch in range(3):
            to_row, to_column, to_direction = possible_move(grid, row, column, direction, branch + MOVE_LEFT)
            if to_row < 0 or maps[way_map, to_row, to_column, to_direction] == np.inf:
                continue
            costs[branch] = 1 + maps[way_map, to_row, to_column, to_direction]
            costs[branch] += find_detour(handle, to_row, to_column, to_direction, arrays, search)
            least = min(least, costs[branch])
        for branch in range(3):
            of_way = of_train[branch * _N_WAY_FEATURES : (branch + 1) * _N_WAY_FEATURES]
            of_way[_Way.SAFE] = safe[handle, branch]
            of_way[_Way.DETOUR] = of_way[_Way.EXTRA_DETOUR] = 1.0
            of_way[_Way.SLACK] = -1.0
            if costs[branch] < np.inf:
                of_way[_Way.DETOUR] = clip((costs[branch] - shortest) / MAX_DETOUR)
                of_way[_Way.EXTRA_DETOUR] = clip((costs[branch] - least) / _EXTRA_DETOUR_SCALE)
                arrival = elapsed_steps + costs[branch] * steps_for_cell + steps_after
                of_way[_Way.SLACK] = clip((max_episode_steps - arrival) / _SLACK_SCALE)
    unmark_trains(arrays.occupant, arrays.level_free, dynamic)
