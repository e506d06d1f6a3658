"""Plans in space and time: true to the simulator, free of conflicts, and kept whatever breaks."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import DefaultRewards, ECML2026Rewards
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import EAST, FOUR_SPEEDS, NORTH, ONE_SPEED, SOUTH, WEST, drawn_env, sparse_env
from tests.planning.plan_checks import check_stops, check_ways, earliest_arrival
from utils.planning import level_plan, plan_costs
from utils.planning.level_plan import LevelPlan
from utils.planning.plan_search import price_plans
from utils.planning.plan_tables import N_LEGS, N_ROUNDS, NEVER
from utils.simulator import halts
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_grid import STOP_MOVING
from utils.simulator.rail_rewards import COLLISION_FACTOR, NOT_SERVED_PENALTY
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.state_arrays import DONE, MOVING, STOPPED

QUIET = {"malfunction_rate": 0.0}
WITH_STOPS = {"n_cities": 3, "line_length": 3}
LINES = st.sampled_from([{}, WITH_STOPS])
SEEDS = st.integers(0, 10_000)


def level_env(*args: object, **options: object) -> RailEnv:
    """A level of the sparse generator, which fails where a map has come to hold fewer stations than lines have."""
    try:
        return sparse_env(*args, **options)
    except IndexError:
        reject()


def begun(simulator: CompiledSimulator, n_rounds: int = 50, **options: object) -> LevelPlan:
    """A plan of a level that is searched for some rounds."""
    plan = LevelPlan(simulator.state, **options)
    assert plan.make()
    plan.search(1e9, n_rounds)
    return plan


def keep_up(plan: LevelPlan, n_rounds: int) -> None:
    """What is to be done at each step."""
    assert plan.follow()
    if plan.is_late:
        assert plan.keep_order()
        plan.search(1e9, n_rounds)


def cost_of(plan: LevelPlan) -> float:
    """What the plan costs, in steps."""
    return float(price_plans(plan.tables))


class TestPlans:
    @settings(max_examples=12, deadline=None)
    @given(
        seed=SEEDS,
        n_trains=st.integers(1, 25),
        level_free=st.sampled_from([0.0, 1.0]),
        collisions=st.booleans(),
        lines=LINES,
    )
    def test_no_two_trains_are_in_each_others_way_and_all_serve_their_stops(
        self, seed: int, n_trains: int, level_free: float, collisions: bool, lines: dict[str, int]
    ) -> None:
        rewards = ECML2026Rewards() if collisions else DefaultRewards()
        env = level_env(seed, n_trains, p_level_free=level_free, rewards=rewards, **lines)
        simulator = CompiledSimulator.from_env(env)
        plan = LevelPlan(simulator.state, seed)
        assert plan.make()
        check_ways(plan.ways(), simulator.state, headway=int(collisions))
        before = cost_of(plan)
        plan.search(1e9, 60)
        check_ways(plan.ways(), simulator.state, headway=int(collisions))
        check_stops(plan.ways(), simulator.state)
        assert cost_of(plan) <= before + 1e-6

    @pytest.mark.parametrize("seed", range(4))
    def test_a_train_is_planned_to_arrive_as_early_as_the_others_allow(self, seed: int) -> None:
        """Against breadth-first search in time, which waits for one step after the other."""
        simulator = CompiledSimulator.from_env(sparse_env(seed, 14, size=24, speeds=ONE_SPEED, **QUIET))
        state = simulator.state
        plan = LevelPlan(state)
        handles = np.arange(state.n_trains)
        spare = (
            state.latest_arrival
            - state.distance_map[handles, state.initial_row, state.initial_column, state.initial_direction]
        )
        assert plan.make()
        ways = plan.ways()
        n_planned = 0
        planned_before: list[int] = []
        for handle in np.argsort(spare, kind="stable"):
            best = earliest_arrival(handle, [ways[h] for h in planned_before], state, state.max_episode_steps)
            assert (NEVER if best is None else best) == plan.arrivals[handle]
            planned_before.append(handle)
            n_planned += best is not None
        assert n_planned > 5

    @settings(max_examples=8, deadline=None)
    @given(seed=SEEDS)
    def test_a_search_that_is_not_done_in_time_changes_nothing(self, seed: int) -> None:
        simulator = CompiledSimulator.from_env(sparse_env(seed, 20, **QUIET))
        plan = begun(simulator, n_rounds=10)
        ways = [way.tolist() for way in plan.ways()]
        assume(not plan._all_are_on_time())
        n_rounds = plan._tables.counts[N_ROUNDS]
        plan.search(1e-9, 5)  # a round begins, and is cut short at the first node of its search
        assert plan._tables.counts[N_ROUNDS] > n_rounds
        assert [way.tolist() for way in plan.ways()] == ways

    def test_the_same_each_time_and_another_search_with_another_seed(self) -> None:
        def ways(seed: int) -> list[list[int]]:
            plan = begun(CompiledSimulator.from_env(sparse_env(3, 25, **QUIET)), 200, seed=seed)
            return [way.tolist() for way in plan.ways()]

        assert ways(1) == ways(1)
        assert ways(1) != ways(2)

    def test_a_search_brings_more_trains_home(self) -> None:
        n_planned = []
        for n_rounds in (0, 300):
            plans = [begun(CompiledSimulator.from_env(sparse_env(s, 30, **QUIET)), n_rounds) for s in range(2)]
            n_planned.append(sum(int((plan.arrivals < NEVER).sum()) for plan in plans))
        assert n_planned[1] > n_planned[0]


class TestPlaying:
    @settings(max_examples=8, deadline=None)
    @given(
        seed=SEEDS,
        n_trains=st.integers(2, 24),
        lines=LINES,
        rewards=st.sampled_from(
            [
                DefaultRewards,
                ECML2026Rewards,
                partial(DefaultRewards, cancellation_factor=3, cancellation_time_buffer=7),
            ]
        ),
    )
    def test_without_malfunctions_flatland_ends_exactly_as_planned_and_costs_what_the_plan_does(
        self, seed: int, n_trains: int, lines: dict[str, int], rewards: Callable[[], DefaultRewards]
    ) -> None:
        simulator = FlatlandSimulator(level_env(seed, n_trains, rewards=rewards(), **lines, **QUIET))
        state, over, totals = simulator.state, False, np.zeros(simulator.state.n_trains)
        plan = LevelPlan(state, completion_weight=0.0)
        plan.make()
        plan.search(1e9, 50)
        arrivals, cost = plan.arrivals, cost_of(plan)
        while not over:
            assert plan.follow()
            assert not plan.is_late
            rewards_of_step, over = simulator.step(plan.actions())
            totals += rewards_of_step
        if simulator.clips_losses:
            totals = np.maximum(totals, -state.max_episode_steps)
        planned = arrivals < NEVER
        np.testing.assert_array_equal(state.state == DONE, planned)
        np.testing.assert_array_equal(state.arrival_time[planned], arrivals[planned])
        np.testing.assert_array_equal(state.next_stop[planned], np.diff(state.stops.first_stop)[planned])
        # apart from what makes earlier arrivals better among equal ones
        assert cost + totals.sum() == pytest.approx(0.0, abs=1e-3 * arrivals[planned].sum() + 1e-6)

    @settings(max_examples=15, deadline=None)
    @given(
        seed=SEEDS,
        n_trains=st.integers(2, 30),
        rate=st.sampled_from([1 / 20, 1 / 100, 1 / 400]),
        speeds=st.sampled_from([ONE_SPEED, FOUR_SPEEDS]),
        level_free=st.sampled_from([0.0, 1.0]),
        n_rounds=st.sampled_from([0, 30]),
        collisions=st.booleans(),
        lines=LINES,
    )
    def test_whatever_breaks_nobody_is_deadlocked_or_forced_to_stop(
        self,
        seed: int,
        n_trains: int,
        rate: float,
        speeds: dict[float, float],
        level_free: float,
        n_rounds: int,
        collisions: bool,
        lines: dict[str, int],
    ) -> None:
        env = level_env(
            seed,
            n_trains,
            speeds=speeds,
            malfunction_rate=rate,
            p_level_free=level_free,
            rewards=ECML2026Rewards() if collisions else DefaultRewards(),
            **lines,
        )
        simulator = CompiledSimulator.from_env(env)
        state, over, plan = simulator.state, False, begun(simulator, n_rounds)
        while not over:
            keep_up(plan, n_rounds)
            actions, states = plan.actions(), state.state.copy()
            # all that are on the map get home: their plans lead there
            on_map = (state.row >= 0) & (state.state != DONE)
            assert (plan.arrivals[on_map] < NEVER).all()
            rewards, over = simulator.step(actions)
            assert not deadlocked(state).any()
            stopped = (states == MOVING) & (state.state == STOPPED)
            if collisions:
                assert (actions[stopped] == STOP_MOVING).all()
                if not over:
                    assert (rewards[(state.state != DONE)] == 0.0).all()  # nothing was paid for a collision
        has_arrived = state.state == DONE
        np.testing.assert_array_equal(state.next_stop[has_arrived], np.diff(state.stops.first_stop)[has_arrived])

    @pytest.mark.parametrize("seed", range(3))
    def test_after_a_breakdown_the_times_are_those_that_come(self, seed: int) -> None:
        """One malfunction, and no more: the order is kept, and what ``keep_order`` foresees happens."""
        simulator = CompiledSimulator.from_env(sparse_env(seed, 20, **QUIET))
        state, plan = simulator.state, begun(simulator)
        while not (state.state == MOVING).sum() >= 3:
            keep_up(plan, 0)
            simulator.step(plan.actions())
        simulator.malfunctions[state.elapsed_steps, np.flatnonzero(state.state == MOVING)[0]] = 17
        plan.follow()
        simulator.step(plan.actions())
        assert plan.follow()
        assert plan.is_late
        before = plan.arrivals
        assert plan.keep_order()
        arrivals = plan.arrivals
        assert (arrivals >= before).all()
        assert (arrivals > before).any()
        over = False
        while not over:
            assert plan.follow()
            assert not plan.is_late
            _, over = simulator.step(plan.actions())
        in_time = arrivals <= state.max_episode_steps
        np.testing.assert_array_equal(state.arrival_time[in_time], arrivals[in_time])

    def test_trains_in_a_ring_all_move_at_the_same_moment(self) -> None:
        """Four trains on a ring of four cells: nobody can move unless all of them do."""
        corners = [((0, 0), NORTH), ((0, 1), EAST), ((1, 1), SOUTH), ((1, 0), WEST)]
        drawing = ["/\\", "LJ"]
        env = drawn_env(drawing, [(corner, corners[(n + 3) % 4][0]) for n, corner in enumerate(corners)])
        simulator = CompiledSimulator.from_env(env)
        plan = begun(simulator, 0)
        over = False
        while not over:
            keep_up(plan, 0)
            _, over = simulator.step(plan.actions())
        np.testing.assert_array_equal(simulator.state.arrival_time, 5)

    def test_trains_that_start_on_the_same_cell_depart_one_after_the_other(self) -> None:
        env = drawn_env(["-" * 12], [(((0, 1), EAST), (0, 10))] * 4)
        simulator = CompiledSimulator.from_env(env)
        plan, over = begun(simulator), False
        while not over:
            keep_up(plan, 0)
            _, over = simulator.step(plan.actions())
        assert (simulator.state.state == DONE).all()
        assert len(set(simulator.state.arrival_time.tolist())) == 4

    def test_a_train_without_a_way_stays_off_the_map_and_the_others_are_planned(self) -> None:
        env = drawn_env(["--------", "        ", "--------"], [(((0, 1), EAST), (0, 6)), (((0, 2), EAST), (2, 6))])
        simulator = CompiledSimulator.from_env(env)
        plan, over = begun(simulator), False
        assert plan.has_way.tolist() == [True, False]
        while not over:
            keep_up(plan, 5)
            _, over = simulator.step(plan.actions())
        assert simulator.state.state.tolist()[0] == DONE
        assert simulator.state.row.tolist() == [-1, -1]

    def test_a_plan_is_made_in_the_middle_of_an_episode_too(self) -> None:
        n_planned = 0
        for seed in range(6):
            simulator = CompiledSimulator.from_env(sparse_env(seed, 6, **QUIET))
            first, over = begun(simulator), False
            for _ in range(12):
                keep_up(first, 0)
                _, over = simulator.step(first.actions())
            plan = LevelPlan(simulator.state)
            if not plan.make():
                continue
            n_planned += 1
            while not over:
                keep_up(plan, 10)
                _, over = simulator.step(plan.actions())
            assert (simulator.state.state == DONE).any()
        assert n_planned >= 3

    @settings(max_examples=8, deadline=None)
    @given(seed=SEEDS, n_trains=st.integers(1, 15), lines=LINES)
    def test_one_that_begins_again_is_as_good_as_new(self, seed: int, n_trains: int, lines: dict[str, int]) -> None:
        simulator = CompiledSimulator.from_env(level_env(seed, n_trains, malfunction_rate=1 / 30, **lines))
        old = begun(simulator, 20)
        random = np.random.default_rng(seed)
        for _ in range(15):
            simulator.step(random.integers(0, 5, n_trains))
        old.follow()
        new = LevelPlan(simulator.state)
        has_stops = bool((old._tables.trains[N_LEGS] > 1).any())
        assert old.begin_again() == (not has_stops)
        if has_stops:
            return
        assert old.make() == new.make()
        for plan in (old, new):
            plan.play_rounds(30)
        assert old.is_in_order == new.is_in_order
        assert [way.tolist() for way in old.ways()] == [way.tolist() for way in new.ways()]
        for name in ("visits", "trains", "own_costs", "costs"):
            np.testing.assert_array_equal(getattr(old._tables, name), getattr(new._tables, name))
        assert old._random == new._random

    def test_what_fails_in_mid_episode_may_go_well_when_it_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A train that stands in another's way is out of it once it is planned."""
        n_made = {1: 0, 10: 0}
        for seed in range(12):
            simulator = CompiledSimulator.from_env(sparse_env(seed, 12, **QUIET))
            first = begun(simulator)
            for _ in range(25):
                keep_up(first, 0)
                simulator.step(first.actions())
            for n_tries in n_made:
                monkeypatch.setattr(level_plan, "_TRIES", n_tries)
                n_made[n_tries] += LevelPlan(simulator.state).make()
        assert n_made[10] > n_made[1]


