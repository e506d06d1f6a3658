"""One step of all trains, compiled: what ``RailEnv.step`` of flatland-rl does, over the tables of ``RailState``.

The steps of a step are flatland's. First every train plans: its speed, and the configuration it would come to if it
were alone. Then the plans that exclude each other are sorted out. Then every train goes through its state machine
and moves, and its reward falls due. The functions take scalars where they are called for each train, because numba
counts references whenever an array is handed over.

Sources, all in flatland-rl: ``envs/rail_env.py`` (``step``), ``envs/step_utils/state_machine.py``,
``envs/agent_chains.py`` (``MotionCheck``).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import (
    COLUMN_STEP,
    DO_NOTHING,
    MOVE_FORWARD,
    MOVE_LEFT,
    MOVE_RIGHT,
    ROW_STEP,
    STOP_MOVING,
    count_exits,
    exits_of,
    first_exit,
    has_exit,
    is_inside,
    resource_of,
)
from utils.simulator.rail_rewards import COLLISION_FACTOR
from utils.simulator.state_arrays import (
    ARRIVAL_TIME,
    ARRIVED_COLUMN,
    ARRIVED_DIRECTION,
    ARRIVED_ROW,
    COLUMN,
    DENOMINATOR,
    DIRECTION,
    DISTANCE_IN_CELL,
    DONE,
    EARLIEST_DEPARTURE,
    LATEST_ARRIVAL,
    MALFUNCTION,
    MALFUNCTION_COUNTER,
    MALFUNCTION_OFF_MAP,
    MAX_SPEED,
    MOVING,
    N_MALFUNCTIONS,
    PREVIOUS_STATE,
    READY_TO_DEPART,
    ROW,
    SPEED,
    STATE,
    STOPPED,
    TARGET_COLUMN,
    TARGET_DIRECTIONS,
    TARGET_ROW,
    WAITING,
    StateArrays,
    configuration_of,
)
from utils.system.compiled import Arrays, compiled, compiled_helper

# Rows of ``plans``, int32 [N_PLANS, trains]: what the simulation needs of a train beyond ``RailState``.
(
    # Constants.
    ACCELERATION,  # what a step can change the speed by, in units of 1/denominator of a cell a step
    BRAKING,  # the same, negative
    # Scratch memory of a step.
    ACTION,  # DO_NOTHING for what is no action, as in flatland
    ACTION_VALID,  # 1 if the action leads somewhere
    OLD_SPEED,  # in units of 1/denominator
    NEW_SPEED,
    NEW_ROW,  # the configuration that the train comes to if nobody hinders it
    NEW_COLUMN,
    NEW_DIRECTION,
    HELD,  # the resource that the train occupies, -1 for none
    WANTED,  # the resource that it wants to occupy next, often the same
    STAYS,  # 1 if it keeps what it holds, by its own will or because another is in the way
    N_PLANS,
) = range(13)

# Columns of ``claims``.
HOLDER, WINNER, N_CLAIMS = range(3)


class StepArrays(NamedTuple):
    """What a step works with, beyond the arrays of a ``RailState``."""

    plans: NDArray[np.int32]  # [N_PLANS, trains], see above
    # [2 x cells, 2], for each resource its holder and who gets it next, as handle + 1; all zero between steps
    claims: NDArray[np.int32]
    weights: NDArray[np.float64]  # see ``rail_rewards``
    rewards: NDArray[np.float64]  # [trains], those of the last step


@compiled_helper
def _is_move(action: int) -> bool:
    return MOVE_LEFT <= action <= MOVE_RIGHT


@compiled_helper
def _is_on_map(state: int) -> bool:
    return MOVING <= state <= MALFUNCTION


@compiled_helper
def _way_out(exits: int, direction: int, action: int) -> int:
    """The direction in which a train leaves its cell, -1 if the action is not valid there.

    As ``RailGridTransitionMap._check_action_new``: the only exit is taken whatever the action, and a left or right
    that is not there becomes a forward.
    """
    if count_exits(exits) == 1:
        return first_exit(exits)
    if action in (MOVE_LEFT, MOVE_RIGHT):
        turned = (direction + action - MOVE_FORWARD) % 4
        if has_exit(exits, turned):
            return turned
    return direction if has_exit(exits, direction) else -1


@compiled_helper
def _speed_after(
    speed: int, max_speed: int, acceleration: int, braking: int, state: int, action: int, straight: bool
) -> int:
    """The speed that a valid action leads to; turns do not accelerate a train that is running."""
    starts = _is_move(action) and state in (STOPPED, MALFUNCTION)
    if starts or (action == MOVE_FORWARD and straight):
        speed += acceleration
    elif action == STOP_MOVING:
        speed += braking
    return max(0, min(max_speed, speed))


@compiled_helper
def _wants_to_move(state: int, action: int, valid: bool, new_speed: int) -> bool:
    """Whether a train on the map that is not broken can be MOVING next, as far as it depends on itself."""
    if state == MOVING:
        return new_speed > 0 or (valid and action != STOP_MOVING)
    return valid and _is_move(action)


@compiled_helper
def _enters_map(state: int, action: int, valid: bool, broken: bool, may_depart: bool) -> bool:
    """Whether a train off the map wants to its initial cell."""
    if state == READY_TO_DEPART:
        return valid and _is_move(action)
    if state == MALFUNCTION_OFF_MAP:
        return valid and not broken and may_depart and (_is_move(action) or action == STOP_MOVING)
    return False


@compiled_helper
def _next_state(state: int, action: int, broken: bool, may_depart: bool, allowed: bool, new_speed: int) -> int:
    """flatland's state machine, but for the arrival; ``allowed``: the action is valid and nobody is in the way."""
    starts = _is_move(action) and allowed
    if state == DONE:
        return DONE
    if broken:
        return MALFUNCTION if _is_on_map(state) else MALFUNCTION_OFF_MAP
    if state == WAITING:
        return READY_TO_DEPART if may_depart else WAITING
    if state == READY_TO_DEPART:
        return MOVING if starts else READY_TO_DEPART
    if state == MALFUNCTION_OFF_MAP:
        if not may_depart:
            return WAITING
        if starts:
            return MOVING
        return STOPPED if action == STOP_MOVING and allowed else READY_TO_DEPART
    if state == MOVING:
        return STOPPED if not allowed or (action == STOP_MOVING and new_speed == 0) else MOVING
    return MOVING if starts else STOPPED


