"""The compiled simulator against the flatland-rl that is installed, step by step."""

import pickle
import sys
from fractions import Fraction

import numpy as np
import pytest
from flatland.envs.malfunction_generators import NBR_CHACHED_RAND
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import DefaultRewards, DelayRewards, ECML2026Rewards
from flatland.envs.step_utils.states import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import EAST, NORTH, SOUTH, WEST, drawn_env, sparse_env
from tests.helpers.simulator_lockstep import add_stops, assert_equal_step, choose_actions, play_both
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.simulator import malfunction_draws
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_state import RailState


@pytest.mark.parametrize("random_share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("name", ["Tiny", "Test_0", "Test_1", "Test_2", "Benchmarks_Test_00", "Benchmarks_Test_03"])
def test_equal_on_the_small_configurations(name, random_share) -> None:
    for seed in range(3):
        play_both(make_rail_env(ENV_CONFIGS[name], seed), random_share, seed)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    random_share=st.sampled_from([0.05, 0.3, 0.7]),
    malfunction_rate=st.sampled_from([0.0, 1 / 100, 1 / 4]),
    options=st.sampled_from(
        [
            {},
            {"speeds": {1.0: 0.5, 0.4: 0.5}},
            {"p_level_free": 1.0, "n_cities": 3},
            {"n_agents": 40, "n_cities": 3},
            {"acceleration_delta": Fraction(1, 4), "braking_delta": -Fraction(1, 6)},
        ]
    ),
)
def test_equal_on_all_kinds_of_levels(seed, random_share, malfunction_rate, options) -> None:
    play_both(sparse_env(seed, malfunction_rate=malfunction_rate, **options), random_share, seed)


def test_the_levels_hold_what_is_to_be_compared() -> None:
    env = sparse_env(seed=1, malfunction_rate=1 / 20, p_level_free=1.0, n_cities=3)
    simulator = CompiledSimulator.from_env(env)
    rng = np.random.default_rng(1)
    seen = set()
    while not simulator.done:
        simulator.step(choose_actions(env, rng, 0.3))
        seen.update(simulator.state.state.tolist())
    assert seen == {state.value for state in TrainState}
    assert len(set(simulator.state.max_speed / simulator.state.denominator)) == 4
    assert simulator.state.level_free.any()
    assert simulator.state.n_malfunctions.sum() > 50


RING = ["/----\\", "|    |", "L----J", "<---> "]
FIGURE_EIGHT = ["/--\\   ", "|  |   ", "L--+--\\", "   |  |", "   L--J", "<--->  "]
THETA = ["/-Y-\\", "| | |", "L-A-J", "<---<"]
SWITCHES = {"Y": ("SW", "SE"), "A": ("NW", "NE")}  # a train out of the stem has no way straight on
HALF_OF_A_RING = [((0, column), EAST) for column in range(1, 5)] + [((1, 5), SOUTH), ((2, 4), WEST), ((1, 0), NORTH)]


def all_parameters() -> DefaultRewards:
    """Rewards in which everything counts, collisions too."""
    return DefaultRewards(
        cancellation_factor=1.7,
        cancellation_time_buffer=3.3,
        target_not_reached_minimum_penalty=41.0,
        intermediate_not_served_penalty=7.7,
        intermediate_late_arrival_penalty_factor=0.31,
        intermediate_early_departure_penalty_factor=0.17,
        collision_factor=2.9,
    )


def endless_env(drawing, starts, speeds=None, level_free=frozenset()) -> RailEnv:
    """Trains on a drawn map whose target is on a track of its own, in the last line: they never arrive."""
    target = (len(drawing) - 1, 2)
    return drawn_env(drawing, [(start, target) for start in starts], speeds, SWITCHES, set(level_free))


@pytest.mark.parametrize("random_share", [0.0, 0.1, 0.6])
@pytest.mark.parametrize(
    ("drawing", "starts", "level_free"),
    [
        (RING, [*HALF_OF_A_RING, ((2, 2), EAST), ((0, 2), EAST), ((0, 3), WEST)], set()),
        (FIGURE_EIGHT, [((0, 1), EAST), ((2, 1), EAST), ((1, 3), SOUTH), ((2, 3), WEST), ((2, 2), WEST)], {(2, 3)}),
        (FIGURE_EIGHT, [((0, 1), EAST), ((2, 1), EAST), ((1, 3), SOUTH), ((2, 3), WEST), ((2, 2), EAST)], set()),
        (THETA, [((1, 2), NORTH), ((2, 1), EAST), ((0, 3), WEST), ((1, 0), SOUTH), ((2, 3), EAST)], set()),
    ],
    ids=["ring", "level-free crossing", "diamond crossing", "switches without a straight"],
)
def test_equal_in_a_crowd_that_never_arrives(drawing, starts, level_free, random_share) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        speeds = rng.choice([1.0, 0.5, 1 / 3], size=len(starts)).tolist() if seed else None
        env = endless_env(drawing, starts, speeds, level_free)
        env.rewards = all_parameters()
        play_both(env, random_share, seed)


