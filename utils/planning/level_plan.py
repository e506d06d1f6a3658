"""``LevelPlan``: the plan of a level in space and time, kept up to date while the level is played."""

import pickle
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from utils.planning.order_keeping import keep_order
from utils.planning.plan_costs import fill_costs, has_costly_stops
from utils.planning.plan_legs import UNREACHABLE
from utils.planning.plan_play import fill_actions, place_trains, read_trains
from utils.planning.plan_search import improve_plans, plan_all, price_plans
from utils.planning.plan_tables import (
    AFTER,
    AT_VISIT,
    DUE,
    ENTER,
    FIRST,
    HAS_ARRIVED,
    KEY,
    MAX_EXPANSIONS,
    N_EXPANSIONS,
    N_LEGS,
    N_PATH_SEARCHES,
    NEXT,
    NO_VISIT,
    NOBODY,
    PLANNED_ARRIVAL,
    TRAIN,
    UNITS,
    UNITS_A_STEP,
    cells_from_start,
    tables_of,
)
from utils.simulator.rail_state import RailState
from utils.system.compiled import Arrays
from utils.system.seeds import Stream, seed_sequence

Clock = Callable[[], float]

_SLICE = 0.02  # seconds of search from one look at the clock to the next
_EXPANSIONS_A_SECOND = 500_000.0  # a first guess
_ROUNDS_A_SLICE = 1000
_NO_LIMIT = 2**60  # expansions
_TRIES = 10  # to plan all trains that are on the map


