"""Planning while it plays: never against the clock, never by what nobody can know, and for the better."""

import math

import numpy as np
import pytest
from flatland.envs.rewards import ECML2026Rewards

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.playing.policy import drive
from reinforcement_learning.scoring import planning
from reinforcement_learning.scoring.planning import Planner, PlanningOptions
from reinforcement_learning.scoring.play_by_rule import play_by_rule
from tests.helpers.rail_envs import EAST, ONE_SPEED, drawn_env, sparse_env
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.observation.route_features import least_detour_actions
from utils.planning.level_plan import LevelPlan
from utils.simulator.rail_losses import CAUSES
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.state_arrays import DONE

FEATURES = get_feature_set("tree_routes")
FEW = PlanningOptions(math.inf, rounds=5, first_rounds=20)


class LeastDetourPolicy:
    """The rule as a policy; trains stop only if they must."""

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float | np.ndarray = 0.0) -> np.ndarray:
        return least_detour_actions(observations[:, FEATURES.route_features], action_mask)


class WaitingPolicy:
    """No train departs."""

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float | np.ndarray = 0.0) -> np.ndarray:
        return action_mask.argmax(axis=1)


class Clock:
    """As many seconds as ``tick`` says pass from one look to the next."""

    def __init__(self, tick: float = 1.0) -> None:
        self.now = 0.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> None:
    planning.say_once.cache_clear()


def observer() -> Observer:
    return Observer(FEATURES, safe_moves=True)


def planner(options: PlanningOptions = FEW, policy: LeastDetourPolicy | WaitingPolicy | None = None) -> Planner:
    return Planner(policy or WaitingPolicy(), observer(), options)


def planned(seed: int, options: PlanningOptions = FEW) -> EpisodeResult:
    return play_by_rule(FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_1"], seed)), planner(options))


def test_plans_bring_more_home_than_a_rule() -> None:
    def by_rule(seed: int) -> EpisodeResult:
        level = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_1"], seed))
        return play_levels([level], observer(), LeastDetourPolicy())[0]

    seeds = range(20)
    assert sum(planned(s).completion for s in seeds) > sum(by_rule(s).completion for s in seeds)
    assert sum(planned(s).score for s in seeds) > sum(by_rule(s).score for s in seeds)


def _outcome(result: EpisodeResult) -> tuple[float, list[int]]:
    return result.score, result.action_counts.tolist()


def test_the_same_each_time() -> None:
    assert _outcome(planned(7)) == _outcome(planned(7))


def test_time_that_suffices_changes_nothing() -> None:
    results = []
    for clock in (Clock(), lambda: 0.0):
        level = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_1"], 9))
        options = PlanningOptions(1e9, rounds=FEW.rounds, first_rounds=FEW.first_rounds)
        results.append(_outcome(play_by_rule(level, Planner(WaitingPolicy(), observer(), options, clock))))
    assert results[0] == results[1]


def test_malfunctions_to_come_are_not_known() -> None:
    """Whatever the random numbers of the environment are, those drawn ahead included, the plan is the same."""
    plans, random_states = [], []
    for other_random in (False, True):
        env = sparse_env(4, 6)
        simulator = FlatlandSimulator(env)
        for _ in range(8):
            simulator.step(np.full(6, 2))
        if other_random:
            env.np_random.seed(99)
            env.malfunction_generator._cached_rand = np.zeros(1_000_000)  # everything breaks
            env.malfunction_generator._cached_broken = None
        before = str(env.np_random.get_state()), env.malfunction_generator._rand_idx
        plans.append(planner().act(simulator).tolist())
        assert (str(env.np_random.get_state()), env.malfunction_generator._rand_idx) == before
        random_states.append(before)
    assert plans[0] == plans[1]
    assert random_states[0] != random_states[1]


def test_no_search_begins_after_its_time() -> None:
    """The first plan is made in any case; then the clock says stop at once, and its order is kept."""
    simulator = FlatlandSimulator(sparse_env(3, 20, speeds=ONE_SPEED))
    clock = Clock(tick=10.0)
    driver = Planner(WaitingPolicy(), observer(), PlanningOptions(1.0, first=1.0), clock)
    over, n_late = False, 0
    while not over:
        before = clock.now
        actions = driver.act(simulator)
        assert clock.now - before <= 30.0  # nothing but: what time is it, is it too late
        n_late += clock.now > before
        _, over = simulator.step(actions)
        assert driver.plan is not None
    assert n_late > 1
    assert (simulator.state.state == DONE).any()


def test_intermediate_stops_are_served() -> None:
    simulator = FlatlandSimulator(sparse_env(2, 8, line_length=4, n_cities=4, size=45, rewards=ECML2026Rewards()))
    state, driver, over = simulator.state, planner(), False
    rewards = np.zeros(state.n_trains)
    while not over:
        rewards_of_step, over = simulator.step(driver.act(simulator))
        rewards += rewards_of_step
    assert len(state.stops.latest_arrival) == 16
    np.testing.assert_array_equal(state.next_stop, 2)
    losses = simulator.losses(rewards)
    assert losses is not None
    assert losses[:, CAUSES.index("stop_not_served")].sum() == 0.0


def test_trains_that_take_several_steps_to_stop_are_played_by_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    simulator = FlatlandSimulator(sparse_env(2, 4, acceleration_delta=0.25, braking_delta=-0.25))
    driver = planner(policy=LeastDetourPolicy())
    np.testing.assert_array_equal(driver.act(simulator), drive(LeastDetourPolicy(), observer(), simulator.state))
    assert "do not start or stop within one step" in capsys.readouterr().err


def test_trains_without_a_way_are_told_and_the_others_are_planned(capsys: pytest.CaptureFixture[str]) -> None:
    env = drawn_env(["--------", "        ", "--------"], [(((0, 1), EAST), (0, 6)), (((0, 2), EAST), (2, 6))])
    simulator = FlatlandSimulator(env)
    driver = planner()
    simulator.step(driver.act(simulator))
    assert capsys.readouterr().err == "note: trains that have no way to their targets are left out of the plan\n"
    assert driver.plan is not None
    assert play_by_rule(simulator, driver).completion == 0.5


@pytest.mark.parametrize(("n_steps", "seconds"), [(0, 60.0), (5, 1.0)])
def test_only_the_first_step_may_take_longer(n_steps: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    simulator, allowed = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], 5)), []
    for _ in range(n_steps):
        simulator.step(np.zeros(5, dtype=np.int64))

    def search(self: LevelPlan, seconds: float, n_rounds: int) -> float:
        allowed.append(seconds)
        return 0.0

    monkeypatch.setattr(LevelPlan, "search", search)
    planner(PlanningOptions(1.0)).act(simulator)
    assert allowed == [seconds]


