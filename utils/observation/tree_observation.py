"""The tree observation of flatland's ``TreeObsForRailEnv``, compiled, over ``RailState``.

Values equal those of ``TreeObsForRailEnv(max_depth, ShortestPathPredictorForRailEnv(30))`` of flatland-rl 4.3.0 to
the last bit. There the distance of a predicted conflict is always infinite (a comparison that can never hold), so
nothing is predicted here. For a train that goes to an intermediate stop next, the stop takes the place of its target.

Nodes are stored in preorder: the root, then the subtrees left, forward, right and back. Missing nodes are -inf in
all their values, missing values of a node are +inf.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import (
    COLUMN_STEP,
    DIAMOND_CROSSING,
    ROW_STEP,
    count_exits,
    count_transitions,
    exits_of,
    first_exit,
    has_exit,
    is_inside,
)
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import (
    DENOMINATOR,
    DIRECTION,
    INITIAL_COLUMN,
    INITIAL_ROW,
    MALFUNCTION_COUNTER,
    MALFUNCTION_OFF_MAP,
    NEXT_MAP,
    SPEED,
    STATE,
    TARGET_COLUMN,
    TARGET_ROW,
    StateArrays,
    configuration_of,
)
from utils.system.compiled import compiled, compiled_helper

# Values of a node, in the order of flatland's Node. Distances are in cells from the observing train.
(
    OWN_TARGET,
    OTHER_TARGET,
    OTHER_TRAIN,
    POTENTIAL_CONFLICT,  # always infinite
    UNUSABLE_SWITCH,
    NEXT_BRANCH,
    TO_TARGET,  # from the end of the branch
    SAME_DIRECTION,  # trains
    OPPOSITE_DIRECTION,  # trains
    LONGEST_MALFUNCTION,  # steps
    SLOWEST_SPEED,  # of the trains in the same direction, cells a step
    READY_TRAINS,  # trains that will depart from cells where another train is
    N_NODE_VALUES,
) = range(13)

BRANCHES = ("left", "forward", "right", "back")

# How a branch ends: at a switch and in a dead end the tree goes on, elsewhere it does not.
_SWITCH, _DEAD_END, _CLOSED = range(3)

# Columns of ``TreeScratch.stack``: where a branch begins, and which node it fills.
_NODE, _ROW, _COLUMN, _DIRECTION, _DISTANCE, _DEPTH, _N_STACK_COLUMNS = range(7)


@compiled
def count_nodes(max_depth: int) -> int:
    """Nodes of a full tree: 1, 5, 21, 85 at depth 0, 1, 2, 3; 0 below depth 0."""
    return ((1 << 2 * (max_depth + 1)) - 1) // 3 if max_depth >= 0 else 0


class TreeScratch(NamedTuple):
    """Memory that the compiled functions use again and again, for one size of grid and one depth."""

    waiting: NDArray[np.int32]  # [cells], trains that will depart from a cell; all zero between calls
    visited: NDArray[np.int64]  # [cells x 4], the number of the last branch that came through a cell in a direction
    n_branches: NDArray[np.int64]  # [1], the branches explored so far; their numbers make clearing ``visited`` needless
    stack: NDArray[np.int64]  # [branches, _N_STACK_COLUMNS], the branches still to explore

    @classmethod
    def for_state(cls, state: RailState, max_depth: int) -> "TreeScratch":
        """New memory, of the size that the level needs."""
        return cls(
            waiting=np.zeros(state.grid.size, dtype=np.int32),
            visited=np.zeros(4 * state.grid.size, dtype=np.int64),
            n_branches=np.zeros(1, dtype=np.int64),
            stack=np.empty((3 * max_depth + 4, _N_STACK_COLUMNS), dtype=np.int64),
        )


@compiled_helper
def mark_waiting_trains(waiting: np.ndarray, width: int, constants: np.ndarray, dynamic: np.ndarray, sign: int) -> None:
    """Count (sign 1) or uncount (sign -1) the trains off the map at the cells where they will start."""
    for handle in range(dynamic.shape[1]):
        if dynamic[STATE, handle] <= MALFUNCTION_OFF_MAP:
            waiting[constants[INITIAL_ROW, handle] * width + constants[INITIAL_COLUMN, handle]] += sign


@compiled_helper
def _look_at_train(
    other: int, direction: int, distance: int, constants: np.ndarray, dynamic: np.ndarray, node: np.ndarray
) -> None:
    """Enter a train met on a branch, ``distance`` cells away, into the branch's node."""
    node[OTHER_TRAIN] = min(node[OTHER_TRAIN], distance)
    node[LONGEST_MALFUNCTION] = max(node[LONGEST_MALFUNCTION], float(dynamic[MALFUNCTION_COUNTER, other]))
    if dynamic[DIRECTION, other] == direction:
        node[SAME_DIRECTION] += 1
        node[SLOWEST_SPEED] = min(node[SLOWEST_SPEED], dynamic[SPEED, other] / constants[DENOMINATOR, other])
    else:
        node[OPPOSITE_DIRECTION] += 1


