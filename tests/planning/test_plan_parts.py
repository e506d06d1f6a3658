"""Parts of the planner by themselves: what a plan may cost, which trains are planned anew, lists that are put back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import sparse_env
from utils.planning.level_plan import LevelPlan
from utils.planning.plan_costs import cost_of_arrival, last_affordable
from utils.planning.plan_search import CHOSEN, choose_trains
from utils.planning.plan_tables import (
    AFTER,
    FIRST,
    HAS_ARRIVED,
    N_ROUNDS,
    NEVER,
    NO_VISIT,
    PLANNED_ARRIVAL,
    PlanTables,
    put_back_path,
    take_out_path,
)
from utils.simulator.compiled_simulator import CompiledSimulator


def tables(seed: int = 2, n_trains: int = 12) -> PlanTables:
    """Those of a level with a plan."""
    simulator = CompiledSimulator.from_env(sparse_env(seed, n_trains, malfunction_rate=0.0))
    plan = LevelPlan(simulator.state)
    assert plan.make()
    return plan._tables


LEVEL = tables()


@settings(max_examples=50, deadline=None)
@given(handle=st.integers(0, 11), most=st.floats(-1, 500))
def test_the_last_affordable_arrival(handle: int, most: float) -> None:
    """Against trying all steps."""
    last_step = LEVEL.costs.shape[1] - 1
    affordable = [step for step in range(last_step + 2) if cost_of_arrival(handle, step, LEVEL) <= most]
    last = last_affordable(handle, most, LEVEL)
    if not affordable:
        assert last == -1
    elif affordable[-1] == last_step + 1:
        assert last > last_step
    else:
        assert last == affordable[-1]


def test_later_arrivals_cost_more_and_staying_away_costs_more_than_being_late() -> None:
    for handle in range(12):
        costs = [cost_of_arrival(handle, step, LEVEL) for step in range(1, LEVEL.costs.shape[1] + 3)]
        assert (np.diff(costs) > 0).all()
        assert cost_of_arrival(handle, NEVER, LEVEL) > cost_of_arrival(handle, 1, LEVEL)


@pytest.mark.filterwarnings("ignore:overflow")  # of the generator of random numbers, which is meant
def test_trains_that_are_planned_anew_are_different_ones_under_way() -> None:
    level = tables(seed=3, n_trains=20)
    level.trains[HAS_ARRIVED, :5] = 1
    random, sizes = np.array([7], dtype=np.int64), set()
    for _ in range(60):
        level.counts[N_ROUNDS] += 1
        n_chosen = choose_trains(random, level)
        chosen = level.chosen[CHOSEN, :n_chosen].tolist()
        assert len(set(chosen)) == n_chosen
        assert min(chosen) >= 5
        sizes.add(n_chosen)
    assert min(sizes) >= 1
    assert max(sizes) == 8


@settings(max_examples=20, deadline=None)
@given(chosen=st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True))
def test_what_is_taken_out_is_put_back_where_it_was(chosen: list[int]) -> None:
    def lists() -> list[list[int]]:
        found = []
        for visit in range(2 * int(LEVEL.tracks.shape[0] // 4)):
            found.append([])
            after = LEVEL.visits[visit, AFTER]
            while after != NO_VISIT:
                found[-1].append(int(after))
                after = LEVEL.visits[after, AFTER]
        return found

    before = lists()
    rows = LEVEL.trains[[FIRST, PLANNED_ARRIVAL]]
    for handle in chosen:
        take_out_path(handle, LEVEL)
    assert sum(map(len, lists())) < sum(map(len, before)) or (rows[1, chosen] == NEVER).all()
    for handle in reversed(chosen):
        put_back_path(handle, LEVEL)
    assert lists() == before
    np.testing.assert_array_equal(LEVEL.trains[[FIRST, PLANNED_ARRIVAL]], rows)