@compiled_helper
def _begin_malfunctions(durations: np.ndarray, dynamic: np.ndarray) -> None:
    """``durations``: int32 [trains], those of the malfunctions that begin in this step, 0 for none."""
    for handle in range(durations.shape[0]):
        if durations[handle] > 0 and dynamic[MALFUNCTION_COUNTER, handle] == 0:
            dynamic[MALFUNCTION_COUNTER, handle] = durations[handle]
            dynamic[N_MALFUNCTIONS, handle] += 1


@compiled_helper
def _make_plans(arrays: StateArrays, plans: np.ndarray, actions: np.ndarray, elapsed_steps: int) -> None:
    """Fill ``plans`` with what each train would do if it were alone."""
    grid, constants, dynamic = arrays.grid, arrays.constants, arrays.dynamic
    height, width = grid.shape
    for handle in range(plans.shape[1]):
        state = dynamic[STATE, handle]
        plans[HELD, handle] = plans[WANTED, handle] = -1
        plans[STAYS, handle] = 1
        if state in (WAITING, DONE):
            continue
        action = actions[handle]
        if not DO_NOTHING <= action <= STOP_MOVING:
            action = DO_NOTHING
        on_map = _is_on_map(state)
        row, column, direction = configuration_of(handle, constants, dynamic)
        speed, new_speed = dynamic[SPEED, handle], 0
        new_row, new_column = row, column
        new_direction = _way_out(exits_of(grid[row, column], direction), direction, action)
        valid = new_direction >= 0
        if valid:
            new_row += ROW_STEP[new_direction]
            new_column += COLUMN_STEP[new_direction]
            valid = is_inside(height, width, new_row, new_column)
            valid = valid and exits_of(grid[new_row, new_column], new_direction) != 0
        if valid:
            new_speed = _speed_after(
                speed,
                constants[MAX_SPEED, handle],
                plans[ACCELERATION, handle],
                plans[BRAKING, handle],
                state,
                action,
                new_direction % 2 == direction % 2,
            )

        broken = dynamic[MALFUNCTION_COUNTER, handle] > 0
        may_depart = constants[EARLIEST_DEPARTURE, handle] <= elapsed_steps
        leaves_cell = dynamic[DISTANCE_IN_CELL, handle] + new_speed >= constants[DENOMINATOR, handle]
        if not on_map or broken or not leaves_cell or not _wants_to_move(state, action, valid, new_speed):
            new_row, new_column, new_direction = row, column, direction
        if on_map:
            plans[HELD, handle] = resource_of(arrays.level_free, row, column, direction)
        if on_map or _enters_map(state, action, valid, broken, may_depart):
            plans[WANTED, handle] = resource_of(arrays.level_free, new_row, new_column, new_direction)
        plans[STAYS, handle] = plans[HELD, handle] == plans[WANTED, handle]
        plans[ACTION, handle] = action
        plans[ACTION_VALID, handle] = valid
        plans[OLD_SPEED, handle] = speed
        plans[NEW_SPEED, handle] = new_speed
        plans[NEW_ROW, handle] = new_row
        plans[NEW_COLUMN, handle] = new_column
        plans[NEW_DIRECTION, handle] = new_direction


