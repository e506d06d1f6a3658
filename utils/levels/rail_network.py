"""How far it is from each place where a train may stop to each other: all that lines and timetables ask of a map."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from utils.levels.fast_reset import distances_to
from utils.levels.stations import Cell, Stations
from utils.simulator.rail_grid import exits_of

Configuration = tuple[int, int, int]
"""Row, column and direction of travel."""


@dataclass(frozen=True)
class RailNetwork:
    """The stations of a map and the shortest ways between them.

    A *place* is the number of a cell of a station in a direction of travel.

    Attributes:
        places: int64 ``[places, 3]``, row, column and direction.
        station_of: int64 ``[places]``.
        moves: float64 ``[places, places]``, cells from one to the other; infinite where no way leads.
        station_moves: float64 ``[stations, stations]``, the shortest way between their places; infinite to itself.
        place_of: the number of each place.
    """

    places: NDArray[np.int64]
    station_of: NDArray[np.int64]
    moves: NDArray[np.float64]
    station_moves: NDArray[np.float64]
    place_of: dict[Configuration, int] = field(repr=False)

    @classmethod
    def of(cls, grid: NDArray[np.uint16], stations: Stations) -> "RailNetwork":
        """The network of a map.

        Args:
            grid: ``[height, width]``, flatland's transitions.
            stations: at least one; all their cells are track.
        """
        found = [
            (station, (row, column, direction))
            for station, cells in enumerate(stations.cells)
            for row, column in cells
            for direction in range(4)
            if exits_of(int(grid[row, column]), direction)
        ]
        places = np.array([place for _, place in found], dtype=np.int64).reshape(-1, 3)
        station_of = np.array([station for station, _ in found], dtype=np.int64)
        moves = np.empty((len(places), len(places)))
        for number in range(len(places)):
            moves[:, number] = distances_to(grid, places[number : number + 1])[tuple(places.T)]
        n = len(stations.cells)
        station_moves = np.full((n, n), np.inf)
        np.minimum.at(station_moves, (station_of[:, None], station_of[None, :]), moves)
        np.fill_diagonal(station_moves, np.inf)
        place_of = {place: number for number, (_, place) in enumerate(found)}
        return cls(places, station_of, moves, station_moves, place_of)

    @property
    def n_stations(self) -> int:
        """How many stations there are."""
        return len(self.station_moves)

    @property
    def longest_way(self) -> float:
        """The most cells from a place to the nearest of another station that can be reached; 0 where none can."""
        apart = np.isfinite(self.moves) & (self.station_of[:, None] != self.station_of[None, :])
        return float(self.moves[apart].max(initial=0.0))

    def options(self, station: int) -> list[list[int]]:
        """The places of a station, those of each direction of travel together."""
        places = np.flatnonzero(self.station_of == station)
        directions = self.places[places, 2]
        return [places[directions == direction].tolist() for direction in np.unique(directions)]

    def on_cell(self, cell: Cell) -> list[int]:
        """The places of a cell."""
        found = (self.place_of.get((*cell, direction)) for direction in range(4))
        return [place for place in found if place is not None]

    def leg(self, alternatives: list[int], following: list[int]) -> float:
        """Cells from one stop to the next, from whichever alternative it is farthest, to the nearest of the next.

        Alternatives from which no way leads on do not count; infinite where there is no other.
        """
        nearest = self.moves[np.ix_(alternatives, following)].min(axis=1)
        nearest = nearest[np.isfinite(nearest)]
        return float(nearest.max()) if len(nearest) else np.inf
