"""What each way out of a cell would cost a train, with the other trains where they are now. Compiled.

The distance map knows rails only. Here a search goes round the trains that stand on them: cells count as one, a cell
with a train that heads another way as ``OPPOSING_CELLS`` more, one with a broken train as many more as the train could
run in the rest of the malfunction. What that costs beyond the shortest path is the *detour* of a way out.

The search is A* with the distance map as the bound, so where nothing is in the way it only walks the shortest path.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.action_mask import is_choice
from utils.simulator.rail_grid import (
    MOVE_FORWARD,
    MOVE_LEFT,
    MOVE_RIGHT,
    clip,
    count_exits,
    exits_of,
    possible_move,
    resource_of,
)
from utils.simulator.rail_state import (
    DENOMINATOR,
    DIRECTION,
    DONE,
    MALFUNCTION_COUNTER,
    MAX_SPEED,
    STATE,
    RailState,
    configuration_of,
    mark_trains,
    unmark_trains,
)
from utils.system.compiled import compiled, compiled_helper

ROUTE_FEATURE_NAMES = tuple(
    f"{move}_{name}" for move in ("left", "forward", "right") for name in ("safe", "detour", "extra_detour", "slack")
)
N_ROUTE_FEATURES = len(ROUTE_FEATURE_NAMES)
_N_MOVE_FEATURES = N_ROUTE_FEATURES // 3
_DETOUR = 1  # place among the features of a move

# What a train in the way that heads another way counts, in cells: as much as a detour round a station.
OPPOSING_CELLS = 20
# Longer detours are all alike; cells.
_MAX_DETOUR = 30

_EXTRA_DETOUR_SCALE = 10.0  # cells
_SLACK_SCALE = 30.0  # steps: about a malfunction


class RouteSearch(NamedTuple):
    """Memory for one size of grid.

    Attributes:
        detour: int64 [configurations], the least detour known in this search, negative for none.
        bucket: int64 [_MAX_DETOUR + 1], the last entry of each detour's list, -1 for an empty one.
        entries: int64 [entries, 4], row, column, direction and the entry before it in the list.
    """

    detour: NDArray[np.int64]
    bucket: NDArray[np.int64]
    entries: NDArray[np.int64]

    @classmethod
    def for_state(cls, state: RailState) -> "RouteSearch":
        """New memory, of the size that the level needs."""
        n_configurations = 4 * state.grid.size
        return cls(
            np.full(n_configurations, -1, dtype=np.int64),
            np.full(_MAX_DETOUR + 1, -1, dtype=np.int64),
            # a configuration is entered again whenever a shorter detour to it is found
            np.zeros((3 * n_configurations, 4), dtype=np.int64),
        )

    def fits(self, state: RailState) -> bool:
        """Whether the memory is of the size that the level needs."""
        return len(self.detour) == 4 * state.grid.size


@compiled_helper
def _hindrance(
    handle: int,
    row: int,
    column: int,
    direction: int,
    cells_before: int,
    level_free: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    occupant: np.ndarray,
) -> int:
    """What another train in a cell costs, in cells, if the cell is reached after ``cells_before`` others."""
    other = occupant[resource_of(level_free, row, column, direction)] - 1
    if other < 0 or other == handle:
        return 0
    cost = OPPOSING_CELLS if dynamic[DIRECTION, other] != direction else 0
    broken_for = dynamic[MALFUNCTION_COUNTER, other] * constants[MAX_SPEED, handle] // constants[DENOMINATOR, handle]
    return int(cost + max(0, broken_for - cells_before))


@compiled_helper
def _key_of(row: int, column: int, direction: int, width: int) -> int:
    return 4 * (row * width + column) + direction


@compiled_helper
def _put_off(
    row: int, column: int, direction: int, detour: int, n_entries: int, width: int, search: RouteSearch
) -> int:
    """Enter a configuration into the list of its detour, unless a shorter one is known; returns how many there are."""
    known = search.detour[_key_of(row, column, direction, width)]
    if detour >= _MAX_DETOUR or 0 <= known <= detour or n_entries == search.entries.shape[0]:
        return n_entries
    search.detour[_key_of(row, column, direction, width)] = detour
    entry = search.entries[n_entries]
    entry[0], entry[1], entry[2], entry[3] = row, column, direction, search.bucket[detour]
    search.bucket[detour] = n_entries
    return n_entries + 1


@compiled_helper
def find_detour(
    handle: int,
    row: int,
    column: int,
    direction: int,
    grid: np.ndarray,
    distance_map: np.ndarray,
    level_free: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    occupant: np.ndarray,
    search: RouteSearch,
) -> int:
    """Cells by which the best way from a configuration is longer than the shortest path; at most ``_MAX_DETOUR``.

    ``occupant`` holds the trains (``mark_trains``). What stands in the first cell itself counts too.
    """
    shortest = distance_map[handle, row, column, direction]
    detour = _hindrance(handle, row, column, direction, 0, level_free, constants, dynamic, occupant)
    if detour >= _MAX_DETOUR or shortest == np.inf:
        return _MAX_DETOUR
    n_entries = _put_off(row, column, direction, detour, 0, grid.shape[1], search)
    result = _MAX_DETOUR
    while detour < result:
        last = search.bucket[detour]
        if last < 0:
            detour += 1
            continue
        entry = search.entries[last]
        row, column, direction, search.bucket[detour] = entry[0], entry[1], entry[2], entry[3]
        if search.detour[_key_of(row, column, direction, grid.shape[1])] != detour:
            continue  # a shorter way was found since
        to_go = distance_map[handle, row, column, direction]
        hindrance = 0
        while hindrance == 0 and to_go > 0 and count_exits(exits_of(int(grid[row, column]), direction)) == 1:
            # from where there is a way to the target the only way on leads there, one cell nearer
            row, column, direction = possible_move(grid, row, column, direction, MOVE_FORWARD)
            to_go -= 1
            hindrance = _hindrance(
                handle, row, column, direction, int(shortest - to_go) + detour, level_free, constants, dynamic, occupant
            )
        if hindrance > 0:
            n_entries = _put_off(row, column, direction, detour + hindrance, n_entries, grid.shape[1], search)
            continue
        if to_go == 0:
            result = detour
            break
        for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
            next_row, next_column, next_direction = possible_move(grid, row, column, direction, action)
            if next_row < 0 or distance_map[handle, next_row, next_column, next_direction] == np.inf:
                continue
            next_detour = detour + int(1 + distance_map[handle, next_row, next_column, next_direction] - to_go)
            next_detour += _hindrance(
                handle,
                next_row,
                next_column,
                next_direction,
                int(shortest - to_go) + detour + 1,
                level_free,
                constants,
                dynamic,
                occupant,
            )
            n_entries = _put_off(next_row, next_column, next_direction, next_detour, n_entries, grid.shape[1], search)
    for entry in search.entries[:n_entries]:
        search.detour[_key_of(entry[0], entry[1], entry[2], grid.shape[1])] = -1
    search.bucket[:] = -1
    return result


def least_detour_actions(features: NDArray[np.float32], action_mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The possible move with the least detour for each train, the first if there are several; else what is possible.

    Args:
        features: float32 [k, N_ROUTE_FEATURES].
        action_mask: bool [k, 5].
    """
    moves = action_mask[:, MOVE_LEFT : MOVE_RIGHT + 1]
    detours = np.where(moves, features[:, _DETOUR::_N_MOVE_FEATURES], np.inf)
    return np.where(moves.any(axis=1), MOVE_LEFT + detours.argmin(axis=1), action_mask.argmax(axis=1))