@compiled_helper
def _resolve_conflicts(plans: np.ndarray, claims: np.ndarray) -> None:
    """Mark the trains that cannot have the resource they want as staying.

    flatland's ``MotionCheck`` goes through a list of conflicts; this is what remains when the list is empty: of the
    trains that want a resource the one with the lowest handle may have it, two trains never swap, and who wants the
    resource of a train that stays, stays. The trains of a longer ring can all move.
    """
    n_trains = plans.shape[1]
    for handle in range(n_trains):
        held, wanted = plans[HELD, handle], plans[WANTED, handle]
        if held >= 0:
            claims[held, HOLDER] = handle + 1
        if not plans[STAYS, handle] and claims[wanted, WINNER] == 0:
            claims[wanted, WINNER] = handle + 1
    for handle in range(n_trains):
        if not plans[STAYS, handle]:
            wanted = plans[WANTED, handle]
            other = claims[wanted, HOLDER] - 1
            swaps = other >= 0 and other != handle and plans[WANTED, other] == plans[HELD, handle]
            plans[STAYS, handle] = swaps or claims[wanted, WINNER] != handle + 1
    changed = True
    while changed:
        changed = False
        for handle in range(n_trains):
            if not plans[STAYS, handle]:
                other = claims[plans[WANTED, handle], HOLDER] - 1
                if other >= 0 and other != handle and plans[STAYS, other]:
                    plans[STAYS, handle] = True
                    changed = True
    for handle in range(n_trains):
        if plans[HELD, handle] >= 0:
            claims[plans[HELD, handle], HOLDER] = 0
        if plans[WANTED, handle] >= 0:
            claims[plans[WANTED, handle], WINNER] = 0


