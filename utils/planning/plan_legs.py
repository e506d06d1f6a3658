"""The way of a train in legs: from one intermediate stop to the next, and from the last one to its target.

A train may serve a stop in any of a few places. What a leg knows of the rails is the number of cells still to go from
each rail key by one of the places of each stop in turn, so that a search is led by all that lies ahead.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_rewards import COLLISION_FACTOR, NOT_SERVED_PENALTY
from utils.simulator.rail_state import RailState
from utils.system.compiled import compiled

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
    N_LEG_ROWS,
) = range(8)

_N_BEFORE = 4  # a rail key follows on at most as many others


class Legs(NamedTuple):
    """The legs of all trains.

    Attributes:
        to_go: int32 [rows, keys], cells still to go on a leg and all that follow; ``UNREACHABLE`` where there is no
            way. Trains with the same stops and target share their rows.
        legs: int32 [N_LEG_ROWS, legs].
        places: int32 [places], rail keys where stops are served.
        first_leg: int64 [trains], column of ``legs``.
        n_legs: int64 [trains], 1 without stops.
    """

    to_go: NDArray[np.int32]
    legs: NDArray[np.int32]
    places: NDArray[np.int32]
    first_leg: NDArray[np.int64]
    n_legs: NDArray[np.int64]


@compiled
def _keys_before(onward: np.ndarray) -> np.ndarray:
    """The rail keys that each rail key follows on, int32 [keys, 4]; -1 where there are no more."""
    before = np.full((onward.shape[0], _N_BEFORE), -1, dtype=np.int32)
    n_before = np.zeros(onward.shape[0], dtype=np.int32)
    for key in range(onward.shape[0]):
        for n in range(onward.shape[1]):
            to_key = onward[key, n]
            if to_key >= 0:
                before[to_key, n_before[to_key]] = key
                n_before[to_key] += 1
    return before


@compiled
def _fill_to_go(before: np.ndarray, goals: np.ndarray, rest: np.ndarray, is_end: np.ndarray, to_go: np.ndarray) -> None:
    """Fill ``to_go``, int32 [keys], with the fewest cells to a goal and on from there.

    Args:
        before: see ``_keys_before``.
        goals: rail keys.
        rest: int32 [goals], cells from each goal on.
        is_end: bool [keys], where the way would be over too early.
    """
    to_go[:] = UNREACHABLE
    queue = np.empty(to_go.shape[0], dtype=np.int32)
    first, end, n_goals_left = 0, 0, goals.shape[0]
    cells = rest.min()
    while first < end or n_goals_left > 0:
        for n in range(goals.shape[0]):
            if rest[n] == cells:
                n_goals_left -= 1
                if to_go[goals[n]] > cells:
                    to_go[goals[n]] = cells
                    queue[end] = goals[n]
                    end += 1
        end_of_ring = end
        while first < end_of_ring:
            key = queue[first]
            first += 1
            for n in range(_N_BEFORE):
                from_key = before[key, n]
                if from_key >= 0 and not is_end[from_key] and to_go[from_key] > cells + 1:
                    to_go[from_key] = cells + 1
                    queue[end] = from_key
                    end += 1
        cells += 1


_Name = tuple[tuple[int, ...], ...]
"""What a row of ``to_go`` is known by: the places of each stop in turn, then the target."""


class _LegMaker:
    """Makes each row of ``to_go`` once.

    Args:
        cells, onward: see ``legs_of``.
        can_serve: bool [keys], where a stop may be served.
    """

    def __init__(
        self, state: RailState, cells: NDArray[np.int32], onward: NDArray[np.int32], can_serve: NDArray[np.bool_]
    ) -> None:
        self.rows: list[NDArray[np.int32]] = []
        self._numbers: dict[_Name, int] = {}
        self._state = state
        self._has_rail = np.nonzero(cells >= 0)
        self._can_serve = can_serve
        self._before = _keys_before(np.ascontiguousarray(onward))

    def to_target(self, handle: int) -> tuple[int, _Name]:
        """The row of the leg to a train's target, and what it is known by."""
        state = self._state
        target = state.target_row[handle], state.target_column[handle], state.target_directions[handle]
        name = (tuple(int(part) for part in target),)
        if name not in self._numbers:
            distances = state.distance_map[handle][self._has_rail].ravel()
            self._add(name, np.where(np.isfinite(distances), distances, UNREACHABLE).astype(np.int32))
        return self._numbers[name], name

    def by_places(self, places: list[int], name: _Name) -> tuple[int, _Name]:
        """The row of a leg that leads to one of some places and goes on as another row does."""
        name_before = (tuple(places), *name)
        if name_before not in self._numbers:
            rest = self.rows[self._numbers[name]]
            to_go = np.empty_like(rest)
            _fill_to_go(self._before, np.array(places, dtype=np.int32), rest[places], self._is_target(name), to_go)
            self._add(name_before, to_go)
        return self._numbers[name_before], name_before

    def that_lead_on(self, places: list[int], name: _Name) -> list[int]:
        """The places where a train may stop and go on by the row of that name."""
        rest, is_target = self.rows[self._numbers[name]], self._is_target(name)
        return [key for key in places if self._can_serve[key] and rest[key] < UNREACHABLE and not is_target[key]]

    def _is_target(self, name: _Name) -> NDArray[np.bool_]:
        is_target: NDArray[np.bool_] = self.rows[self._numbers[name[-1:]]] == 0
        return is_target

    def _add(self, name: _Name, to_go: NDArray[np.int32]) -> None:
        self._numbers[name] = len(self.rows)
        self.rows.append(to_go)


def legs_of(
    state: RailState,
    weights: NDArray[np.float64],
    cells: NDArray[np.int32],
    onward: NDArray[np.int32],
    cannot_stop: NDArray[np.bool_],
    stops_cost: bool,
) -> Legs:
    """The legs of all trains of a level, from the first stop on that is not served yet.

    Left out are stops that a train can never serve on its way to its target, and all stops where it does not pay to
    serve any.

    Args:
        state: the level.
        weights: the parameters of its rewards, see ``rail_rewards``.
        cells: int32 [height, width], the numbers of the rail cells.
        onward: int32 [keys, 3], the rail keys that come next; -1 where there are no more.
        cannot_stop: bool [keys], where a stop is a collision.
        stops_cost: whether each stop is a collision, see ``flatland_versions``.
    """
    stops, collision, not_served = state.stops, weights[COLLISION_FACTOR], weights[NOT_SERVED_PENALTY]
    pays = not_served > 0 and not (stops_cost and collision >= not_served)
    maker = _LegMaker(state, cells, onward, np.logical_or(collision <= 0, ~cannot_stop))
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