@compiled
def fill_route_features(
    elapsed_steps: int,
    max_episode_steps: int,
    grid: np.ndarray,
    distance_map: np.ndarray,
    level_free: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    occupant: np.ndarray,
    safe: np.ndarray,
    deciding_only: bool,
    mask: np.ndarray,
    search: RouteSearch,
    features: np.ndarray,
) -> None:
    """Fill ``features``, float32 [trains, N_ROUTE_FEATURES], in the order of ``ROUTE_FEATURE_NAMES``, all in [-1, 1].

    For left, forward and right: whether the move is safe (-1 if not, 0 where there is no choice); the detour of this
    way out against the shortest path of all; its detour against the best of the ways out; the time left at the end of
    the episode when the train arrives this way. A way that does not exist has the detours 1 and the slack -1.

    Args:
        occupant: all zero, as it will be afterwards.
        safe: int8 [trains, 3], see ``SafeMoves.restrict``.
        deciding_only: whether the rows of trains that ``mask``, bool [trains, 5], gives no choice are left as they are.
    """
    mark_trains(occupant, level_free, dynamic)
    for handle in range(features.shape[0]):
        if deciding_only and not is_choice(mask[handle]):
            continue
        of_train = features[handle]
        of_train[:] = 0.0
        if dynamic[STATE, handle] == DONE:
            continue
        row, column, direction = configuration_of(handle, constants, dynamic)
        shortest = distance_map[handle, row, column, direction]
        steps_for_cell = constants[DENOMINATOR, handle] / constants[MAX_SPEED, handle]
        costs = np.full(3, np.inf)
        for branch in range(3):
            to_row, to_column, to_direction = possible_move(grid, row, column, direction, branch + MOVE_LEFT)
            if to_row < 0 or distance_map[handle, to_row, to_column, to_direction] == np.inf:
                continue
            costs[branch] = 1 + distance_map[handle, to_row, to_column, to_direction]
            costs[branch] += find_detour(
                handle,
                to_row,
                to_column,
                to_direction,
                grid,
                distance_map,
                level_free,
                constants,
                dynamic,
                occupant,
                search,
            )
        least = min(costs[0], costs[1], costs[2])
        for branch in range(3):
            of_move = of_train[branch * _N_MOVE_FEATURES : (branch + 1) * _N_MOVE_FEATURES]
            of_move[0] = safe[handle, branch]
            of_move[1] = of_move[2] = 1.0
            of_move[3] = -1.0
            if costs[branch] < np.inf:
                of_move[1] = clip((costs[branch] - shortest) / _MAX_DETOUR)
                of_move[2] = clip((costs[branch] - least) / _EXTRA_DETOUR_SCALE)
                arrival = elapsed_steps + costs[branch] * steps_for_cell
                of_move[3] = clip((max_episode_steps - arrival) / _SLACK_SCALE)
    unmark_trains(occupant, level_free, dynamic)