@compiled_helper
def _move_trains(constants: np.ndarray, dynamic: np.ndarray, plans: np.ndarray, elapsed_steps: int) -> bool:
    """States, configurations, speeds and arrivals; returns whether all trains have arrived."""
    all_arrived = True
    for handle in range(plans.shape[1]):
        state = dynamic[STATE, handle]
        broken = dynamic[MALFUNCTION_COUNTER, handle] > 0
        if broken:
            dynamic[MALFUNCTION_COUNTER, handle] -= 1
        if state == DONE:
            dynamic[PREVIOUS_STATE, handle] = DONE
            continue
        denominator, new_speed = constants[DENOMINATOR, handle], plans[NEW_SPEED, handle]
        new_distance = dynamic[DISTANCE_IN_CELL, handle] + new_speed
        inside_cell = _is_on_map(state) and new_distance < denominator
        next_state = _next_state(
            state,
            plans[ACTION, handle],
            broken,
            constants[EARLIEST_DEPARTURE, handle] <= elapsed_steps,
            plans[ACTION_VALID, handle] == 1 and (inside_cell or plans[STAYS, handle] == 0),
            new_speed,
        )
        row, column, direction = plans[NEW_ROW, handle], plans[NEW_COLUMN, handle], plans[NEW_DIRECTION, handle]
        if next_state == MOVING or (next_state == STOPPED and state == MALFUNCTION_OFF_MAP):
            dynamic[ROW, handle] = row
            dynamic[COLUMN, handle] = column
            dynamic[DIRECTION, handle] = direction
        if next_state == MOVING:
            if _is_on_map(state):  # a train that enters the map does not run in that step
                dynamic[SPEED, handle] = new_speed
                dynamic[DISTANCE_IN_CELL, handle] = new_distance if inside_cell else new_distance - denominator
            if (
                row == constants[TARGET_ROW, handle]
                and column == constants[TARGET_COLUMN, handle]
                and has_exit(constants[TARGET_DIRECTIONS, handle], direction)
            ):
                state, next_state = MOVING, DONE
                dynamic[ARRIVAL_TIME, handle] = elapsed_steps
                dynamic[ARRIVED_ROW, handle] = row
                dynamic[ARRIVED_COLUMN, handle] = column
                dynamic[ARRIVED_DIRECTION, handle] = direction
                dynamic[ROW, handle] = dynamic[COLUMN, handle] = dynamic[DIRECTION, handle] = -1
        elif next_state in (STOPPED, MALFUNCTION):
            dynamic[SPEED, handle] = 0
        dynamic[STATE, handle] = next_state
        dynamic[PREVIOUS_STATE, handle] = state
        all_arrived = all_arrived and next_state == DONE
    return all_arrived


@compiled_helper
def _fill_rewards(constants: np.ndarray, dynamic: np.ndarray, step: StepArrays, elapsed_steps: int) -> None:
    """The rewards of a step, without stops and what falls due at the end of the episode."""
    plans, weights, rewards = step.plans, step.weights, step.rewards
    for handle in range(rewards.shape[0]):
        rewards[handle] = 0.0
        state, previous_state = dynamic[STATE, handle], dynamic[PREVIOUS_STATE, handle]
        if state == DONE and previous_state != DONE:
            rewards[handle] = float(min(constants[LATEST_ARRIVAL, handle] - elapsed_steps, 0))
        elif state == STOPPED and previous_state == MOVING:
            brakes = plans[ACTION, handle] == STOP_MOVING and plans[NEW_SPEED, handle] == 0
            if not (brakes and plans[ACTION_VALID, handle] == 1):
                # Whoever does not come to a standstill by its own will has collided with something.
                rewards[handle] = -plans[OLD_SPEED, handle] / constants[DENOMINATOR, handle] * weights[COLLISION_FACTOR]


@compiled
def step_trains(
    state_arrays: Arrays, step_arrays: Arrays, malfunctions: np.ndarray, actions: np.ndarray, elapsed_steps: int
) -> bool:
    """One step of all trains, in place; returns whether the episode is over.

    Then, or where trains have stops, ``rail_rewards.reward_stops_and_end`` is due.

    Args:
        malfunctions: int32 [max_episode_steps, trains], how many steps the malfunction lasts that begins in a step;
            0 for none.
        actions: int64 [trains].
        elapsed_steps: this step's number, from 1 on.
    """
    arrays, step = StateArrays(*state_arrays), StepArrays(*step_arrays)
    _begin_malfunctions(malfunctions[elapsed_steps - 1], arrays.dynamic)
    _make_plans(arrays, step.plans, actions, elapsed_steps)
    _resolve_conflicts(step.plans, step.claims)
    all_arrived = _move_trains(arrays.constants, arrays.dynamic, step.plans, elapsed_steps)
    _fill_rewards(arrays.constants, arrays.dynamic, step, elapsed_steps)
    return all_arrived or elapsed_steps == malfunctions.shape[0]
