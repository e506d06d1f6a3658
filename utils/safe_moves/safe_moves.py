"""Keeps trains from moves that could end in a deadlock. Compiled, over ``RailState``.

A move is *safe* if afterwards all trains on the map can still leave it one after the other (``exit_order``). Trains
that only make safe moves never come to a deadlock; rule-based dispatchers such as flatland's deadlock avoidance
heuristic are after the same, but ask for more than is needed: that each train has enough free cells on its shortest
path before each train that comes the other way.

A train leaves by any way to its target, past its intermediate stops too: a train on its way to a stop can then leave
the map afterwards, whether or not it has served it. What it prefers among the safe moves leads to its next stop.

Moves are made at the same time, and two of them that are safe alone may be unsafe together. So there are two steps:
``restrict`` takes unsafe moves out of the action mask, and ``settle`` goes through the chosen actions one after the
other and makes trains wait whose move is not safe any more after those before it.
"""

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from utils.safe_moves.exit_order import follow_trains, is_arrived_at, make_move
from utils.safe_moves.exit_tables import N_STUCK, UNSAFE, ExitTables, holder_of, key_of
from utils.safe_moves.move_judgement import judge_move
from utils.safe_moves.train_sets import lowest_first
from utils.simulator.action_mask import count_allowed
from utils.simulator.rail_grid import DO_NOTHING, MOVE_LEFT, MOVE_RIGHT, STOP_MOVING, possible_move
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import (
    COLUMN,
    DENOMINATOR,
    DIRECTION,
    DISTANCE_IN_CELL,
    MALFUNCTION,
    MALFUNCTION_COUNTER,
    MAX_SPEED,
    MOVING,
    READY_TO_DEPART,
    ROW,
    STATE,
    configuration_of,
    travel_time_of,
)
from utils.system.compiled import Arrays, compiled, compiled_helper

# What ``safe`` holds for a move.
NO_MOVE, SAFE_MOVE, UNSAFE_MOVE = 0, 1, -1


@compiled_helper
def can_move_on(handle: int, constants: np.ndarray, dynamic: np.ndarray) -> bool:
    """Whether a train can come to another cell, or onto the map, in the next step."""
    state = dynamic[STATE, handle]
    if dynamic[MALFUNCTION_COUNTER, handle] > 0:
        return False
    at_end = dynamic[DISTANCE_IN_CELL, handle] + constants[MAX_SPEED, handle] >= constants[DENOMINATOR, handle]
    return state == READY_TO_DEPART or (MOVING <= state <= MALFUNCTION and at_end)


@compiled_helper
def can_follow(handle: int, other: int, row: int, column: int, grid: np.ndarray, dynamic: np.ndarray) -> bool:
    """Whether a train on the map may follow the one in its next cell.

    That one may make room: it is not broken, and does not come the other way.
    """
    if dynamic[ROW, handle] < 0 or dynamic[MALFUNCTION_COUNTER, other] > 0:
        return False
    direction = dynamic[DIRECTION, other]
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
        to_row, to_column, _ = possible_move(grid, row, column, direction, action)
        if to_row >= 0 and (to_row != dynamic[ROW, handle] or to_column != dynamic[COLUMN, handle]):
            return True
    return False


@compiled_helper
def _next_configuration(
    handle: int, action: int, grid: np.ndarray, constants: np.ndarray, dynamic: np.ndarray
) -> tuple[int, int, int]:
    """Where a move leads that a train may make now; three times -1 if nowhere."""
    row, column, direction = configuration_of(handle, constants, dynamic)
    if dynamic[STATE, handle] == READY_TO_DEPART:  # any move makes it enter at its first cell
        return row, column, direction
    return possible_move(grid, row, column, direction, action)


@compiled
def _restrict(
    grid: np.ndarray, constants: np.ndarray, dynamic: np.ndarray, tables: Arrays, mask: np.ndarray, safe: np.ndarray
) -> None:
    exits = ExitTables(*tables)
    for handle in range(mask.shape[0]):
        safe[handle] = NO_MOVE
        if not can_move_on(handle, constants, dynamic):
            continue
        for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
            row, column, direction = _next_configuration(handle, action, grid, constants, dynamic)
            if row < 0 or not mask[handle, action]:
                continue
            other = holder_of(key_of(exits.cells, row, column, direction), exits.occupant, exits.places)
            if other < 0:
                is_safe = judge_move(handle, row, column, direction, exits) != UNSAFE
            else:
                is_safe = can_follow(handle, other, row, column, grid, dynamic)
            safe[handle, action - MOVE_LEFT] = SAFE_MOVE if is_safe else UNSAFE_MOVE
            mask[handle, action] = is_safe
        if count_allowed(mask[handle]) == 0:
            mask[handle, STOP_MOVING] = True