def test_planning_in_the_middle_of_an_episode() -> None:
    simulator = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], 5))
    for _ in range(10):
        simulator.step(np.zeros(5, dtype=np.int64))
    assert play_by_rule(simulator, planner()).completion > 0.0


def test_trains_that_somebody_else_has_moved_get_a_new_plan() -> None:
    simulator = FlatlandSimulator(sparse_env(1, 4, speeds=ONE_SPEED, malfunction_rate=0.0))
    driver = planner()
    while not (simulator.state.row >= 0).any():
        simulator.step(driver.act(simulator))
    first = driver.plan
    simulator.step(np.full(4, 4))  # stops all of them: only late
    driver.act(simulator)
    assert driver.plan is first
    while driver.plan is first and simulator.state.elapsed_steps < 40:
        simulator.step(np.full(4, 3))  # to the right wherever that is possible
        driver.act(simulator)
    assert driver.plan is not first


def test_an_episode_has_so_many_seconds_for_all_its_later_steps() -> None:
    simulator = FlatlandSimulator(sparse_env(3, 20, speeds=ONE_SPEED, malfunction_rate=1 / 20))
    clock = Clock(tick=0.5)
    in_all = 40.0
    driver = Planner(WaitingPolicy(), observer(), PlanningOptions(10.0, first=1.0, in_all=in_all), clock)
    over, began, n_late = False, 0.0, 0
    while not over:
        before = clock.now
        actions = driver.act(simulator)
        if simulator.state.elapsed_steps == 0:
            began = clock.now
        elif clock.now > before:
            n_late += 1
        _, over = simulator.step(actions)
    assert n_late > 20
    assert clock.now - began <= in_all + 1.5 * n_late  # what it costs to look at the clock, whatever time is left
