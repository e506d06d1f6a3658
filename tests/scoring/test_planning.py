"""Planning while it plays: never against the clock, never by what nobody can know, and for the better."""

import math

import numpy as np
import pytest

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.playing.policy import drive
from reinforcement_learning.scoring import planning
from reinforcement_learning.scoring.planning import Planner, PlanningOptions
from reinforcement_learning.scoring.play_by_rule import play_by_rule
from tests.helpers.rail_envs import ONE_SPEED, sparse_env
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.observation.route_features import least_detour_actions
from utils.rules.rule_rollouts import no_variation
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import FlatlandSimulator

FEATURES = get_feature_set("tree_routes")
FEW = PlanningOptions(math.inf, n_tries=10, n_futures=2)


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

    def __init__(self) -> None:
        self.now = 0.0
        self.tick = 1.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def observer() -> Observer:
    return Observer(FEATURES, safe_moves=True)


def planned(seed: int, policy: LeastDetourPolicy | WaitingPolicy, options: PlanningOptions = FEW) -> EpisodeResult:
    simulator = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], seed))
    return play_by_rule(simulator, Planner(policy, observer(), options))


def unplanned(seed: int, policy: LeastDetourPolicy | WaitingPolicy) -> EpisodeResult:
    return play_levels([FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], seed))], observer(), policy)[0]


def test_plans_are_better_than_a_policy_that_waits_for_ever() -> None:
    assert unplanned(5, WaitingPolicy()).completion == 0.0
    assert planned(5, WaitingPolicy()).completion > 0.3


def test_one_train_without_malfunctions_is_driven_as_well_as_can_be() -> None:
    for seed in range(3):
        levels = [FlatlandSimulator(sparse_env(seed, 1, speeds=ONE_SPEED, malfunction_rate=0.0)) for _ in range(2)]
        planner = Planner(LeastDetourPolicy(), observer(), FEW)
        with_planning = play_by_rule(levels[0], planner)
        without = play_levels([levels[1]], observer(), LeastDetourPolicy())[0]
        assert planner.variation is not None
        assert not (planner.variation != no_variation(1)).any()  # nothing is better than the rule as it is
        assert with_planning.completion == without.completion == 1.0
        assert (with_planning.score, with_planning.n_steps) == (without.score, without.n_steps)


def test_the_same_each_time() -> None:
    assert planned(7, LeastDetourPolicy()).score == planned(7, LeastDetourPolicy()).score
    actions = []
    for _ in range(2):
        simulator = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], 8))
        planner, played = Planner(LeastDetourPolicy(), observer(), FEW), []
        for _ in range(12):
            played.append(planner.act(simulator).tolist())
            simulator.step(np.array(played[-1]))
        actions.append(played)
    assert actions[0] == actions[1]


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
        planner = Planner(WaitingPolicy(), observer(), FEW)
        actions = planner.act(simulator)
        assert (str(env.np_random.get_state()), env.malfunction_generator._rand_idx) == before
        assert planner.variation is not None
        plans.append((actions.tolist(), planner.variation.tolist()))
        random_states.append(before)
    assert plans[0] == plans[1]
    assert random_states[0] != random_states[1]


@pytest.mark.parametrize("seconds", [1.5, 20.5, 60.5])
def test_the_deadline_is_kept(seconds: float) -> None:
    """The clock is looked at before each part of the work, and nothing is begun when the time is up."""
    simulator = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], 3))
    clock = Clock()
    policy, options = LeastDetourPolicy(), PlanningOptions(seconds, n_tries=100)
    planner, searches = Planner(policy, observer(), options, clock), []
    for step in range(25):
        began = clock.now
        expected = drive(policy, observer(), simulator.state)
        actions = planner.act(simulator)
        assert clock.now - began <= seconds + 2
        if clock.now > began:
            searches.append(step)
        np.testing.assert_array_equal(actions, expected)  # a search that is not done decides nothing
        simulator.step(actions)
    # what was too much once is hardly tried again
    assert searches == [searches[0], searches[0] + 6, searches[0] + 18]


