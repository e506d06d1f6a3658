"""Which trains matter for a train: those whose ways meet with its own, the soonest first. Compiled.

The way of a train is its shortest path to its next stop, or to its target, from where it is or will depart, with the
cell where it is as the first one. Two ways meet in the cells (or axes of level-free crossings) that they share. They
meet at the step, counted from now, at which both trains could have come to the same cell, if each ran at full speed as
soon as it can. Trains that have arrived have no way.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import (
    MOVE_FORWARD,
    clip,
    count_exits,
    exits_of,
    nearest_move,
    possible_move,
    resource_of,
)
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import (
    DENOMINATOR,
    DISTANCE_IN_CELL,
    DONE,
    EARLIEST_DEPARTURE,
    MALFUNCTION_COUNTER,
    MAX_SPEED,
    MOVING,
    NEXT_MAP,
    ROW,
    STATE,
    StateArrays,
    configuration_of,
)
from utils.system.compiled import Arrays, compiled, compiled_helper

MOST_NEIGHBOURS = 8
LOOK_AHEAD = 50
"""Cells of a way that are looked at, the first one included."""


class Relation(IntEnum):
    """What a train knows of itself and one neighbour, all in [-1, 1]; all are 0 where there is none."""

    (
        THERE,  # 1
        OWN_CELLS,  # until the own way comes to the first cell of both ways
        ITS_CELLS,  # until the neighbour's way does
        STEPS,  # until they meet
        GAP,  # steps by which the neighbour comes later to the first cell of both ways on the own way
        SHARED_CELLS,  # of the neighbour's way
        OPPOSED,  # whether it heads another way there
        OFF_MAP,
        MOVING,
        STOPPED,
        MALFUNCTION_STEPS,
    ) = range(11)


N_RELATIONS = len(Relation)

_CELLS_SCALE = float(LOOK_AHEAD)
_STEPS_SCALE = 50.0
_GAP_SCALE = 20.0
_MALFUNCTION_SCALE = 20.0  # steps

_NONE = -1

# Columns of ``NeighbourSearch.cells``.
_RESOURCE, _DIRECTION, _TRAIN, _BEFORE, _N_CELL_COLUMNS = range(5)


class NeighbourSearch(NamedTuple):
    """Memory for one size of grid and number of trains."""

    # [trains x LOOK_AHEAD, 4], the cells of all ways: resource, direction, train, and the entry of the same
    # resource before it
    cells: NDArray[np.int64]
    begins: NDArray[np.int64]  # [trains + 1], where the ways begin in ``cells``
    last: NDArray[np.int64]  # [resources], the last entry of each resource; _NONE between calls
    own: NDArray[np.int64]  # [resources], the place of a resource in the way that is looked at; _NONE between calls
    meetings: NDArray[np.float64]  # [MOST_NEIGHBOURS], the steps at which the neighbours found so far are met

    @classmethod
    def for_state(cls, state: RailState) -> "NeighbourSearch":
        """New memory, of the size that the level needs."""
        return cls(
            cells=np.zeros((state.n_trains * LOOK_AHEAD, _N_CELL_COLUMNS), dtype=np.int64),
            begins=np.zeros(state.n_trains + 1, dtype=np.int64),
            last=np.full(2 * state.grid.size, _NONE, dtype=np.int64),
            own=np.full(2 * state.grid.size, _NONE, dtype=np.int64),
            meetings=np.zeros(MOST_NEIGHBOURS, dtype=np.float64),
        )


@compiled_helper
def _enter_way(handle: int, n_cells: int, arrays: StateArrays, search: NeighbourSearch) -> int:
    """Enter the way of a train into ``cells``; returns how many there are then."""
    if arrays.dynamic[STATE, handle] == DONE:
        return n_cells
    row, column, direction = configuration_of(handle, arrays.constants, arrays.dynamic)
    way_map = arrays.dynamic[NEXT_MAP, handle]
    to_go = arrays.maps[way_map, row, column, direction]
    for _ in range(LOOK_AHEAD):
        cell, resource = search.cells[n_cells], resource_of(arrays.level_free, row, column, direction)
        cell[_RESOURCE], cell[_DIRECTION], cell[_TRAIN] = resource, direction, handle
        cell[_BEFORE] = search.last[resource]
        search.last[resource] = n_cells
        n_cells += 1
        if to_go == 0 or to_go == np.inf:
            break
        action = MOVE_FORWARD  # from where there is a way to the target the only way on leads there
        if count_exits(exits_of(arrays.grid[row, column], direction)) > 1:
            action = nearest_move(arrays.grid, arrays.maps, way_map, row, column, direction)
        row, column, direction = possible_move(arrays.grid, row, column, direction, action)
        to_go = arrays.maps[way_map, row, column, direction]
    return n_cells


@compiled_helper
def steps_to(place: int, handle: int, elapsed_steps: int, constants: np.ndarray, dynamic: np.ndarray) -> float:
    """Steps until a train could come to a cell of its way, by its place from 0 on; 0 for the cell where it is."""
    units = place * constants[DENOMINATOR, handle]
    wait = dynamic[MALFUNCTION_COUNTER, handle]
    if dynamic[ROW, handle] < 0:
        # the step in which it enters the map is one more
        wait = max(wait, constants[EARLIEST_DEPARTURE, handle] - elapsed_steps) + 1
    elif place == 0:
        return 0.0
    else:
        units = max(0, units - dynamic[DISTANCE_IN_CELL, handle])
    return wait + units / constants[MAX_SPEED, handle]


@compiled_helper
def _note_meeting(other: int, step: float, n_found: int, found: np.ndarray, meetings: np.ndarray) -> int:
    """Put a train into the list of the neighbours, the soonest first, then by handle; returns how many there are."""
    place = 0
    while place < n_found and found[place] != other:
        place += 1
    if place == n_found:
        if n_found < found.shape[0]:
            n_found += 1
        else:
            place -= 1  # the last one gives way
            if (step, other) >= (meetings[place], found[place]):
                return n_found
    elif step >= meetings[place]:
        return n_found
    while place > 0 and (step, other) < (meetings[place - 1], found[place - 1]):
        found[place], meetings[place] = found[place - 1], meetings[place - 1]
        place -= 1
    found[place], meetings[place] = other, step
    return n_found


@compiled_helper
def _find(handle: int, elapsed_steps: int, arrays: StateArrays, search: NeighbourSearch, found: np.ndarray) -> int:
    """Fill ``found``, int64 [most neighbours], with the neighbours of a train; returns how many there are."""
    constants, dynamic, cells, meetings = arrays.constants, arrays.dynamic, search.cells, search.meetings
    n_found, begin = 0, search.begins[handle]
    for index in range(begin, search.begins[handle + 1]):
        own_step = steps_to(index - begin, handle, elapsed_steps, constants, dynamic)
        if n_found == found.shape[0] and own_step > meetings[n_found - 1]:
            break  # all other meetings are later
        entry = search.last[cells[index, _RESOURCE]]
        while entry != _NONE:
            other = cells[entry, _TRAIN]
            if other != handle:
                its_step = steps_to(entry - search.begins[other], other, elapsed_steps, constants, dynamic)
                n_found = _note_meeting(other, max(own_step, its_step), n_found, found, meetings)
            entry = cells[entry, _BEFORE]
    return n_found


@compiled_helper
def _relate(
    handle: int,
    other: int,
    meeting: float,
    elapsed_steps: int,
    arrays: StateArrays,
    search: NeighbourSearch,
    relation: np.ndarray,
) -> None:
    """Fill ``relation``, float32 [N_RELATIONS]; ``search.own`` holds the way of the train."""
    constants, dynamic, cells = arrays.constants, arrays.dynamic, search.cells
    begin, own_begin = search.begins[other], search.begins[handle]
    own_first, its_first, n_shared = LOOK_AHEAD, LOOK_AHEAD, 0
    its_place_there = 0  # in the first cell of both ways on the own way
    for index in range(begin, search.begins[other + 1]):
        own_place = search.own[cells[index, _RESOURCE]]
        if own_place != _NONE:
            n_shared += 1
            its_first = min(its_first, index - begin)
            if own_place < own_first:
                own_first, its_place_there = own_place, index - begin
    own_step = steps_to(own_first, handle, elapsed_steps, constants, dynamic)
    its_step = steps_to(its_place_there, other, elapsed_steps, constants, dynamic)
    opposed = cells[own_begin + own_first, _DIRECTION] != cells[begin + its_place_there, _DIRECTION]
    off_map, moves = dynamic[ROW, other] < 0, dynamic[STATE, other] == MOVING
    relation[Relation.THERE] = 1.0
    relation[Relation.OWN_CELLS] = own_first / _CELLS_SCALE
    relation[Relation.ITS_CELLS] = its_first / _CELLS_SCALE
    relation[Relation.STEPS] = clip(meeting / _STEPS_SCALE)
    relation[Relation.GAP] = clip((its_step - own_step) / _GAP_SCALE)
    relation[Relation.SHARED_CELLS] = n_shared / _CELLS_SCALE
    relation[Relation.OPPOSED] = opposed
    relation[Relation.OFF_MAP] = off_map
    relation[Relation.MOVING] = moves
    relation[Relation.STOPPED] = not (off_map or moves)
    relation[Relation.MALFUNCTION_STEPS] = clip(dynamic[MALFUNCTION_COUNTER, other] / _MALFUNCTION_SCALE)


@compiled
def find_neighbours(
    elapsed_steps: int,
    state_arrays: Arrays,
    search_arrays: Arrays,
    observes: np.ndarray,
    neighbours: np.ndarray,
    relations: np.ndarray,
    is_observed: np.ndarray,
) -> None:
    """Find the neighbours of trains.

    Args:
        observes: bool [trains], who looks for neighbours; others get none.
        neighbours: int64 [trains, most neighbours], filled with handles, the soonest met first, and _NONE behind.
        relations: float32 [trains, most neighbours, N_RELATIONS], filled in the order of ``Relation``.
        is_observed: bool [trains]; neighbours become True, others stay as they are.
    """
    arrays, search = StateArrays(*state_arrays), NeighbourSearch(*search_arrays)
    n_trains, n_cells = neighbours.shape[0], 0
    neighbours[:] = _NONE
    relations[:] = 0.0
    for handle in range(n_trains):
        search.begins[handle] = n_cells
        n_cells = _enter_way(handle, n_cells, arrays, search)
    search.begins[n_trains] = n_cells
    for handle in range(n_trains):
        if not observes[handle]:
            continue
        n_found = _find(handle, elapsed_steps, arrays, search, neighbours[handle])
        way = search.cells[search.begins[handle] : search.begins[handle + 1]]
        if n_found > 0:
            for place in range(way.shape[0] - 1, -1, -1):  # of a cell that comes twice the first place
                search.own[way[place, _RESOURCE]] = place
            for k in range(n_found):
                other = neighbours[handle, k]
                is_observed[other] = True
                _relate(handle, other, search.meetings[k], elapsed_steps, arrays, search, relations[handle, k])
            for cell in way:
                search.own[cell[_RESOURCE]] = _NONE
    for cell in search.cells[:n_cells]:
        search.last[cell[_RESOURCE]] = _NONE