@compiled_helper
def _walk_branch(
    handle: int, branch: np.ndarray, arrays: StateArrays, scratch: TreeScratch, node: np.ndarray
) -> tuple[int, int, int, int, int]:
    """Walk along the track to the end of a ``branch``, int64 [_N_STACK_COLUMNS], and fill its node.

    Returns how the branch ends, and row, column, direction and distance there. flatland looks for trains and
    targets before it asks whether it has been in the cell before: a cell met twice counts twice, then ends the
    branch. The own target ends a branch before a switch does.
    """
    grid, constants, occupant, visited = arrays.grid, arrays.constants, arrays.occupant, scratch.visited
    row, column, direction, distance = branch[_ROW], branch[_COLUMN], branch[_DIRECTION], branch[_DISTANCE]
    scratch.n_branches[0] += 1
    branch_number = scratch.n_branches[0]
    height, width = grid.shape
    way_map = arrays.dynamic[NEXT_MAP, handle]
    node[:] = np.inf
    node[SAME_DIRECTION : READY_TRAINS + 1] = 0.0
    node[SLOWEST_SPEED] = 1.0
    end = _CLOSED
    while is_inside(height, width, row, column):
        position = row * width + column
        # On a level-free crossing flatland sees one of the two trains, the one with the higher handle.
        other = max(occupant[2 * position], occupant[2 * position + 1]) - 1
        if other >= 0:
            _look_at_train(other, direction, distance, constants, arrays.dynamic, node)
            node[READY_TRAINS] += scratch.waiting[position]
        if way_map == handle:
            at_own_target = row == constants[TARGET_ROW, handle] and column == constants[TARGET_COLUMN, handle]
        else:
            at_own_target = arrays.maps[way_map, row, column, direction] == 0
        if at_own_target:
            node[OWN_TARGET] = min(node[OWN_TARGET], distance)
        elif arrays.has_target[row, column]:
            node[OTHER_TARGET] = min(node[OTHER_TARGET], distance)
        if visited[position * 4 + direction] == branch_number:
            break
        visited[position * 4 + direction] = branch_number
        if at_own_target:
            node[NEXT_BRANCH] = distance
            node[TO_TARGET] = 0.0
            return end, row, column, direction, distance

        cell = grid[row, column]
        exits = exits_of(cell, direction)
        n_exits = count_exits(exits)
        n_transitions = count_transitions(cell)
        if n_transitions > 2 and n_exits < 2 and cell != DIAMOND_CROSSING:
            node[UNUSABLE_SWITCH] = min(node[UNUSABLE_SWITCH], distance)
        if n_exits == 0:
            break
        if n_exits > 1 or n_transitions == 1:
            node[NEXT_BRANCH] = distance
            end = _SWITCH if n_exits > 1 else _DEAD_END
            break
        direction = first_exit(exits)
        row += ROW_STEP[direction]
        column += COLUMN_STEP[direction]
        distance += 1
    if is_inside(height, width, row, column):
        node[TO_TARGET] = arrays.maps[way_map, row, column, direction]
    return end, row, column, direction, distance


@compiled_helper
def _push_children(
    stack: np.ndarray,
    n_pending: int,
    exits: int,
    parent: int,
    row: int,
    column: int,
    orientation: int,
    distance: int,
    depth: int,
    max_depth: int,
    end: int,
) -> int:
    """Put the branches that leave a node at ``depth`` on the stack; returns how many are pending then."""
    subtree = count_nodes(max_depth - depth - 1)
    for branch in range(4):
        direction = (orientation + branch - 1) % 4
        if end == _DEAD_END:  # the way back is in the forward slot
            direction = (direction + 2) % 4
        if has_exit(exits, direction):
            stack[n_pending, _NODE] = parent + 1 + branch * subtree
            stack[n_pending, _ROW] = row + ROW_STEP[direction]
            stack[n_pending, _COLUMN] = column + COLUMN_STEP[direction]
            stack[n_pending, _DIRECTION] = direction
            stack[n_pending, _DISTANCE] = distance + 1
            stack[n_pending, _DEPTH] = depth + 1
            n_pending += 1
    return n_pending


@compiled_helper
def explore_tree(handle: int, max_depth: int, arrays: StateArrays, scratch: TreeScratch, nodes: np.ndarray) -> None:
    """Fill ``nodes``, float64 [count_nodes(max_depth), N_NODE_VALUES], with the tree of one train.

    ``occupant`` and ``waiting`` hold the trains (``mark_trains``, ``mark_waiting_trains``); for the other scratch
    memory see ``TreeScratch``.
    """
    grid, constants, dynamic, stack = arrays.grid, arrays.constants, arrays.dynamic, scratch.stack
    nodes[:] = -np.inf
    row, column, direction = configuration_of(handle, constants, dynamic)
    root = nodes[0]
    root[:] = 0.0
    root[TO_TARGET] = arrays.maps[dynamic[NEXT_MAP, handle], row, column, direction]
    root[LONGEST_MALFUNCTION] = dynamic[MALFUNCTION_COUNTER, handle]
    root[SLOWEST_SPEED] = dynamic[SPEED, handle] / constants[DENOMINATOR, handle]
    exits = exits_of(grid[row, column], direction)
    # Only the root turns its forward branch towards a single way out; it knows no dead ends.
    orientation = first_exit(exits) if count_exits(exits) == 1 else direction
    n_pending = 0
    if max_depth > 0:
        n_pending = _push_children(stack, 0, exits, 0, row, column, orientation, 0, 0, max_depth, _SWITCH)
    while n_pending > 0:
        n_pending -= 1
        index, depth = stack[n_pending, _NODE], stack[n_pending, _DEPTH]
        end, end_row, end_column, end_direction, distance = _walk_branch(
            handle, stack[n_pending], arrays, scratch, nodes[index]
        )
        if end != _CLOSED and depth < max_depth:
            exits = exits_of(grid[end_row, end_column], end_direction)
            n_pending = _push_children(
                stack, n_pending, exits, index, end_row, end_column, end_direction, distance, depth, max_depth, end
            )
