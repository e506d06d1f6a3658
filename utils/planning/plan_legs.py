"""The way of a train in legs: from one intermediate stop to the next, and from the last one to its target.

A train may serve a stop in any of a few places. What a leg knows of the rails is the number of cells still to go from
each rail key by one of the places of each stop in turn, so that a search is led by all that lies ahead.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_distances import distances_to
from utils.simulator.rail_rewards import COLLISION_FACTOR, NOT_SERVED_PENALTY
from utils.simulator.rail_state import RailState
from utils.simulator.stops import without_way_through

UNREACHABLE = 2**29  # cells to a target that cannot be reached

# Rows of ``legs``; the columns are those of the first train, then those of the second, and so on.
(
    TO_GO_ROW,  # of ``to_go``
    REST,  # the fewest cells from a place of the stop at the end of the leg to the target
    SOONEST,  # the earliest step in which a train can come to its target that has not served the stop
    LATEST,  # the step by which it should be at the stop
    EARLIEST,  # the step from which it may leave it
    FIRST_PLACE,  # of the stop, in ``places``
    END_OF_PLACES,
) = range(7)


class Legs(NamedTuple):
    """The legs of all trains. Trains with the same stops and target share their rows of ``to_go``."""

    to_go: NDArray[np.int32]  # [rows, keys], cells to go on a leg and all that follow; UNREACHABLE without a way
    legs: NDArray[np.int32]  # [7, legs], see above
    places: NDArray[np.int32]  # [places], rail keys where stops are served
    first_leg: NDArray[np.int64]  # [trains], column of ``legs``
    n_legs: NDArray[np.int64]  # [trains], 1 without stops


_Name = tuple[tuple[int, ...], ...]
"""What a row of ``to_go`` is known by: the places of each stop in turn, then the target."""


class _LegMaker:
    """Makes each row of ``to_go`` once.

    Args:
        cells: see ``legs_of``.
        can_serve: bool [keys], where a stop may be served.
    """

    def __init__(self, state: RailState, cells: NDArray[np.int32], can_serve: NDArray[np.bool_]) -> None:
        self.rows: list[NDArray[np.int32]] = []
        self._numbers: dict[_Name, int] = {}
        self._state = state
        self._cells = np.nonzero(cells >= 0)
        self._can_serve = can_serve

    def to_target(self, handle: int) -> tuple[int, _Name]:
        """The row of the leg to a train's target, and what it is known by."""
        state = self._state
        target = state.target_row[handle], state.target_column[handle], state.target_directions[handle]
        name = (tuple(int(part) for part in target),)
        if name not in self._numbers:
            self._add(name, state.distance_map[handle])
        return self._numbers[name], name

    def by_places(self, places: list[int], name: _Name) -> tuple[int, _Name]:
        """The row of a leg that leads to one of some places and goes on as another row does."""
        name_before = (tuple(places), *name)
        if name_before not in self._numbers:
            rest, (rows, columns) = self.rows[self._numbers[name]], self._cells
            goals = sorted((int(rest[key]), int(rows[key // 4]), int(columns[key // 4]), key % 4) for key in places)
            grid = without_way_through(self._state.grid, *name[-1])  # who comes to the target comes to no stop
            self._add(name_before, distances_to(grid, np.array(goals, dtype=np.int64)))
        return self._numbers[name_before], name_before

    def that_lead_on(self, places: list[int], name: _Name) -> list[int]:
        """The places where a train may stop and go on by the row of that name, without being at its target."""
        rest = self.rows[self._numbers[name]]
        return [key for key in places if self._can_serve[key] and 0 < rest[key] < UNREACHABLE]

    def _add(self, name: _Name, distances: NDArray[np.float64]) -> None:
        to_go = distances[self._cells].ravel()
        self._numbers[name] = len(self.rows)
        self.rows.append(np.where(np.isfinite(to_go), to_go, UNREACHABLE).astype(np.int32))


def legs_of(state: RailState, cells: NDArray[np.int32], cannot_stop: NDArray[np.bool_]) -> Legs:
    """The legs of all trains of a level, from the first stop on that is not served yet.

    Left out are stops that a train can never serve on its way to its target, and all stops where it does not pay to
    serve any.

    Args:
        state: the level.
        cells: int32 [height, width], the numbers of the rail cells.
        cannot_stop: bool [keys], where a stop is a collision.
    """
    stops = state.stops
    collision, not_served = state.reward_weights[[COLLISION_FACTOR, NOT_SERVED_PENALTY]]
    pays = not_served > 0 and state.goes_to_stops
    maker = _LegMaker(state, cells, np.logical_or(collision <= 0, ~cannot_stop))
    keys = (4 * cells[stops.places[:, 0], stops.places[:, 1]] + stops.places[:, 2]).tolist()
    columns: list[list[int]] = []
    places: list[int] = []
    first_leg, n_legs = [], []
    for handle in range(state.n_trains):
        row, name = maker.to_target(handle)
        legs = [[row, 0, 0, int(state.latest_arrival[handle]), 0, 0, 0]]
        first, end = int(stops.first_stop[handle] + state.next_stop[handle]), int(stops.first_stop[handle + 1])
        for stop in range(end - 1, first - 1, -1) if pays else ():
            served_at = maker.that_lead_on(keys[stops.first_place[stop] : stops.first_place[stop + 1]], name)
            if not served_at:
                continue
            rest = min(int(maker.rows[row][key]) for key in served_at)
            run = max(rest - 1, 0) * int(state.denominator[handle]) // int(state.max_speed[handle])
            earliest = int(stops.earliest_departure[stop])
            soonest = max(legs[0][SOONEST], earliest + run + len(legs) - 1)
            row, name = maker.by_places(served_at, name)
            latest, first_place = int(stops.latest_arrival[stop]), len(places)
            places += served_at
            legs.insert(0, [row, rest, soonest, latest, earliest, first_place, len(places)])
        first_leg.append(len(columns))
        n_legs.append(len(legs))
        columns += legs
    return Legs(
        to_go=np.stack(maker.rows),
        legs=np.array(columns, dtype=np.int32).T.copy(),
        places=np.array(places, dtype=np.int32),
        first_leg=np.array(first_leg, dtype=np.int64),
        n_legs=np.array(n_legs, dtype=np.int64),
    )