@compiled_helper
def waiting_action(handle: int, dynamic: np.ndarray) -> int:
    """The action by which a train stays where it is, off the map or on it."""
    return DO_NOTHING if dynamic[STATE, handle] == READY_TO_DEPART else STOP_MOVING


@compiled_helper
def _fill_urgency(
    maps: np.ndarray, constants: np.ndarray, dynamic: np.ndarray, actions: np.ndarray, urgency: np.ndarray
) -> None:
    """Trains on the map first, among them the one that is soonest at its target; inf for those that do not move."""
    for handle in range(actions.shape[0]):
        urgency[handle] = np.inf
        if MOVE_LEFT <= actions[handle] <= MOVE_RIGHT and can_move_on(handle, constants, dynamic):
            urgency[handle] = travel_time_of(handle, maps, constants, dynamic)
            if dynamic[STATE, handle] == READY_TO_DEPART:
                urgency[handle] += maps.size


@compiled
def _settle(grid: np.ndarray, constants: np.ndarray, dynamic: np.ndarray, tables: Arrays, actions: np.ndarray) -> None:
    exits = ExitTables(*tables)
    urgency = np.empty(actions.shape[0], dtype=np.float64)
    _fill_urgency(exits.maps, constants, dynamic, actions, urgency)
    order = lowest_first(urgency)
    progress = True
    while progress:  # a train whose next cell is occupied gets another chance when that one has moved
        progress = False
        for handle in order:
            if urgency[handle] == np.inf:
                continue
            row, column, direction = _next_configuration(handle, actions[handle], grid, constants, dynamic)
            key = key_of(exits.cells, row, column, direction)
            if row < 0 or holder_of(key, exits.occupant, exits.places) >= 0 or is_arrived_at(key, exits):
                continue
            progress = True
            urgency[handle] = np.inf
            outcome = judge_move(handle, row, column, direction, exits)
            if outcome == UNSAFE:
                actions[handle] = waiting_action(handle, dynamic)
            else:
                make_move(handle, key, outcome, exits)
    for handle in range(actions.shape[0]):
        if urgency[handle] != np.inf:
            actions[handle] = waiting_action(handle, dynamic)


class SafeMoves:
    """The two steps. What they know about a level is kept until its ``RailState`` is gone; not to be shared by threads.

    Args:
        enabled: False judges moves, but neither restricts nor settles any.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._exits: WeakKeyDictionary[RailState, Arrays] = WeakKeyDictionary()

    def _known(self, state: RailState) -> Arrays:
        exits = self._exits.get(state)
        if exits is None:
            exits = self._exits[state] = tuple(ExitTables.for_state(state))
        return exits

    def restrict(self, state: RailState, mask: NDArray[np.bool_]) -> NDArray[np.int8]:
        """Takes the unsafe moves out of ``mask``, bool [trains, 5]; something to do is left for every train.

        Returns:
            int8 [trains, 3]: for left, forward and right ``SAFE_MOVE``, ``UNSAFE_MOVE``, or ``NO_MOVE`` where a train
            cannot go now.
        """
        safe = np.empty((state.n_trains, 3), dtype=np.int8)
        exits = self._known(state)
        follow_trains(state.dynamic, exits)
        _restrict(state.grid, state.constants, state.dynamic, exits, mask if self.enabled else mask.copy(), safe)
        return safe

    def all_can_leave(self, state: RailState) -> bool:
        """Whether all trains on the map could leave it one after the other; ``state`` is the one seen last."""
        return bool(ExitTables(*self._known(state)).counts[N_STUCK] == 0)

    def settle(self, state: RailState, actions: NDArray[np.int64]) -> None:
        """Makes trains wait, in ``actions``, int64 [trains], whose moves are not safe together with the others'.

        The trains on the map come first, among them the one that is soonest at its target.
        """
        if self.enabled:
            exits = self._known(state)
            follow_trains(state.dynamic, exits)
            _settle(state.grid, state.constants, state.dynamic, exits, actions)