class TestWhereEachStopCosts:
    """As on flatland-rl 4.2.6 under rewards that punish a train for stopping."""

    @pytest.fixture
    def _each_stop_costs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (plan_costs, halts):
            monkeypatch.setattr(module, "CHOSEN_STOPS_COST", True)

    def played(self, seed: int) -> tuple[int, float, float]:
        """How often trains stopped, what the plan cost, and what was lost, each stop counted as a collision."""
        env = sparse_env(seed, 12, speeds=ONE_SPEED, rewards=ECML2026Rewards(), **WITH_STOPS, **QUIET)
        simulator = CompiledSimulator.from_env(env)
        state, over = simulator.state, False
        plan = LevelPlan(state, completion_weight=0.0)
        plan.make()
        plan.search(1e9, 100)
        cost, n_stops, totals = cost_of(plan), np.zeros(state.n_trains), np.zeros(state.n_trains)
        while not over:
            assert plan.follow()
            before = state.state.copy()
            rewards, over = simulator.step(plan.actions())
            totals += rewards
            n_stops += (before == MOVING) & (state.state == STOPPED)
        of_collision, of_stop = state.reward_weights[[COLLISION_FACTOR, NOT_SERVED_PENALTY]]
        not_served = np.diff(state.stops.first_stop) * of_stop
        lost = np.minimum(n_stops * of_collision - totals - not_served, state.max_episode_steps)
        return int(n_stops.sum()), cost, float(lost.sum())

    @pytest.mark.parametrize("seed", [1, 4, 8])
    def test_trains_pass_their_stops_and_wait_off_the_map(self, seed: int, request: pytest.FixtureRequest) -> None:
        n_usual, _, _ = self.played(seed)
        request.getfixturevalue("_each_stop_costs")
        n_stops, cost, lost = self.played(seed)
        assert n_stops < n_usual / 4
        assert cost == pytest.approx(lost, abs=5.0)  # apart from what makes earlier arrivals better
