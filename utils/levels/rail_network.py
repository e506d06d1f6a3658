"""How far it is from each place where a train may stop to each other: all that lines and timetables ask of a map."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from utils.levels.stations import Stations
from utils.simulator.rail_distances import distances_to
from utils.simulator.rail_grid import exits_of

Configuration = tuple[int, int, int]
"""Row, column and direction of travel."""
Places = list[int]
"""Numbers of places, such as those among which a train may choose."""


@dataclass(frozen=True)
class RailNetwork:
    """The stations of a map and the shortest ways between them.

    A *place* is the number of a cell of a station in a direction of travel; an *option* is the number of a station in a
    direction of travel, with the places on all its tracks. Ways are counted in cells, infinite where there is none.
    """

    places: list[Configuration]  # row, column and direction of each place
    place_of: dict[Configuration, int] = field(repr=False)  # the number of each place
    tracks: list[list[Places]]  # of each station, the places on each of its tracks
    options: list[Places]  # the places of each option
    station_of_option: NDArray[np.int64]  # int64 ``[options]``
    # ``[places][places]``, from one to the other; lists, as most questions are about a few of them
    moves: list[list[float]] = field(repr=False)
    option_moves: NDArray[np.float64]  # float64 ``[options, options]``, see ``leg``
    # float64 ``[stations, stations]``, the shortest between their places; infinite to itself
    station_moves: NDArray[np.float64]

    @classmethod
    def of(cls, grid: NDArray[np.uint16], stations: Stations) -> "RailNetwork":
        """The network of a map.

        Args:
            grid: ``[height, width]``, flatland's transitions.
            stations: at least one; all their cells are track.
        """
        # places of an option follow each other
        found = [
            (station, (row, column, direction))
            for station, cells in enumerate(stations.cells)
            for direction in range(4)
            for row, column in cells
            if exits_of(int(grid[row, column]), direction)
        ]
        places = np.array([place for _, place in found], dtype=np.int64).reshape(-1, 3)
        station_of = np.array([station for station, _ in found], dtype=np.int64)
        first = np.flatnonzero(np.diff(station_of * 4 + places[:, 2], prepend=-1))
        moves = np.empty((len(places), len(places)))
        for number, place in enumerate(places):
            moves[:, number] = distances_to(grid, np.array([(0, *place)], dtype=np.int64))[tuple(places.T)]
        n = len(stations.cells)
        station_moves = np.full((n, n), np.inf)
        np.minimum.at(station_moves, (station_of[:, None], station_of[None, :]), moves)
        np.fill_diagonal(station_moves, np.inf)
        place_of = {place: number for number, (_, place) in enumerate(found)}
        tracks = [
            [[place_of[(*cell, d)] for d in range(4) if (*cell, d) in place_of] for cell in cells]
            for cells in stations.cells
        ]
        return cls(
            places=[place for _, place in found],
            place_of=place_of,
            tracks=tracks,
            options=[part.tolist() for part in np.split(np.arange(len(places)), first[1:])],
            station_of_option=station_of[first],
            moves=moves.tolist(),
            option_moves=_farthest(np.minimum.reduceat(moves, first, axis=1), first),
            station_moves=station_moves,
        )

    @property
    def n_stations(self) -> int:
        """How many stations there are."""
        return len(self.tracks)

    def options_of(self, station: int) -> list[Places]:
        """The places of a station, those of each direction of travel together."""
        return [self.options[option] for option in np.flatnonzero(self.station_of_option == station)]

    def leg(self, alternatives: Places, following: Places) -> float:
        """Cells from one stop to the next, from whichever alternative it is farthest, to the nearest of the next.

        Alternatives from which no way leads on do not count; infinite where there is no other.
        """
        nearest = (self.nearest(place, following) for place in alternatives)
        return max((way for way in nearest if way < math.inf), default=math.inf)

    def nearest(self, place: int, following: Places) -> float:
        """Cells from a place to the nearest of others."""
        row = self.moves[place]
        return min(row[other] for other in following)

    def between_tracks(self, start: Places, target: Places) -> float:
        """Cells from one track to another, in the best directions."""
        return min(self.nearest(place, target) for place in start)


def _farthest(nearest: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    """The largest finite value of each group of rows that begins at ``first``; infinite where there is none."""
    farthest = np.maximum.reduceat(np.where(np.isfinite(nearest), nearest, -np.inf), first, axis=0)
    return np.where(np.isfinite(farthest), farthest, np.inf)
