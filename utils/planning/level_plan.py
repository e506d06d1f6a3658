"""``LevelPlan``: the plan of a level, from the first step to the last."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from utils.planning.order_keeping import keep_order
from utils.planning.plan_costs import fill_costs
from utils.planning.plan_play import fill_actions, read_trains
from utils.planning.plan_search import improve_plans, plan_all, price_plans
from utils.planning.plan_tables import (
    ARRIVAL,
    AT,
    ENTER,
    FIRST,
    KEY,
    LATEST_ARRIVAL,
    MAX_EXPANSIONS,
    N_EXPANSIONS,
    NEXT,
    NO_VISIT,
    READY,
    SPEED,
    START,
    UNITS,
    tables_of,
)
from utils.simulator.rail_state import RailState

Clock = Callable[[], float]
COMPLETION_WEIGHT = 0.3
_SLICE = 0.02  # seconds of search between two looks at the clock
_EXPANSIONS_A_SECOND = 500_000.0  # a first guess


class LevelPlan:
    """A plan in space and time for all trains of a level, kept up to date while it is played.

    Before each step: ``update``, where it says so ``replan``, then ``actions``.
    """

    def __init__(
        self,
        state: RailState,
        weights: NDArray[np.float64],
        seed: int = 0,
        completion_weight: float = COMPLETION_WEIGHT,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._state = state
        self._clock = clock
        self.tables, self._cells = tables_of(state, weights)
        self._arrays = tuple(self.tables)
        fill_costs(self.tables, weights, completion_weight)
        self._random = np.array([seed * 2 + 1], dtype=np.int64)
        self._speed = _EXPANSIONS_A_SECOND
        self.tables.counts[MAX_EXPANSIONS] = np.iinfo(np.int64).max
        self.n_rounds = 0
        read_trains(state.arrays, self._cells, state.elapsed_steps, self._arrays)

    def make(self) -> bool:
        """The first plan, by prioritised planning: trains with the least time to spare first."""
        trains = self.tables.trains
        cells = self.tables.to_go[np.arange(self._state.n_trains), trains[START]]
        spare = trains[LATEST_ARRIVAL] - cells * trains[UNITS] // trains[SPEED]
        n_missing = plan_all(self._arrays, np.argsort(spare, kind="stable"))
        price_plans(self._arrays)
        return int(n_missing) == 0

    def update(self) -> tuple[bool, bool]:
        """Read the state after a step: whether all trains are on their ways, and in time."""
        on_way, in_time = read_trains(self._state.arrays, self._cells, self._state.elapsed_steps, self._arrays)
        return bool(on_way), bool(in_time)

    def keep_order(self) -> bool:
        """The earliest times that keep the order, from the present state on."""
        kept = keep_order(self._arrays, self._state.elapsed_steps + 1)
        price_plans(self._arrays)
        return bool(kept)

    def search(self, seconds: float, n_rounds: int) -> float:
        """Large-neighbourhood search; returns by how much the plan costs less."""
        counts, gained, left = self.tables.counts, 0.0, n_rounds
        began = now = self._clock()
        while left > 0 and now - began < seconds:
            spare = seconds - (now - began)
            before = int(counts[N_EXPANSIONS])
            counts[MAX_EXPANSIONS] = before + int(self._speed * spare) + 1
            n_played, gain = improve_plans(
                self._arrays, self._random, min(left, 1000), int(self._speed * min(spare, _SLICE)) + 1
            )
            gained += gain
            left -= n_played
            self.n_rounds += n_played
            passed = self._clock() - now
            now += passed
            if passed > 0:
                self._speed = 0.5 * self._speed + 0.5 * (int(counts[N_EXPANSIONS]) - before) / passed
        counts[MAX_EXPANSIONS] = np.iinfo(np.int64).max
        return gained

    def actions(self) -> NDArray[np.int64]:
        """An action for each train, int64 ``[trains]``."""
        actions = np.empty(self._state.n_trains, dtype=np.int64)
        fill_actions(self._state.arrays, self._cells, self._state.elapsed_steps, self._arrays, actions)
        return actions

    @property
    def arrivals(self) -> NDArray[np.int64]:
        """The planned arrivals, int64 [trains]; ``NEVER`` for trains without a plan."""
        return self.tables.trains[ARRIVAL].copy()
