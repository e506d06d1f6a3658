"""What a plan in space and time must be, checked without any code of the planner."""

import math
from collections import defaultdict
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import MOVE_LEFT, MOVE_RIGHT, possible_move
from utils.simulator.rail_state import RailState


def place_of(key: int, state: RailState) -> tuple[int, int, int]:
    """Row, column and direction of a grid key."""
    cell, direction = divmod(int(key), 4)
    return *divmod(cell, state.grid.shape[1]), direction


def resource(key: int, state: RailState) -> tuple[int, int, int]:
    """What a train holds there: the cell, or one axis of a level-free crossing."""
    row, column, direction = place_of(key, state)
    return row, column, direction % 2 if state.level_free[row, column] else 0


def check_ways(ways: list[NDArray[np.int64]], state: RailState, headway: int = 0) -> None:
    """Fails if the ways, as ``LevelPlan.ways`` gives them at the first step, cannot be driven as they are timed."""
    held = defaultdict(list)
    moves = set()
    for handle, way in enumerate(ways):
        if len(way) == 0:
            continue
        steps_a_cell = state.denominator[handle] / state.max_speed[handle]
        assert place_of(way[0][0], state) == (
            state.initial_row[handle],
            state.initial_column[handle],
            state.initial_direction[handle],
        )
        assert way[0][1] > state.earliest_departure[handle]
        for n, ((key, step), (to_key, to_step)) in enumerate(pairwise(way)):
            assert any(
                possible_move(state.grid, *place_of(key, state), action) == place_of(to_key, state)
                for action in range(MOVE_LEFT, MOVE_RIGHT + 1)
            )
            assert to_step - step >= math.floor(steps_a_cell - 1e-9)
            assert to_step - way[0][1] >= math.ceil((n + 1) * steps_a_cell - 1e-9)
            held[resource(key, state)].append((step, to_step, handle))
            moves.add((resource(key, state), resource(to_key, state), to_step))
        row, column, direction = place_of(way[-1][0], state)
        assert (row, column) == (state.target_row[handle], state.target_column[handle])
        assert (state.target_directions[handle] >> (3 - direction)) & 1
        held[resource(way[-1][0], state)].append((way[-1][1], way[-1][1] + 1 - headway, handle))
    for visits in held.values():
        visits.sort()
        for (_, leave, _), (enter, _, _) in pairwise(visits):
            assert leave + headway <= enter
    for start, end, step in moves:
        assert (end, start, step) not in moves, "two trains swap their cells"


def check_stops(ways: list[NDArray[np.int64]], state: RailState) -> None:
    """Fails if a way does not serve all stops of its train in turn, long enough and until it may leave."""
    stops = state.stops
    for handle, way in enumerate(ways):
        if len(way) == 0:
            continue
        steps_a_cell = state.denominator[handle] / state.max_speed[handle]
        stays = [(place_of(key, state), step, leave) for (key, step), (_, leave) in pairwise(way)]
        n = 0
        for stop in range(*stops.first_stop[handle : handle + 2]):
            places = stops.places[stops.first_place[stop] : stops.first_place[stop + 1]].tolist()
            while n < len(stays):
                place, step, leave = stays[n]
                n += 1
                long_enough = leave - step >= math.floor(steps_a_cell - 1e-9) + 1
                if list(place) in places and long_enough and leave >= stops.earliest_departure[stop]:
                    break
            else:
                raise AssertionError(f"train {handle} does not serve stop {stop - stops.first_stop[handle]}")


def earliest_arrival(handle: int, others: list[NDArray[np.int64]], state: RailState, last_step: int) -> int | None:
    """When a train of speed one can arrive at best among others that keep to their ways: breadth first in time."""
    busy, moves = set(), set()
    for way in others:
        for (key, step), (to_key, to_step) in pairwise(way):
            busy |= {(resource(key, state), t) for t in range(step, to_step)}
            moves.add((resource(key, state), resource(to_key, state), to_step))
        if len(way):
            busy.add((resource(way[-1][0], state), way[-1][1]))
    row, column, direction = state.initial_row[handle], state.initial_column[handle], state.initial_direction[handle]
    start = 4 * (int(row) * state.grid.shape[1] + int(column)) + int(direction)
    here: set[int] = set()
    first = max(int(state.earliest_departure[handle]), 1) + 1
    for step in range(first, last_step + 1):
        following = {key for key in here if (resource(key, state), step) not in busy}
        for key in here:
            for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
                to_row, to_column, to_direction = possible_move(state.grid, *place_of(key, state), action)
                if to_row < 0:
                    continue
                to_key = 4 * (to_row * state.grid.shape[1] + to_column) + to_direction
                if (resource(to_key, state), step) in busy:
                    continue
                if (resource(to_key, state), resource(key, state), step) in moves:
                    continue
                following.add(int(to_key))
        if (resource(start, state), step) not in busy:
            following.add(start)
        here = following
        if any(state.distance_map[(handle, *place_of(key, state))] == 0 for key in here):
            return step
    return None
