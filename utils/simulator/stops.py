"""``Stops``: where and when the trains of a level halt on their way, as plain arrays."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_distances import distances_to


class Stops(NamedTuple):
    """The intermediate stops of all trains, which never change in an episode.

    A stop is served when its train has stood still (STOPPED) in one of its places after a step. Stops are numbered
    through, train after train; so are their places, the alternative cells of one station.

    Attributes:
        places: int32 [n_places, 3], row, column and direction of a configuration in which a stop is served.
        first_place: int32 [n_stops + 1], the places of stop s are those from ``first_place[s]`` up to
            ``first_place[s + 1]``, without the latter; none for a stop that no train can ever serve.
        latest_arrival: int32 [n_stops], step; ``rail_state.NEVER`` if it is open.
        earliest_departure: int32 [n_stops], step; 0 if it is open.
        first_stop: int32 [n_trains + 1], the stops of train t, in their order, are those from ``first_stop[t]`` up
            to ``first_stop[t + 1]``, without the latter.
        map_of_stop: int32 [n_stops], the row of ``distances`` that leads to the stop.
        distances: float64 [n_maps, height, width, 4], cells from each configuration to the nearest place, 0 at it,
            inf if none can be reached. Stops with the same places share a map.
    """

    places: NDArray[np.int32]
    first_place: NDArray[np.int32]
    latest_arrival: NDArray[np.int32]
    earliest_departure: NDArray[np.int32]
    first_stop: NDArray[np.int32]
    map_of_stop: NDArray[np.int32]
    distances: NDArray[np.float64]


def make_stops(
    grid: NDArray[np.uint16],
    places: NDArray[np.int32],
    first_place: NDArray[np.int32],
    latest_arrival: NDArray[np.int32],
    earliest_departure: NDArray[np.int32],
    first_stop: NDArray[np.int32],
) -> Stops:
    """Stops with their maps; the arrays are those of :class:`Stops`, ``grid`` is ``[height, width]``."""
    numbers: dict[frozenset[tuple[int, ...]], int] = {}
    map_of_stop = np.empty(len(latest_arrival), dtype=np.int32)
    rows = [tuple(row) for row in places.tolist()]
    for stop, (begin, end) in enumerate(pairwise(first_place.tolist())):
        map_of_stop[stop] = numbers.setdefault(frozenset(rows[begin:end]), len(numbers))
    distances = np.empty((len(numbers), *grid.shape, 4), dtype=np.float64)
    for same_places, number in numbers.items():
        distances[number] = distances_to(grid, np.array(sorted(same_places), dtype=np.int64).reshape(-1, 3))
    return Stops(places, first_place, latest_arrival, earliest_departure, first_stop, map_of_stop, distances)


def no_stops(n_trains: int, shape: Sequence[int]) -> Stops:
    """For trains that go to their target without a stop, on a map of that shape."""
    return Stops(
        places=np.zeros((0, 3), dtype=np.int32),
        first_place=np.zeros(1, dtype=np.int32),
        latest_arrival=np.zeros(0, dtype=np.int32),
        earliest_departure=np.zeros(0, dtype=np.int32),
        first_stop=np.zeros(n_trains + 1, dtype=np.int32),
        map_of_stop=np.zeros(0, dtype=np.int32),
        distances=np.zeros((0, *shape, 4), dtype=np.float64),
    )
