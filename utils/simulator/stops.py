"""``Stops``: where and when the trains of a level halt on their way, as plain arrays."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_distances import distances_to
from utils.simulator.rail_grid import count_exits, exits_of, has_exit

Place = tuple[int, int, int]


class Stops(NamedTuple):
    """The intermediate stops of all trains, which never change in an episode.

    A stop is served when its train has stood still (STOPPED) in one of its places after a step. Stops are numbered
    through, train after train; so are their places, the alternative cells of one station.

    Attributes:
        places: int32 [n_places, 3], row, column and direction of a configuration in which a stop is served.
        first_place: int32 [n_stops + 1], the places of stop s are those from ``first_place[s]`` up to
            ``first_place[s + 1]``, without the latter; none for a stop that no train can ever serve.
        latest_arrival: int32 [n_stops], step; ``rail_state.OPEN_END`` if it is open.
        earliest_departure: int32 [n_stops], step; 0 if it is open.
        first_stop: int32 [n_trains + 1], the stops of train t, in their order, are those from ``first_stop[t]`` up
            to ``first_stop[t + 1]``, without the latter.
        map_of_stop: int32 [n_stops], the row of ``distances`` that leads to the stop.
        distances: float64 [n_maps, height, width, 4], cells from each configuration to the nearest place of use, 0 at
            it, inf if none can be reached. Ways do not lead through the train's target, where it would leave the map.
            A place is of use if the train may stop there and can reach its target from there. Stops with the same
            places of use and the same target share a map.
        cells_after: int32 [n_stops], the fewest cells from the stop to the train's target by the stops after it.
        stops_after: int32 [n_stops], how many of those there are on that way: all that can still be served.
    """

    places: NDArray[np.int32]
    first_place: NDArray[np.int32]
    latest_arrival: NDArray[np.int32]
    earliest_departure: NDArray[np.int32]
    first_stop: NDArray[np.int32]
    map_of_stop: NDArray[np.int32]
    distances: NDArray[np.float64]
    cells_after: NDArray[np.int32]
    stops_after: NDArray[np.int32]


def make_stops(
    grid: NDArray[np.uint16],
    distance_map: NDArray[np.float64],
    targets: NDArray[np.int32],
    places: NDArray[np.int32],
    first_place: NDArray[np.int32],
    latest_arrival: NDArray[np.int32],
    earliest_departure: NDArray[np.int32],
    first_stop: NDArray[np.int32],
) -> Stops:
    """Stops with their maps.

    Args:
        grid, distance_map: see ``RailState``.
        targets: int32 [3, trains], the rows of ``RailState.constants`` that say where trains may arrive.
        places, first_place, latest_arrival, earliest_departure, first_stop: see :class:`Stops`.
    """
    train_of_stop = np.repeat(np.arange(len(first_stop) - 1), np.diff(first_stop)).tolist()
    of_use = [
        frozenset(place for place in map(tuple, places[begin:end].tolist()) if _is_of_use(place, grid, to_target))
        for begin, end, to_target in zip(first_place[:-1], first_place[1:], distance_map[train_of_stop], strict=True)
    ]
    numbers: dict[tuple[Any, ...], int] = {}
    keys = [(use, *targets[:, handle].tolist()) for use, handle in zip(of_use, train_of_stop, strict=True)]
    map_of_stop = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int32)
    distances = np.empty((len(numbers), *grid.shape, 4), dtype=np.float64)
    for (use, *target), number in numbers.items():
        rows = np.array([(0, *place) for place in sorted(use)], dtype=np.int64).reshape(-1, 4)
        distances[number] = distances_to(without_way_through(grid, *target), rows)
    after = np.zeros((2, len(of_use)), dtype=np.int32)
    for stop in range(len(of_use) - 1, -1, -1):
        handle = train_of_stop[stop]
        later = range(stop + 1, first_stop[handle + 1])
        maps = [distances[map_of_stop[other]] for other in later]
        ways = [_way_after(place, distance_map[handle], maps, after[:, later]) for place in of_use[stop]]
        after[:, stop] = max(ways, default=(0, 0))
    times = latest_arrival, earliest_departure
    return Stops(places, first_place, *times, first_stop, map_of_stop, distances, -after[1], after[0])


def _is_of_use(place: Place, grid: NDArray[np.uint16], to_target: NDArray[np.float64]) -> bool:
    """Whether a train may stop in a place, and reach its target from there without being there already.

    flatland takes a stop for a collision in cells with a left and a right, but no way straight on.
    """
    row, column, direction = place
    exits = exits_of(int(grid[row, column]), direction)
    may_stop = count_exits(exits) == 1 or has_exit(exits, direction)
    return may_stop and 0 < to_target[place] < np.inf


def without_way_through(grid: NDArray[np.uint16], row: int, column: int, directions: int) -> NDArray[np.uint16]:
    """The map as it is for a train that leaves it when it comes to that cell in one of the directions."""
    closed = grid.copy()
    for direction in range(4):
        if has_exit(directions, direction):
            closed[row, column] &= 0xFFFF ^ (15 << (3 - direction) * 4)
    return closed


def _way_after(
    place: Place, to_target: NDArray[np.float64], maps: list[NDArray[np.float64]], after: NDArray[np.int32]
) -> tuple[int, int]:
    """How many stops can be served after one of its places has been left, and minus the cells of that way.

    Args:
        place: where the train is.
        to_target: its distance map.
        maps: those of the stops to come.
        after: int32 [2, stops to come], what this function gave for each of them.
    """
    for distances, (n_stops, minus_cells) in zip(maps, after.T.tolist(), strict=True):
        if distances[place] < np.inf:
            return n_stops + 1, minus_cells - int(distances[place])
    return 0, -int(to_target[place])
