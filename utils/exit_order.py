"""In which order the trains on the map could leave it, one after the other. Compiled, over ``RailState``.

A train *can leave* if there is a way to its target on which no other train stands, whatever its length. With that
train gone there may be a way for another one, and so on. If all trains can leave in some order, the positions are
safe: nobody is in a deadlock, and nobody needs to come into one. (The banker's algorithm of Dijkstra 1965, with cells
in place of money. Leaving is never in anybody's way, so the order found by taking any train that can leave next is
as good as any.)

:func:`is_safe_after` asks whether the positions stay safe if one train moves on. Most answers come from the order that
is known already: nobody else's way leads through the new cell, or only the ways of trains that leave later do. Else
the order is worked out again, with a search for those trains only whose known way is no longer free.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.compiled import compiled
from utils.rail_grid import moves_to_try, possible_move, resource_of
from utils.rail_state import COLUMN, DIRECTION, DONE, ROW, STATE, TARGET_COLUMN, TARGET_ROW, RailState

_NEVER_LEAVES = 2**30
_NO_WAY = -1

# What a move does to the order that is known: nothing; the train can leave last; that has to be found out.
_HOLDS, _LEAVES_LAST, _UNCLEAR = range(3)


class ExitOrder(NamedTuple):
    """Memory for one size of grid and one number of trains, and what is known about the order.

    Attributes:
        position: int64 [trains, 3], row, column and direction of the trains on the map.
        on_map: bool [trains].
        rank: int64 [trains], when a train leaves; ``_NEVER_LEAVES`` if it cannot, or is not on the map.
        by_rank: int64 [trains], the trains in the order in which they leave.
        n_leaving: int64 [1], how many of them there are.
        first_move: int64 [trains], the key of the first configuration on a train's known way.
        way: bool [trains, cells], the cells of a train's known way, without the one where it stands. They may be too
            many, never too few: cells that it has passed since stay.
        n_ways: int64 [cells], how many known ways lead through a cell.
        occupant: int32 [2 x cells], handle + 1 of the train that stands there; see ``rail_grid.resource_of``.
        visited: int64 [configurations], the last search that came by; a configuration's key is 4 x cell + direction.
        n_searches: int64 [1].
        origin: int64 [configurations], from where the last search came.
        stack: int64 [configurations, 3].
        postponed: int64 [trains].
    """

    position: NDArray[np.int64]
    on_map: NDArray[np.bool_]
    rank: NDArray[np.int64]
    by_rank: NDArray[np.int64]
    n_leaving: NDArray[np.int64]
    first_move: NDArray[np.int64]
    way: NDArray[np.bool_]
    n_ways: NDArray[np.int64]
    occupant: NDArray[np.int32]
    visited: NDArray[np.int64]
    n_searches: NDArray[np.int64]
    origin: NDArray[np.int64]
    stack: NDArray[np.int64]
    postponed: NDArray[np.int64]

    @classmethod
    def for_state(cls, state: RailState) -> "ExitOrder":
        """New memory, of the sizes that the level needs."""
        n_trains, n_cells = state.n_trains, state.grid.size
        return cls(
            position=np.zeros((n_trains, 3), dtype=np.int64),
            on_map=np.zeros(n_trains, dtype=np.bool_),
            rank=np.zeros(n_trains, dtype=np.int64),
            by_rank=np.zeros(n_trains, dtype=np.int64),
            n_leaving=np.zeros(1, dtype=np.int64),
            first_move=np.zeros(n_trains, dtype=np.int64),
            way=np.zeros((n_trains, n_cells), dtype=np.bool_),
            n_ways=np.zeros(n_cells, dtype=np.int64),
            occupant=np.zeros(2 * n_cells, dtype=np.int32),
            visited=np.zeros(4 * n_cells, dtype=np.int64),
            n_searches=np.zeros(1, dtype=np.int64),
            origin=np.zeros(4 * n_cells, dtype=np.int64),
            stack=np.zeros((4 * n_cells, 3), dtype=np.int64),
            postponed=np.zeros(n_trains, dtype=np.int64),
        )

    def fits(self, state: RailState) -> bool:
        """Whether the memory is of the sizes that the level needs."""
        return self.way.shape == (state.n_trains, state.grid.size)


@compiled
def is_at_target(
    handle: int, row: int, column: int, direction: int, distance_map: np.ndarray, constants: np.ndarray
) -> bool:
    """Whether a train that comes to a configuration has arrived."""
    return (
        row == constants[TARGET_ROW, handle]
        and column == constants[TARGET_COLUMN, handle]
        and distance_map[handle, row, column, direction] == 0
    )


@compiled
def _sort_nearest_last(handle: int, first: int, end: int, distance_map: np.ndarray, stack: np.ndarray) -> None:
    """Sort ``stack[first:end]``, up to three configurations, so that the nearest to the target is popped next."""
    for i in range(first, end):
        for k in range(i + 1, end):
            a, b = stack[i], stack[k]
            if distance_map[handle, a[0], a[1], a[2]] < distance_map[handle, b[0], b[1], b[2]]:
                for value in range(3):
                    a[value], b[value] = b[value], a[value]


@compiled
def _move_to(handle: int, row: int, column: int, direction: int, exits: ExitOrder) -> None:
    position = exits.position[handle]
    position[0], position[1], position[2] = row, column, direction


@compiled
def _find_way(
    handle: int,
    grid: np.ndarray,
    distance_map: np.ndarray,
    level_free: np.ndarray,
    constants: np.ndarray,
    exits: ExitOrder,
) -> int:
    """Search a way to the target over cells that are free; the key of its last configuration, or ``_NO_WAY``.

    Depth first, nearest to the target first: where nothing is in the way it walks the shortest path and is done.
    ``exits.origin`` then leads back.
    """
    width = grid.shape[1]
    exits.n_searches[0] += 1
    search = exits.n_searches[0]
    stack, visited, origin = exits.stack, exits.visited, exits.origin
    for value in range(3):
        stack[0, value] = exits.position[handle, value]
    visited[4 * (stack[0, 0] * width + stack[0, 1]) + stack[0, 2]] = search
    n_pending = 1
    while n_pending > 0:
        n_pending -= 1
        row, column, direction = stack[n_pending, 0], stack[n_pending, 1], stack[n_pending, 2]
        key = 4 * (row * width + column) + direction
        if is_at_target(handle, row, column, direction, distance_map, constants):
            return int(key)
        first = n_pending
        first_action, last_action = moves_to_try(grid, row, column, direction)
        for action in range(first_action, last_action + 1):
            next_row, next_column, next_direction = possible_move(grid, row, column, direction, action)
            if next_row < 0 or distance_map[handle, next_row, next_column, next_direction] == np.inf:
                continue
            next_key = 4 * (next_row * width + next_column) + next_direction
            holder = exits.occupant[resource_of(level_free, next_row, next_column, next_direction)]
            if visited[next_key] == search or (holder > 0 and holder != handle + 1):
                continue
            visited[next_key] = search
            origin[next_key] = key
            stack[n_pending, 0], stack[n_pending, 1], stack[n_pending, 2] = next_row, next_column, next_direction
            n_pending += 1
        _sort_nearest_last(handle, first, n_pending, distance_map, stack)
    return _NO_WAY


@compiled
def _hold(handle: int, level_free: np.ndarray, exits: ExitOrder, holder: int) -> None:
    """Write ``holder`` where a train stands: handle + 1, or 0 as if it had left."""
    position = exits.position[handle]
    exits.occupant[resource_of(level_free, position[0], position[1], position[2])] = holder


@compiled
def _keep_way(handle: int, end: int, width: int, exits: ExitOrder) -> None:
    """Note the way that a search has found, from its last configuration back."""
    start = 4 * (exits.position[handle, 0] * width + exits.position[handle, 1]) + exits.position[handle, 2]
    key = end
    exits.first_move[handle] = key
    while key != start:
        cell = key // 4
        if not exits.way[handle, cell]:
            exits.way[handle, cell] = True
            exits.n_ways[cell] += 1
        exits.first_move[handle] = key
        key = exits.origin[key]


@compiled
def _leave_last(
    handle: int, grid: np.ndarray, distance_map: np.ndarray, constants: np.ndarray, exits: ExitOrder
) -> None:
    """Put a train at the end of the order, on its shortest path from where it stands, as nobody is left then."""
    n_leaving = exits.n_leaving[0]
    if exits.rank[handle] == _NEVER_LEAVES:
        n_leaving += 1
        exits.n_leaving[0] = n_leaving
    else:
        for cell in range(exits.n_ways.shape[0]):
            if exits.way[handle, cell]:
                exits.way[handle, cell] = False
                exits.n_ways[cell] -= 1
        for rank in range(exits.rank[handle], n_leaving - 1):
            later = exits.by_rank[rank + 1]
            exits.by_rank[rank] = later
            exits.rank[later] = rank
    exits.by_rank[n_leaving - 1] = handle
    exits.rank[handle] = n_leaving - 1
    position = exits.position[handle]
    row, column, direction = position[0], position[1], position[2]
    while not is_at_target(handle, row, column, direction, distance_map, constants):
        to_go = distance_map[handle, row, column, direction]
        first_action, last_action = moves_to_try(grid, row, column, direction)
        for action in range(first_action, last_action + 1):
            next_row, next_column, next_direction = possible_move(grid, row, column, direction, action)
            if next_row >= 0 and distance_map[handle, next_row, next_column, next_direction] < to_go:
                break
        row, column, direction = next_row, next_column, next_direction
        cell = row * grid.shape[1] + column
        if not exits.way[handle, cell]:
            exits.way[handle, cell] = True
            exits.n_ways[cell] += 1


@compiled
def find_exit_order(
    grid: np.ndarray, distance_map: np.ndarray, level_free: np.ndarray, constants: np.ndarray, exits: ExitOrder
) -> None:
    """Work out who leaves when and on which way, for the trains at ``exits.position``."""
    n_trains = exits.on_map.shape[0]
    exits.way[:] = False
    exits.n_ways[:] = 0
    exits.rank[:] = _NEVER_LEAVES
    n_leaving = 0
    progress = True
    while progress:
        progress = False
        for handle in range(n_trains):
            if not exits.on_map[handle] or exits.rank[handle] != _NEVER_LEAVES:
                continue
            end = _find_way(handle, grid, distance_map, level_free, constants, exits)
            if end != _NO_WAY:
                _keep_way(handle, end, grid.shape[1], exits)
                _hold(handle, level_free, exits, 0)
                exits.rank[handle] = n_leaving
                exits.by_rank[n_leaving] = handle
                n_leaving += 1
                progress = True
    exits.n_leaving[0] = n_leaving
    for handle in exits.by_rank[:n_leaving]:
        _hold(handle, level_free, exits, handle + 1)


@compiled
def place_trains(level_free: np.ndarray, dynamic: np.ndarray, exits: ExitOrder) -> None:
    """Take the positions from the tables of the state; ``clear_trains`` undoes it."""
    for handle in range(dynamic.shape[1]):
        exits.on_map[handle] = dynamic[ROW, handle] >= 0 and dynamic[STATE, handle] != DONE
        if exits.on_map[handle]:
            _move_to(handle, dynamic[ROW, handle], dynamic[COLUMN, handle], dynamic[DIRECTION, handle], exits)
            _hold(handle, level_free, exits, handle + 1)


@compiled
def clear_trains(level_free: np.ndarray, exits: ExitOrder) -> None:
    """Leave ``exits.occupant`` all zero, as it was before ``place_trains``."""
    for handle in range(exits.on_map.shape[0]):
        if exits.on_map[handle]:
            _hold(handle, level_free, exits, 0)


@compiled
def _known_way_is_free(handle: int, moved_to: int, n_postponed: int, width: int, exits: ExitOrder) -> bool:
    """Whether a train can leave on its known way when those before it have left, but for the postponed ones."""
    if exits.way[handle, moved_to]:
        return False
    for i in range(n_postponed):
        other = exits.position[exits.postponed[i]]
        if exits.way[handle, other[0] * width + other[1]]:
            return False
    return True


@compiled
def _all_leave_again(
    mover: int,
    moved_to: int,
    entered: bool,
    grid: np.ndarray,
    distance_map: np.ndarray,
    level_free: np.ndarray,
    constants: np.ndarray,
    exits: ExitOrder,
) -> bool:
    """Whether all that could leave before still can, with ``mover`` in the cell ``moved_to``.

    A train that has entered the map must be able to leave; one that was stuck before may stay so.
    """
    width = grid.shape[1]
    postponed = exits.postponed
    n_postponed = 0
    n_gone = 0
    if exits.rank[mover] == _NEVER_LEAVES:
        postponed[0] = mover
        n_postponed = 1
    gone = np.empty(exits.on_map.shape[0], dtype=np.int64)
    for i in range(exits.n_leaving[0]):
        handle = exits.by_rank[i]
        leaves = handle != mover and _known_way_is_free(handle, moved_to, n_postponed, width, exits)
        if leaves or _find_way(handle, grid, distance_map, level_free, constants, exits) != _NO_WAY:
            _hold(handle, level_free, exits, 0)
            gone[n_gone] = handle
            n_gone += 1
        else:
            postponed[n_postponed] = handle
            n_postponed += 1
    progress = True
    while progress and n_postponed > 0:
        progress = False
        for i in range(n_postponed - 1, -1, -1):
            handle = postponed[i]
            if _find_way(handle, grid, distance_map, level_free, constants, exits) != _NO_WAY:
                _hold(handle, level_free, exits, 0)
                gone[n_gone] = handle
                n_gone += 1
                n_postponed -= 1
                postponed[i] = postponed[n_postponed]
                progress = True
    for handle in gone[:n_gone]:
        _hold(handle, level_free, exits, handle + 1)
    stays_stuck = n_postponed == 1 and exits.rank[mover] == _NEVER_LEAVES and not entered
    return n_postponed == 0 or (stays_stuck and postponed[0] == mover)


@compiled
def _consequence_for_order(handle: int, cell: int, key: int, exits: ExitOrder) -> int:
    """What the known order says about a train's move to a free cell, in the configuration ``key``."""
    n_others = exits.n_ways[cell] - exits.way[handle, cell]
    rank = exits.rank[handle]
    if rank != _NEVER_LEAVES and exits.first_move[handle] == key:
        in_earlier_way = False
        for i in range(rank if n_others > 0 else 0):
            in_earlier_way = in_earlier_way or exits.way[exits.by_rank[i], cell]
        if not in_earlier_way:
            return _HOLDS
    # with nobody else's way through the cell all others can leave first, and then nobody is in its way
    return _LEAVES_LAST if n_others == 0 and exits.on_map.sum() == exits.n_leaving[0] else _UNCLEAR


