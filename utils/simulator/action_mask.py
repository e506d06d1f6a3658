"""Which actions make sense for each train, compiled, over ``RailState``.

A train *decides* in a step if and only if its mask allows more than one action. Where a train does not decide, the
one action that is left is the one that keeps it going.
"""

import numpy as np

from utils.simulator.rail_grid import (
    DO_NOTHING,
    MOVE_FORWARD,
    MOVE_LEFT,
    MOVE_RIGHT,
    N_ACTIONS,
    STOP_MOVING,
    first_possible_move,
    possible_move,
)
from utils.simulator.state_arrays import (
    DENOMINATOR,
    DISTANCE_IN_CELL,
    DONE,
    HALTS,
    MALFUNCTION_COUNTER,
    MALFUNCTION_OFF_MAP,
    MAX_SPEED,
    MOVING,
    READY_TO_DEPART,
    SPEED,
    STATE,
    WAITING,
    configuration_of,
)
from utils.system.compiled import compiled, compiled_helper

DECISION_POINTS = ("every_cell", "switches")
DEFAULT_DECISION_POINTS = "every_cell"

NOTHING_TO_DECIDE = np.arange(N_ACTIONS) == DO_NOTHING
"""The mask, bool [5], of a train that has no choice."""


def stops_everywhere(decision_points: str) -> bool:
    """Whether trains may stop in every cell; a check of the option's value, too.

    Raises:
        ValueError: ``decision_points`` is not one of ``DECISION_POINTS``.
    """
    if decision_points not in DECISION_POINTS:
        raise ValueError(f"decision_points is {decision_points!r}; it must be one of {', '.join(DECISION_POINTS)}")
    return decision_points == "every_cell"


@compiled_helper
def _action_inside_cell(at_full_speed: bool, row: int, column: int, direction: int, grid: np.ndarray) -> int:
    """The action that keeps a train going until it comes to the end of its cell.

    A train that was stopped inside its cell, say by a malfunction, would do nothing for ever; it must be given a
    move. Which one does not matter before the cell's end, but it must be possible: at a switch without a way
    straight on, doing nothing and moving forward both stop a train.
    """
    move = first_possible_move(grid, row, column, direction)
    return DO_NOTHING if at_full_speed and move == MOVE_FORWARD else move


@compiled_helper
def count_allowed(mask: np.ndarray) -> int:
    """How many actions a mask, bool [N_ACTIONS], allows; ``mask.sum()`` takes longer to compile."""
    n_allowed = 0
    for action in range(N_ACTIONS):
        n_allowed += mask[action]
    return n_allowed


@compiled_helper
def is_choice(mask: np.ndarray) -> bool:
    """Whether a mask allows more than one action."""
    return count_allowed(mask) > 1


@compiled_helper
def fill_mask_of_train(
    handle: int,
    all_actions: bool,
    stop_everywhere: bool,
    grid: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Fill ``mask``, bool [N_ACTIONS], for one train."""
    mask[:] = False
    state = dynamic[STATE, handle]
    if dynamic[MALFUNCTION_COUNTER, handle] > 0 or state in (WAITING, MALFUNCTION_OFF_MAP, DONE):
        mask[DO_NOTHING] = True
        return
    if dynamic[HALTS, handle] and not all_actions:
        mask[STOP_MOVING] = True
        return
    row, column, direction = configuration_of(handle, constants, dynamic)
    moving = state == MOVING
    max_speed = constants[MAX_SPEED, handle]
    if state == READY_TO_DEPART:
        mask[DO_NOTHING] = True
        mask[first_possible_move(grid, row, column, direction)] = True
    elif dynamic[DISTANCE_IN_CELL, handle] + max_speed < constants[DENOMINATOR, handle]:
        at_full_speed = moving and dynamic[SPEED, handle] == max_speed
        mask[_action_inside_cell(at_full_speed, row, column, direction, grid)] = True
    else:
        for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
            mask[action] = possible_move(grid, row, column, direction, action)[0] >= 0
        # Where the rails end there is no move at all.
        mask[STOP_MOVING] = stop_everywhere or count_allowed(mask) == 0
    if all_actions and is_choice(mask):
        mask[:] = True


@compiled
def fill_masks(
    all_actions: bool,
    stop_everywhere: bool,
    grid: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Fill ``mask``, bool [trains, 5], with the allowed actions, in the order of flatland's ``RailEnvActions``.

    - Off the map a train can only do nothing, until it is ready to depart: then it may depart or wait.
    - In a malfunction, and after arrival, it can only do nothing.
    - At a stop that it goes to it can only stop, until it has served it, and until it may depart if it has the time.
    - At the end of its cell, where flatland's ``action_required`` is true, it may take each way out of the cell
      and may stop. Moves that lead nowhere are never allowed.
    - Inside its cell it has one action, the one that keeps it going.

    Args:
        all_actions: gives trains that decide all five actions, as in kits without a mask.
        stop_everywhere: allows trains to stop in every cell. Otherwise a train on the map has a choice only where there
            are several ways on; it stops only if it must (see ``safe_moves``).
        grid, constants, dynamic: see ``RailState``.
    """
    for handle in range(mask.shape[0]):
        fill_mask_of_train(handle, all_actions, stop_everywhere, grid, constants, dynamic, mask[handle])