def test_a_full_ring_turns() -> None:
    ring = [((0, column), EAST) for column in range(1, 6)] + [((row, 5), SOUTH) for row in (1, 2)]
    ring += [((2, column), WEST) for column in range(4, -1, -1)] + [((row, 0), NORTH) for row in (1, 0)]
    env = endless_env(RING, ring)
    simulator = CompiledSimulator.from_env(env)
    expected = RailState.from_env(env)
    for _ in range(10):
        simulator.step([2] * len(ring))
        env.step(dict.fromkeys(range(len(ring)), 2))
        assert_equal_step(simulator, expected, env)
    assert (simulator.state.state == TrainState.MOVING).all()
    assert simulator.state.row.tolist() != simulator.state.initial_row.tolist()


def seen_configurations(env: RailEnv, random_share: float, seed: int) -> list[list]:
    """Plays as ``play_both`` and returns where each train was."""
    rng = np.random.default_rng(seed)
    seen: list[list] = [[] for _ in env.agents]
    while not env.dones["__all__"]:
        env.step(dict(enumerate(choose_actions(env, rng, random_share).tolist())))
        for agent in env.agents:
            if agent.current_configuration is not None:
                seen[agent.handle].append(agent.current_configuration)
    return seen


def generated(seed: int) -> RailEnv:
    return sparse_env(seed, n_agents=8)


def circling(seed: int) -> RailEnv:
    """Trains that come by at their stops again and again."""
    speeds = [1.0, 0.5, 1 / 3][seed % 3 :] * 3
    return endless_env(RING, HALF_OF_A_RING[:: 1 + seed % 3][:3], speeds[:3])


@pytest.mark.parametrize(
    "make_rewards",
    [
        *(DefaultRewards, ECML2026Rewards, DelayRewards),
        pytest.param(
            all_parameters,
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="sum() rounds in another way there"),
        ),
    ],
)
@pytest.mark.parametrize(("make_env", "least_visits"), [(generated, 1.0), (circling, 2.0)])
def test_equal_rewards_with_intermediate_stops(make_env, least_visits, make_rewards) -> None:
    visits: list[int] = []
    for seed in range(6):
        random_share = (0.1, 0.3, 0.8)[seed % 3]
        env = make_env(seed)
        env.rewards = make_rewards()
        add_stops(env, seen_configurations(make_env(seed), random_share, seed), np.random.default_rng(seed))
        play_both(env, random_share, seed)
        for agent in env.agents:
            arrivals, states = env.rewards._proxy.arrivals[agent.handle], env.rewards._proxy.states[agent.handle]
            for waypoint in (waypoint for stop in agent.waypoints[1:-1] for waypoint in stop):
                place = waypoint.position, waypoint.direction
                if TrainState.STOPPED in states[place]:
                    visits.append(len(arrivals[place]))
    assert len(visits) > 20
    assert np.mean(visits) >= least_visits


@pytest.mark.parametrize(("line_length", "n_cities", "size"), [(3, 3, 30), (4, 4, 45)])
def test_equal_rewards_with_the_stops_of_the_generator(line_length, n_cities, size) -> None:
    for seed in range(3):
        options = {"line_length": line_length, "n_cities": n_cities, "size": size}
        play_both(sparse_env(seed, rewards=ECML2026Rewards(), **options), 0.3, seed)


def test_the_environment_is_left_as_it_is() -> None:
    env = make_rail_env(ENV_CONFIGS["Test_1"], 1)
    before = env.np_random.get_state()
    simulator = CompiledSimulator.from_env(env)
    while not simulator.done:
        simulator.step(np.full(10, 2))
    np.testing.assert_array_equal(env.np_random.get_state()[1], before[1])
    assert env.np_random.get_state()[2] == before[2]
    assert env._elapsed_steps == 0
    assert env.malfunction_generator._cached_rand is None


def test_malfunctions_go_on_where_an_earlier_episode_ended() -> None:
    env = sparse_env(seed=1, malfunction_rate=1 / 10)
    play_both(env, 0.3)
    env.reset(random_seed=2)
    assert play_both(env, 0.3).state.n_malfunctions.sum() > 10


@pytest.mark.parametrize("drawn_before", [False, True])
def test_malfunctions_begin_again_after_a_million_draws(drawn_before) -> None:
    env = sparse_env(seed=3, malfunction_rate=1 / 10)
    env.malfunction_generator._rand_idx = NBR_CHACHED_RAND - 500
    if drawn_before:
        env.malfunction_generator.generate_rand_numbers(env.np_random)
    assert play_both(env, 0.3).state.n_malfunctions.sum() > 10


@pytest.mark.parametrize("bit_generator", [np.random.MT19937, np.random.PCG64])
@pytest.mark.parametrize("n_drawn", [0, 1, 311, 312, 313, 999_999])
def test_skipping_draws_is_drawing_them(bit_generator, n_drawn) -> None:
    drawn = np.random.RandomState(bit_generator(5))
    skipped = np.random.RandomState(bit_generator(5))
    assert (drawn.rand(n_drawn) == skipped.rand(n_drawn)).all()
    drawn.rand(100_000 - n_drawn % 100_000)
    malfunction_draws.skip_draws(skipped, 100_000 - n_drawn % 100_000)
    np.testing.assert_array_equal(drawn.rand(1000), skipped.rand(1000))
    np.testing.assert_array_equal(drawn.randint(20, 51, size=9), [skipped.randint(20, 51) for _ in range(9)])


