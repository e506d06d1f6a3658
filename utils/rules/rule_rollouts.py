"""Plays a rule from any state of a level to the end, with given malfunctions and with variations. Compiled.

The rule is the one of ``least_detour``: trains go when it is safe, the way with the least detour. Here they choose one
after the other, the most urgent first, so that a train whose best way is taken may still find another one safe. A
planner asks what would come of a state if one train were held back, gave way to the others or avoided a track. Nothing
here touches the level: what is played is a copy of its table ``dynamic``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.rules.route_search import RouteSearch, find_detour
from utils.safe_moves.exit_order import follow_trains, is_arrived_at, make_move
from utils.safe_moves.exit_tables import UNSAFE, ExitTables, holder_of, key_of
from utils.safe_moves.move_judgement import judge_move
from utils.safe_moves.safe_moves import can_follow, can_move_on, waiting_action
from utils.safe_moves.train_sets import lowest_first
from utils.simulator.action_mask import fill_mask_of_train
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_grid import (
    DO_NOTHING,
    MOVE_LEFT,
    MOVE_RIGHT,
    N_ACTIONS,
    STOP_MOVING,
    first_possible_move,
    possible_move,
)
from utils.simulator.rail_state import (
    DONE,
    N_DYNAMIC,
    READY_TO_DEPART,
    STATE,
    RailState,
    StateArrays,
    configuration_of,
    mark_trains,
    travel_time_of,
    unmark_trains,
)
from utils.simulator.rail_step import N_CLAIMS, StepArrays, finish_trains, step_trains
from utils.system.compiled import Arrays, allocating_helper, compiled, compiled_helper

# Rows of a variation, int64 [N_VARIATIONS, trains].
(
    HELD_UNTIL,  # step; before it the train does not enter another cell, nor the map
    HANDICAP,  # steps by which the train counts as less urgent where moves are not safe together
    AVOIDED,  # key of a configuration (4 x cell + direction) into which it moves only if nothing else is safe, or -1
    N_VARIATIONS,
) = range(4)
_AVOIDANCE = 10_000  # cells
_AFTER_ALL_OTHERS = 10_000  # steps; trains on the map come before those that want to depart


def no_variation(n_trains: int) -> NDArray[np.int64]:
    """The rule as it is."""
    variation = np.zeros((N_VARIATIONS, n_trains), dtype=np.int64)
    variation[AVOIDED] = -1
    return variation


class Play(NamedTuple):
    """One rollout on its way.

    Attributes:
        state: the level and its trains, of which ``dynamic`` and ``occupant`` belong to the rollout alone.
        step: what its steps work with.
        exits, search: memory of what they are named for.
        mask: bool [5].
        costs: float64 [trains, 3], of left, forward and right, in cells; inf for what is impossible or was refused.
        urgency: float64 [trains], lowest first; inf for trains that are not asked any more.
        actions: int64 [trains].
    """

    state: StateArrays
    step: StepArrays
    exits: ExitTables
    search: RouteSearch
    mask: NDArray[np.bool_]
    costs: NDArray[np.float64]
    urgency: NDArray[np.float64]
    actions: NDArray[np.int64]


def play_of(simulator: CompiledSimulator) -> Play:
    """Memory for one rollout at a time on the level of a simulator."""
    state: RailState = simulator.state
    n_trains = state.n_trains
    return Play(
        state=StateArrays(*state.arrays)._replace(
            dynamic=np.empty((N_DYNAMIC, n_trains), dtype=np.int32),
            occupant=np.zeros(2 * state.grid.size, dtype=np.int32),
        ),
        step=StepArrays(
            plans=simulator.plans.copy(),
            claims=np.zeros((2 * state.grid.size, N_CLAIMS), dtype=np.int32),
            halts=simulator.halts.copy(),
            weights=simulator.weights,
            rewards=np.zeros(n_trains),
        ),
        exits=ExitTables.for_state(state),
        search=RouteSearch.for_state(state),
        mask=np.zeros(N_ACTIONS, dtype=np.bool_),
        costs=np.zeros((n_trains, 3)),
        urgency=np.zeros(n_trains),
        actions=np.zeros(n_trains, dtype=np.int64),
    )


@compiled_helper
def _cost_of_move(handle: int, row: int, column: int, direction: int, avoided: int, play: Play) -> float:
    """Cells to the target from a configuration that a move leads to, detours counted."""
    to_go = play.state.distance_map[handle, row, column, direction]
    if to_go == np.inf:
        return np.inf
    cost = to_go + find_detour(
        handle,
        row,
        column,
        direction,
        play.state,
        play.search,
    )
    avoids = 4 * (row * play.state.grid.shape[1] + column) + direction == avoided
    return cost + _AVOIDANCE if avoids else cost


@compiled_helper
def _price_moves(handle: int, avoided: int, play: Play) -> None:
    """Fill ``play.costs`` of a train on the map; the only possible move costs nothing."""
    costs = play.costs[handle]
    costs[:] = np.inf
    row, column, direction = configuration_of(handle, play.state.constants, play.state.dynamic)
    n_moves = 0
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
        if possible_move(play.state.grid, row, column, direction, action)[0] >= 0:
            costs[action - MOVE_LEFT] = 0.0
            n_moves += 1
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1 if n_moves > 1 else MOVE_LEFT):
        to_row, to_column, to_direction = possible_move(play.state.grid, row, column, direction, action)
        if to_row >= 0:
            costs[action - MOVE_LEFT] = _cost_of_move(handle, to_row, to_column, to_direction, avoided, play)


@allocating_helper
def _try_to_move(handle: int, play: Play) -> int:
    """The action of a train on the map, its move carried out in ``play.exits``; -1 if it has to wait for another.

    It takes the cheapest move that is safe after what the trains before it do.
    """
    costs = play.costs[handle]
    row, column, direction = configuration_of(handle, play.state.constants, play.state.dynamic)
    while costs.min() < np.inf:
        action = int(costs.argmin()) + MOVE_LEFT
        to_row, to_column, to_direction = possible_move(play.state.grid, row, column, direction, action)
        key = key_of(play.exits.cells, to_row, to_column, to_direction)
        other = holder_of(key, play.exits.occupant, play.exits.places)
        if other >= 0:
            if can_follow(handle, other, to_row, to_column, play.state.grid, play.state.dynamic):
                return -1
        elif is_arrived_at(key, play.exits):
            return -1
        else:
            outcome = judge_move(handle, to_row, to_column, to_direction, play.exits)
            if outcome != UNSAFE:
                make_move(handle, key, outcome, play.exits)
                return action
        costs[action - MOVE_LEFT] = np.inf
    return STOP_MOVING


@compiled_helper
def _try_to_depart(handle: int, play: Play) -> int:
    """The action of a train that is ready to depart; -1 if it has to wait for another."""
    row, column, direction = configuration_of(handle, play.state.constants, play.state.dynamic)
    key = key_of(play.exits.cells, row, column, direction)
    if holder_of(key, play.exits.occupant, play.exits.places) >= 0 or is_arrived_at(key, play.exits):
        return -1
    outcome = judge_move(handle, row, column, direction, play.exits)
    if outcome == UNSAFE:
        return DO_NOTHING
    make_move(handle, key, outcome, play.exits)
    return first_possible_move(play.state.grid, row, column, direction)


@compiled
def choose_actions(play: Play, variation: np.ndarray, elapsed_steps: int) -> None:
    """Fill ``play.actions`` with what the varied rule does in the state ``play.state``."""
    n_trains = play.actions.shape[0]
    dynamic, constants = play.state.dynamic, play.state.constants
    follow_trains(dynamic, play.exits[:])
    mark_trains(play.state.occupant, play.state.level_free, dynamic)
    play.urgency[:] = np.inf
    for handle in range(n_trains):
        if not can_move_on(handle, constants, dynamic):
            fill_mask_of_train(handle, False, False, play.state.grid, constants, dynamic, play.mask)
            play.actions[handle] = play.mask.argmax()
            continue
        play.actions[handle] = waiting_action(handle, dynamic)
        if elapsed_steps < variation[HELD_UNTIL, handle]:
            continue
        play.urgency[handle] = travel_time_of(handle, play.state.distance_map, constants, dynamic)
        play.urgency[handle] += variation[HANDICAP, handle]
        if dynamic[STATE, handle] == READY_TO_DEPART:
            play.urgency[handle] += _AFTER_ALL_OTHERS
        else:
            _price_moves(handle, variation[AVOIDED, handle], play)
    unmark_trains(play.state.occupant, play.state.level_free, dynamic)
    order = lowest_first(play.urgency)
    progress = True
    while progress:  # a train whose next cell is occupied gets another chance when that one has moved
        progress = False
        for handle in order:
            if play.urgency[handle] == np.inf:
                continue
            if dynamic[STATE, handle] == READY_TO_DEPART:
                action = _try_to_depart(handle, play)
            else:
                action = _try_to_move(handle, play)
            if action >= 0:
                progress = True
                play.urgency[handle] = np.inf
                play.actions[handle] = action


@compiled
def fill_branches(handle: int, state_arrays: Arrays, branches: np.ndarray) -> int:
    """Fill ``branches`` with keys of configurations behind the next switches on a train's shortest path.

    Returns:
        How many there are, at most as many as have room.
    """
    state, n_branches = StateArrays(*state_arrays), 0
    row, column, direction = configuration_of(handle, state.constants, state.dynamic)
    to_go = state.distance_map[handle, row, column, direction]
    while 0 < to_go < np.inf and n_branches < branches.shape[0]:
        n_ways, nearest = 0, np.inf
        at_row, at_column, at_direction = row, column, direction
        for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
            to_row, to_column, to_direction = possible_move(state.grid, at_row, at_column, at_direction, action)
            if to_row < 0 or state.distance_map[handle, to_row, to_column, to_direction] == np.inf:
                continue
            n_ways += 1
            if state.distance_map[handle, to_row, to_column, to_direction] < nearest:
                nearest = state.distance_map[handle, to_row, to_column, to_direction]
                row, column, direction = to_row, to_column, to_direction
        if n_ways > 1:
            branches[n_branches] = 4 * (row * state.grid.shape[1] + column) + direction
            n_branches += 1
        to_go = nearest
    return n_branches


def begin(play: Play, dynamic: NDArray[np.int32], plans: NDArray[np.int32]) -> None:
    """Start a rollout from the tables of a state. (Not compiled: numba takes seconds to compile the copying of one.)"""
    play.state.dynamic[:] = dynamic
    play.step.plans[:] = plans


@compiled
def roll_out(
    play: Play,
    variation: np.ndarray,
    malfunctions: np.ndarray,
    elapsed_steps: int,
    n_steps: int,
) -> tuple[bool, int, float]:
    """Play up to ``n_steps`` steps from ``play.state``, in place.

    Args:
        malfunctions: int32 [max_episode_steps, trains], how long malfunctions last that begin in a step.
        elapsed_steps: before the first of these steps.

    Returns:
        Whether the episode is over, the steps elapsed then, and the sum of the rewards of these steps.
    """
    total, over = 0.0, False
    while n_steps > 0 and not over:
        choose_actions(play, variation, elapsed_steps)
        elapsed_steps += 1
        n_steps -= 1
        over = step_trains(play.state[:], play.step[:], malfunctions, play.actions, elapsed_steps)
        if over:
            finish_trains(play.state[:], play.step[:], elapsed_steps)
        total += play.step.rewards.sum()
    return over, elapsed_steps, total


def worth(total_reward: float, play: Play, max_episode_steps: int, completion_weight: float) -> float:
    """What a rollout to the end is worth: normalized score and share of arrived trains, weighted."""
    arrived = float((play.state.dynamic[STATE] == DONE).mean())
    return total_reward / (len(play.step.rewards) * max_episode_steps) + completion_weight * arrived