def test_what_was_found_when_the_time_is_up_is_followed() -> None:
    simulator = FlatlandSimulator(sparse_env(2, 10, speeds=ONE_SPEED))
    clock = Clock()
    planner = Planner(WaitingPolicy(), observer(), PlanningOptions(100_000.0, n_tries=40), clock)
    while planner.variation is None:
        simulator.step(planner.act(simulator))
    clock.tick = 2 * 100_000.0 / clock.now  # half of such a search takes all the time that there is
    searches, n_changes = [], 0
    for step in range(16):
        began, followed = clock.now, planner.variation
        simulator.step(planner.act(simulator))
        if clock.now > began:
            searches.append(step)
            assert 100_000.0 < clock.now - began <= 100_000.0 + 2 * clock.tick
            n_changes += not np.array_equal(planner.variation, followed)
    assert n_changes > 0
    assert np.diff(searches).tolist() == [3] * (len(searches) - 1)  # a search that finds something is not put off


def test_where_nothing_breaks_a_plan_never_ends_worse_than_the_rule_and_now_and_then_better() -> None:
    """Then the expected future is the one that comes, and only what is better there is followed."""

    def value(seed: int, n_tries: int) -> float:
        level = FlatlandSimulator(sparse_env(seed, 8, speeds=ONE_SPEED, malfunction_rate=0.0))
        options = PlanningOptions(math.inf, n_tries=n_tries)
        result = play_by_rule(level, Planner(WaitingPolicy(), observer(), options))
        return result.score + options.completion_weight * result.completion

    gains = np.array([value(seed, 15) - value(seed, 0) for seed in range(6)])
    assert (gains >= -1e-9).all()
    assert (gains > 1e-3).any()


@pytest.mark.parametrize(
    ("in_expected_future", "in_sampled_ones", "is_followed"), [(1.0, 1.0, True), (1.0, -1.0, False), (-1.0, 9.0, False)]
)
def test_a_change_must_be_better_in_the_expected_future_and_on_average(
    in_expected_future: float, in_sampled_ones: float, is_followed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = FlatlandSimulator(sparse_env(4, 6))
    rule = no_variation(6)

    def value(self: object, state: RailState, variation: np.ndarray, future: np.ndarray) -> float:
        if np.array_equal(variation, rule):
            return 0.0
        return in_sampled_ones if future.any() else in_expected_future

    monkeypatch.setattr(planning._Search, "_value_of_plan", value)
    planner = Planner(WaitingPolicy(), observer(), FEW)
    while planner.variation is None:
        simulator.step(planner.act(simulator))
    assert np.array_equal(planner.variation, rule) is not is_followed


def test_time_that_suffices_changes_nothing() -> None:
    results = []
    for clock in (Clock(), lambda: 0.0):
        simulator = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], 9))
        options = PlanningOptions(100_000.0, n_tries=FEW.n_tries)
        results.append(play_by_rule(simulator, Planner(LeastDetourPolicy(), observer(), options, clock)).score)
    assert results[0] == results[1]


def test_levels_that_cannot_be_planned_are_played_by_the_policy() -> None:
    env = sparse_env(2, 4, line_length=3, n_cities=3)
    assert any(len(agent.waypoints) > 2 for agent in env.agents)
    simulator = FlatlandSimulator(env)
    planner = Planner(LeastDetourPolicy(), observer(), FEW)
    for _ in range(10):
        expected = drive(LeastDetourPolicy(), observer(), simulator.state)
        np.testing.assert_array_equal(planner.act(simulator), expected)
        simulator.step(expected)
    assert planner.variation is None


def test_planning_in_the_middle_of_an_episode() -> None:
    simulator = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], 5))
    for _ in range(10):
        simulator.step(np.zeros(5, dtype=np.int64))
    result = play_by_rule(simulator, Planner(WaitingPolicy(), observer(), FEW))
    assert result.completion > 0.0