def test_all_actions_that_flatland_takes() -> None:
    env = sparse_env(seed=4, n_agents=6)
    simulator, expected = CompiledSimulator.from_env(env), RailState.from_env(env)
    rng = np.random.default_rng(4)
    for step in range(60):
        actions = rng.integers(-2, 8, size=12)[::2]  # some are no actions, and they are not contiguous
        simulator.step((actions, actions.tolist(), actions.astype(np.int8))[step % 3])
        env.step(dict(enumerate(actions.tolist())))
        assert_equal_step(simulator, expected, env)


def test_observations_are_made_from_its_state() -> None:
    env = make_rail_env(ENV_CONFIGS["Test_1"], 5)
    simulator, expected = CompiledSimulator.from_env(env), RailState.from_env(env)
    ours, flatlands = (
        Observer(get_feature_set("tree"), safe_moves=False),
        Observer(get_feature_set("tree"), safe_moves=False),
    )
    for _ in range(40):
        simulator.step(np.full(10, 2))
        env.step(dict.fromkeys(range(10), 2))
        expected.update(env)
        for array, other in zip(ours.observe(simulator.state), flatlands.observe(expected), strict=True):
            np.testing.assert_array_equal(array, other)


def test_a_pickled_simulator_goes_on() -> None:
    env = sparse_env(seed=6, n_cities=3, line_length=3)
    simulator = CompiledSimulator.from_env(env)
    rng = np.random.default_rng(6)
    for _ in range(30):
        simulator.step(rng.integers(0, 5, size=10))
    again = pickle.loads(pickle.dumps(simulator))
    while not simulator.done:
        actions = rng.integers(0, 5, size=10)
        rewards, done = simulator.step(actions)
        other_rewards, other_done = again.step(actions)
        np.testing.assert_array_equal(rewards, other_rewards)
        np.testing.assert_array_equal(simulator.state.dynamic, again.state.dynamic)
        assert done == other_done


def test_a_difference_is_named() -> None:
    env = sparse_env(seed=1, n_agents=4)
    simulator, expected = CompiledSimulator.from_env(env), RailState.from_env(env)
    simulator.step([2] * 4)
    env.step(dict.fromkeys(range(4), 2))
    simulator.state.malfunction[2] += 1
    simulator.state.arrival_time[1] = 9
    with pytest.raises(pytest.fail.Exception, match=r"malfunction of train 2 after step 1: 1, in flatland 0"):
        assert_equal_step(simulator, expected, env)


@pytest.mark.parametrize(
    ("actions", "message"),
    [([2] * 9, r"shape \(10,\)"), ([2.0] * 10, "whole numbers, not float64"), (np.full((10, 1), 2), "shape")],
)
def test_wrong_actions_are_refused(actions, message) -> None:
    simulator = CompiledSimulator.from_env(sparse_env(seed=1))
    with pytest.raises(ValueError, match=message):
        simulator.step(actions)
    assert simulator.state.elapsed_steps == 0


def test_no_step_after_the_end() -> None:
    simulator = CompiledSimulator.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 1))
    while not simulator.done:
        simulator.step([0, 0])
    with pytest.raises(RuntimeError, match="the episode is over"):
        simulator.step([0, 0])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100_000), n_steps=st.integers(0, 60), p_level_free=st.sampled_from([0.0, 0.8]))
def test_twin_that_begins_in_mid_episode(seed: int, n_steps: int, p_level_free: float) -> None:
    """Broken, running and braking trains in the middle of their cells, of four speeds."""
    env = sparse_env(seed, p_level_free=p_level_free, acceleration_delta=Fraction(3, 10), braking_delta=Fraction(-1, 5))
    random = np.random.default_rng(seed)

    def actions() -> np.ndarray:
        return np.where(random.random(10) < 0.7, 2, random.integers(5, size=10))

    for _ in range(min(n_steps, env._max_episode_steps - 1)):
        env.step(dict(enumerate(actions().tolist())))
        if env.dones["__all__"]:
            return
    before, random_state = pickle.dumps(env.agents), str(env.np_random.get_state())
    env.malfunction_generator.generate = lambda np_random: None  # from now on none begins
    simulator = CompiledSimulator.from_env(env)
    simulator.malfunctions[:] = 0
    assert (pickle.dumps(env.agents), str(env.np_random.get_state())) == (before, random_state)
    expected = RailState.from_env(env)
    while not env.dones["__all__"]:
        chosen = actions()
        _, rewards, dones, _ = env.step(dict(enumerate(chosen.tolist())))
        simulator.step(chosen)
        assert simulator.done == dones["__all__"]
        np.testing.assert_array_equal(simulator.rewards, list(rewards.values()))
        assert_equal_step(simulator, expected, env)