class LevelPlan:
    """A plan for all trains of a level.

    Usage, at each step of the level::

        if not plan.follow():  # the trains are not where the plan leads
            ...
        if plan.is_late:
            plan.keep_order()
            plan.search(seconds=1.0, n_rounds=1000)
        simulator.step(plan.actions())

    Args:
        state: the level; it is read again by each ``follow``.
        seed: of the search.
        completion_weight: what the arrival of all trains counts beside the normalized score.
        clock: seconds.

    Attributes:
        tables: the fields of its ``PlanTables``, to be read only.
        cells: int32 [height, width], the numbers of the rail cells, see ``rail_keys``.
        is_late: whether something has happened since the plan was made that it did not reckon with: a train was
            late, or has broken down.
        is_in_order: whether no train had come to its cell before its turn at the last ``follow``: it may, where others
            choose the actions.

    Raises:
        ValueError: the level is too large.
    """

    def __init__(
        self, state: RailState, seed: int = 0, completion_weight: float = 0.3, clock: Clock = time.perf_counter
    ) -> None:
        self._state, self._clock = state, clock
        self._tables, self.cells = tables_of(state)
        self.tables: Arrays = tuple(self._tables)
        self._random = seed_sequence(seed, Stream.PLANNING).generate_state(1, np.uint64).astype(np.int64)
        self._speed = _EXPANSIONS_A_SECOND
        self._tables.counts[MAX_EXPANSIONS] = _NO_LIMIT
        fill_costs(self._tables, state.reward_weights, completion_weight)
        self._changing: Arrays = self._tables.visits, self._tables.trains, self._tables.counts, self._random
        self._blank = [table.copy() for table in self._changing]
        self._begin()

    def _begin(self) -> None:
        self.is_late = False
        place_trains(self._state.arrays, self.cells, self._state.elapsed_steps, self.tables)
        self.follow()

    def begin_again(self) -> bool:
        """Forget all plans, for others from the present state on: the same as a new ``LevelPlan``, in less time.

        Returns:
            Whether that can be. Where trains have stops to serve it cannot: a new one knows which are served.
        """
        tables = self._tables
        if (tables.trains[N_LEGS] > 1).any():
            return False
        n_searches = int(tables.counts[N_PATH_SEARCHES])  # counts on, for old entries of ``search`` not to count as new
        for table, blank in zip(self._changing, self._blank, strict=True):
            table[:] = blank
        tables.counts[N_PATH_SEARCHES] = n_searches
        self._begin()
        return True

    def make(self) -> bool:
        """Plan all trains that have no plan, those with the least time to spare first.

        Returns:
            Whether each train on the map has a plan now: trains off the map may stay there, trains on it may not.
        """
        trains = self._tables.trains
        cells = cells_from_start(self._tables)
        spare = trains[DUE] - cells * trains[UNITS] // trains[UNITS_A_STEP]
        order = np.argsort(spare, kind="stable")
        n_stranded, n_tries = plan_all(self.tables, order), 1
        # a train that stands in another's way is out of it once it is planned, so what fails may go well the next time
        while n_stranded > 0 and n_tries < _TRIES:
            n_stranded, n_tries = plan_all(self.tables, order), n_tries + 1
        price_plans(self.tables)
        self.is_late = False
        return bool(n_stranded == 0)

    def follow(self) -> bool:
        """Read the state after a step; returns whether all trains are where the plan leads."""
        now = self._state.elapsed_steps
        on_way, in_time, self.is_in_order = read_trains(self._state.arrays, self.cells, now, self.tables)
        self.is_late = self.is_late or not in_time
        return bool(on_way)

    def keep_order(self) -> bool:
        """Give all trains the earliest times that keep the planned order, from the present state on.

        Returns:
            Whether all trains that have a plan can follow it; anything else would be a fault of the plan.
        """
        kept = keep_order(self.tables, self._state.elapsed_steps + 1)
        price_plans(self.tables)
        self.is_late = False
        return bool(kept)

    def search(self, seconds: float, n_rounds: int) -> float:
        """Improve the plan by large-neighbourhood search; see ``plan_search``.

        It ends early when every train is on time. The same rounds are played each time, as long as the seconds
        suffice for them.

        Args:
            seconds: most that it may take; a round that is not done by then is undone.
            n_rounds: most rounds.

        Returns:
            The seconds that it took.
        """
        counts, began = self._tables.counts, self._clock()
        now = began
        while n_rounds > 0 and now - began < seconds and not self._all_are_on_time():
            left, before = seconds - (now - began), int(counts[N_EXPANSIONS])
            # Compiled code has no clock: it gets as much work as fits into the time.
            counts[MAX_EXPANSIONS] = before + int(min(self._speed * left, _NO_LIMIT)) + 1
            in_slice = int(self._speed * min(left, _SLICE)) + 1
            n_rounds -= improve_plans(self.tables, self._random, min(n_rounds, _ROUNDS_A_SLICE), in_slice)
            began_slice, now = now, self._clock()
            if now > began_slice:
                self._speed = (self._speed + (int(counts[N_EXPANSIONS]) - before) / (now - began_slice)) / 2
        counts[MAX_EXPANSIONS] = _NO_LIMIT
        self.keep_order()
        return now - began

    def play_rounds(self, n_rounds: int) -> None:
        """Improve the plan by a number of rounds of that search; the same plan comes of it on any machine."""
        improve_plans(self.tables, self._random, n_rounds, _NO_LIMIT)
        self.keep_order()

    def packed(self) -> bytes:
        """What was planned, for ``take_over`` of another plan of the same level in the same state.

        Of the tables only what planning has changed is there; the rest, by far the most, follows from the level.
        """
        visits, *others = self._changing
        (changed,) = np.nonzero((visits[:, TRAIN] != NOBODY) | (visits[:, AFTER] != NO_VISIT))
        return pickle.dumps((changed.astype(np.int32), visits[changed], *others, self._tables.own_costs))

    def take_over(self, packed: bytes) -> None:
        """Goes on from what another one has planned, instead of ``make``."""
        changed, visits, *others = pickle.loads(packed)
        self._tables.visits[changed] = visits
        for table, planned in zip((*self._changing[1:], self._tables.own_costs), others, strict=True):
            table[:] = planned

    def _all_are_on_time(self) -> bool:
        """Whether the plan brings every train home in time that has a way: then there is nothing to be gained."""
        trains = self._tables.trains
        by = np.minimum(trains[DUE], self._state.max_episode_steps)
        on_time = (trains[PLANNED_ARRIVAL] <= by) & ~has_costly_stops(self._tables)
        return bool((on_time | (trains[HAS_ARRIVED] == 1) | ~self.has_way).all())

    def actions(self) -> NDArray[np.int64]:
        """What the trains do in the next step, int64 [trains]."""
        actions = np.empty(self._state.n_trains, dtype=np.int64)
        fill_actions(self._state.arrays, self.cells, self._state.elapsed_steps, self.tables, actions)
        return actions

    @property
    def arrivals(self) -> NDArray[np.int64]:
        """The steps of the planned arrivals, int64 [trains]; ``plan_tables.NEVER`` for trains that have no plan."""
        return self._tables.trains[PLANNED_ARRIVAL].copy()

    @property
    def has_way(self) -> NDArray[np.bool_]:
        """Whether each train could reach its target if it were alone, bool [trains]."""
        return cells_from_start(self._tables) < UNREACHABLE

    def ways(self) -> list[NDArray[np.int64]]:
        """The planned way of each train from where it is now.

        Returns:
            For each train int64 [visits, 2]: 4 x (row x columns + column) + direction, and the step in which the
            train enters there.
        """
        grid_keys = (4 * np.flatnonzero(self.cells >= 0)[:, None] + np.arange(4)).ravel()  # of the rail keys
        visits, ways = self._tables.visits, []
        for at, first in self._tables.trains[[AT_VISIT, FIRST]].T:
            visit, steps = first if at == NO_VISIT else at, []
            while visit != NO_VISIT:
                steps.append((grid_keys[visits[visit, KEY]], visits[visit, ENTER]))
                visit = visits[visit, NEXT]
            ways.append(np.array(steps, dtype=np.int64).reshape(-1, 2))
        return ways