@compiled
def is_safe_after(
    handle: int,
    row: int,
    column: int,
    direction: int,
    commit: bool,
    grid: np.ndarray,
    distance_map: np.ndarray,
    level_free: np.ndarray,
    constants: np.ndarray,
    exits: ExitOrder,
) -> bool:
    """Whether as many trains as before can leave after one train has moved to, or entered the map at, a free place.

    Where there is a deadlock already a move is safe if it makes none worse. With ``commit`` a safe move is carried
    out in ``exits``, for further questions.
    """
    if is_at_target(handle, row, column, direction, distance_map, constants):
        if commit and exits.on_map[handle]:
            _hold(handle, level_free, exits, 0)
            exits.on_map[handle] = False
            find_exit_order(grid, distance_map, level_free, constants, exits)
        return True
    if distance_map[handle, row, column, direction] == np.inf:
        return False
    cell = row * grid.shape[1] + column
    entered = not exits.on_map[handle]
    consequence = _consequence_for_order(handle, cell, 4 * cell + direction, exits)
    if consequence != _UNCLEAR and not commit:
        return True
    old = exits.position[handle]
    old_row, old_column, old_direction = old[0], old[1], old[2]
    if not entered:
        _hold(handle, level_free, exits, 0)
    exits.on_map[handle] = True
    _move_to(handle, row, column, direction, exits)
    _hold(handle, level_free, exits, handle + 1)
    if consequence == _UNCLEAR:
        safe = _all_leave_again(handle, cell, entered, grid, distance_map, level_free, constants, exits)
        if safe and commit:
            find_exit_order(grid, distance_map, level_free, constants, exits)
            return True
        _hold(handle, level_free, exits, 0)
        exits.on_map[handle] = not entered
        _move_to(handle, old_row, old_column, old_direction, exits)
        if not entered:
            _hold(handle, level_free, exits, handle + 1)
        return safe
    if consequence == _LEAVES_LAST:
        _leave_last(handle, grid, distance_map, constants, exits)
    exits.first_move[handle] = _NO_WAY
    return True
