"""Keeps trains from moves that could end in a deadlock. Compiled, over ``RailState``.

A move is *safe* if afterwards all trains on the map can still leave it one after the other (``exit_order``). Trains
that only make safe moves never come to a deadlock; rule-based dispatchers such as flatland's deadlock avoidance
heuristic are after the same, but ask for more than is needed: that each train has enough free cells on its shortest
path before each train that comes the other way.

Moves are made at the same time, and two of them that are safe alone may be unsafe together. So there are two steps:
``restrict`` takes unsafe moves out of the action mask, and ``settle`` goes through the chosen actions one after the
other and makes trains wait whose move is not safe any more after those before it.
"""

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from utils.compiled import compiled
from utils.exit_order import ExitOrder, follow_trains, is_safe_after
from utils.rail_grid import DO_NOTHING, MOVE_LEFT, MOVE_RIGHT, STOP_MOVING, possible_move, resource_of
from utils.rail_state import (
    DENOMINATOR,
    DIRECTION,
    DISTANCE_IN_CELL,
    MALFUNCTION,
    MALFUNCTION_COUNTER,
    MAX_SPEED,
    MOVING,
    READY_TO_DEPART,
    STATE,
    RailState,
    configuration_of,
    travel_time_of,
)

# What ``safe`` holds for a move.
NO_CHOICE, SAFE, UNSAFE = 0, 1, -1


@compiled
def can_move_on(handle: int, constants: np.ndarray, dynamic: np.ndarray) -> bool:
    """Whether a train can come to another cell, or onto the map, in the next step."""
    state = dynamic[STATE, handle]
    if dynamic[MALFUNCTION_COUNTER, handle] > 0:
        return False
    at_end = dynamic[DISTANCE_IN_CELL, handle] + constants[MAX_SPEED, handle] >= constants[DENOMINATOR, handle]
    return state == READY_TO_DEPART or (MOVING <= state <= MALFUNCTION and at_end)


@compiled
def can_follow(
    other: int, row: int, column: int, next_row: int, next_column: int, grid: np.ndarray, dynamic: np.ndarray
) -> bool:
    """Whether the train in the next cell may make room: it is not broken, and does not come the other way."""
    if dynamic[MALFUNCTION_COUNTER, other] > 0:
        return False
    direction = int(dynamic[DIRECTION, other])
    n_ways = 0
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
        other_row, other_column, _ = possible_move(grid, next_row, next_column, direction, action)
        if other_row >= 0 and (other_row != row or other_column != column):
            n_ways += 1
    return n_ways > 0


@compiled
def _judge_moves(
    handle: int, constants: np.ndarray, dynamic: np.ndarray, mask: np.ndarray, safe: np.ndarray, exits: ExitOrder
) -> None:
    """Fill ``safe``, int8 [3], for the left, forward and right of a train that can move on."""
    grid, ways = exits.ways.grid, exits.ways
    row, column, direction = configuration_of(handle, constants, dynamic)
    departs = dynamic[STATE, handle] == READY_TO_DEPART
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
        if not mask[action]:
            continue
        # any move makes a train off the map enter at its first cell
        to_row, to_column, to_direction = row, column, direction
        if not departs:
            to_row, to_column, to_direction = possible_move(grid, row, column, direction, action)
            if to_row < 0:
                continue
        other = ways.occupant[resource_of(ways.level_free, to_row, to_column, to_direction)] - 1
        if other < 0:
            is_safe = is_safe_after(handle, to_row, to_column, to_direction, False, exits)
        else:
            is_safe = not departs and can_follow(other, row, column, to_row, to_column, grid, dynamic)
        safe[action - MOVE_LEFT] = SAFE if is_safe else UNSAFE


@compiled
def _restrict(
    enabled: bool, constants: np.ndarray, dynamic: np.ndarray, exits: ExitOrder, mask: np.ndarray, safe: np.ndarray
) -> None:
    safe[:] = NO_CHOICE
    follow_trains(dynamic, exits)
    for handle in range(mask.shape[0]):
        if not can_move_on(handle, constants, dynamic):
            continue
        _judge_moves(handle, constants, dynamic, mask[handle], safe[handle], exits)
        if enabled:
            for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
                mask[handle, action] &= safe[handle, action - MOVE_LEFT] != UNSAFE
            if not mask[handle].any():
                mask[handle, STOP_MOVING] = True


@compiled
def waiting_action(handle: int, dynamic: np.ndarray) -> int:
    """The action by which a train stays where it is, off the map or on it."""
    return DO_NOTHING if dynamic[STATE, handle] == READY_TO_DEPART else STOP_MOVING


@compiled
def _settle(constants: np.ndarray, dynamic: np.ndarray, exits: ExitOrder, actions: np.ndarray) -> None:
    ways = exits.ways
    n_trains = actions.shape[0]
    follow_trains(dynamic, exits)
    urgency = np.full(n_trains, np.inf)
    for handle in range(n_trains):
        if MOVE_LEFT <= actions[handle] <= MOVE_RIGHT and can_move_on(handle, constants, dynamic):
            # trains on the map first, among them the one that is soonest at its target
            urgency[handle] = travel_time_of(handle, ways.distance_map, constants, dynamic)
            if dynamic[STATE, handle] == READY_TO_DEPART:
                urgency[handle] += ways.distance_map.size
    order = np.argsort(urgency)
    progress = True
    while progress:  # a train whose next cell is occupied gets another chance when that one has moved
        progress = False
        for handle in order:
            if urgency[handle] == np.inf:
                continue
            row, column, direction = configuration_of(handle, constants, dynamic)
            if dynamic[STATE, handle] != READY_TO_DEPART:
                row, column, direction = possible_move(ways.grid, row, column, direction, actions[handle])
                if row < 0:
                    continue
            if ways.occupant[resource_of(ways.level_free, row, column, direction)] > 0:
                continue
            progress = True
            urgency[handle] = np.inf
            if not is_safe_after(handle, row, column, direction, True, exits):
                actions[handle] = waiting_action(handle, dynamic)
    for handle in range(n_trains):
        if urgency[handle] != np.inf:
            actions[handle] = waiting_action(handle, dynamic)


class SafeMoves:
    """The two steps. What they know about a level is kept until its ``RailState`` is gone; not to be shared by threads.

    Args:
        enabled: False judges moves, but neither restricts nor settles any.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._exits: WeakKeyDictionary[RailState, ExitOrder] = WeakKeyDictionary()

    def _known(self, state: RailState) -> ExitOrder:
        exits = self._exits.get(state)
        if exits is None:
            exits = self._exits[state] = ExitOrder.for_state(state)
        return exits

    def restrict(self, state: RailState, mask: NDArray[np.bool_]) -> NDArray[np.int8]:
        """Takes the unsafe moves out of ``mask``, bool [trains, 5]; something to do is left for every train.

        Returns:
            int8 [trains, 3]: for left, forward and right ``SAFE``, ``UNSAFE``, or ``NO_CHOICE`` where a train
            cannot go now.
        """
        safe = np.empty((state.n_trains, 3), dtype=np.int8)
        _restrict(self.enabled, state.constants, state.dynamic, self._known(state), mask, safe)
        return safe

    def settle(self, state: RailState, actions: NDArray[np.int64]) -> None:
        """Makes trains wait, in ``actions``, int64 [trains], whose moves are not safe together with the others'.

        The trains on the map come first, among them the one that is soonest at its target.
        """
        if self.enabled:
            _settle(state.constants, state.dynamic, self._known(state), actions)
