"""The rule that a planner plays out: safe, true to the simulator, and varied as it is told."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import EAST, FOUR_SPEEDS, ONE_SPEED, drawn_env, sparse_env
from utils.rules.rule_rollouts import (
    AVOIDED,
    HANDICAP,
    HELD_UNTIL,
    begin,
    choose_actions,
    fill_branches,
    no_variation,
    play_of,
    roll_out,
)
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_state import DONE, READY_TO_DEPART, STATE


def random_variation(simulator: CompiledSimulator, random: np.random.Generator) -> np.ndarray:
    """Something for each train."""
    n_trains, n_cells = simulator.state.n_trains, simulator.state.grid.size
    variation = no_variation(n_trains)
    variation[HELD_UNTIL] = random.integers(0, 20, size=n_trains)
    variation[HANDICAP] = random.integers(-50, 50, size=n_trains)
    variation[AVOIDED] = random.integers(-1, 4 * n_cells, size=n_trains)
    return variation


def no_malfunctions(simulator: CompiledSimulator) -> np.ndarray:
    return np.zeros((simulator.state.max_episode_steps, simulator.state.n_trains), dtype=np.int32)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    speeds=st.sampled_from([ONE_SPEED, FOUR_SPEEDS]),
    n_trains=st.integers(2, 20),
    p_level_free=st.sampled_from([0.0, 0.8]),
)
@example(seed=303, speeds=ONE_SPEED, n_trains=11, p_level_free=0.8)  # two trains want a cell in which one arrives
@example(seed=70, speeds=ONE_SPEED, n_trains=17, p_level_free=0.0)
def test_whatever_the_variation_nobody_ends_in_a_deadlock(
    seed: int, speeds: dict[float, float], n_trains: int, p_level_free: float
) -> None:
    env = sparse_env(seed, n_trains, speeds=speeds, malfunction_rate=0.0, p_level_free=p_level_free)
    simulator, random = CompiledSimulator.from_env(env), np.random.default_rng(seed)
    play = play_of(simulator)
    begin(play, simulator.state.dynamic, simulator.plans)
    variation = random_variation(simulator, random)
    while not simulator.done:
        play.state.dynamic[:] = simulator.state.dynamic
        choose_actions(play, variation, simulator.state.elapsed_steps)
        simulator.step(play.actions)
        assert not deadlocked(simulator.state).any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100_000), n_steps_before=st.integers(0, 30), at_a_time=st.integers(1, 50))
def test_what_a_rollout_promises_the_simulator_keeps(seed: int, n_steps_before: int, at_a_time: int) -> None:
    simulator, random = CompiledSimulator.from_env(sparse_env(seed, 8)), np.random.default_rng(seed)
    state = simulator.state
    for _ in range(n_steps_before):
        simulator.step(random.choice([0, 2, 2, 2], size=8))
    play = play_of(simulator)
    variation, before = random_variation(simulator, random), state.dynamic.copy()
    begin(play, before, simulator.plans)
    over, elapsed, total = False, n_steps_before, 0.0
    while not over:
        over, elapsed, rewards = roll_out(play, variation, simulator.malfunctions, elapsed, at_a_time)
        total += rewards
    np.testing.assert_array_equal(state.dynamic, before)  # the level itself has not been played
    fresh = play_of(simulator)
    played = 0.0
    while not simulator.done:
        begin(fresh, state.dynamic, simulator.plans)
        choose_actions(fresh, variation, state.elapsed_steps)
        played += simulator.step(fresh.actions)[0].sum()
    assert elapsed == state.elapsed_steps
    assert total == played
    np.testing.assert_array_equal(play.state.dynamic, state.dynamic)


def test_held_trains_wait_and_the_others_do_not() -> None:
    simulator = CompiledSimulator.from_env(sparse_env(3, 6, speeds=ONE_SPEED, malfunction_rate=0.0))
    play = play_of(simulator)
    variation = no_variation(6)
    variation[HELD_UNTIL, 2] = simulator.state.max_episode_steps
    begin(play, simulator.state.dynamic, simulator.plans)
    roll_out(play, variation, no_malfunctions(simulator), 0, simulator.state.max_episode_steps)
    assert play.state.dynamic[STATE, 2] == READY_TO_DEPART
    assert (np.delete(play.state.dynamic[STATE], 2) == DONE).sum() >= 4


def test_an_avoided_branch_is_gone_round() -> None:
    drawing = ["           ", "  /-----\\  ", "--A-----B--", "           "]
    env = drawn_env(drawing, [(((2, 0), EAST), (2, 10))], switches={"A": ("EW", "NW"), "B": ("EW", "NE")})
    simulator = CompiledSimulator.from_env(env)
    play = play_of(simulator)
    branches = np.empty(4, dtype=np.int64)
    assert fill_branches(0, simulator.state.arrays, branches) == 1
    assert branches[0] == 4 * (2 * 11 + 3) + EAST
    rows = {}
    for avoided in (-1, int(branches[0])):
        variation = no_variation(1)
        variation[AVOIDED] = avoided
        begin(play, simulator.state.dynamic, simulator.plans)
        over, elapsed, passed = False, 0, set()
        while not over:
            over, elapsed, _ = roll_out(play, variation, no_malfunctions(simulator), elapsed, 1)
            passed.add(int(play.state.dynamic[2, 0]))
        assert play.state.dynamic[STATE, 0] == DONE
        rows[avoided] = passed
    assert 1 not in rows[-1]
    assert 1 in rows[int(branches[0])]


def test_the_train_without_a_handicap_goes_first() -> None:
    # two trains that reach a switch at the same time, and a single track behind it
    drawing = ["           ", "---\\       ", "---A-------", "           "]
    trains = [(((1, 1), EAST), (2, 10)), (((2, 0), EAST), (2, 10))]
    env = drawn_env(drawing, trains, switches={"A": ("EW", "NE")})
    simulator = CompiledSimulator.from_env(env)
    play = play_of(simulator)
    for late, first in ((0, 1), (1, 0)):
        variation = no_variation(2)
        variation[HANDICAP, late] = 100
        begin(play, simulator.state.dynamic, simulator.plans)
        over, elapsed = False, 0
        while not over and not (play.state.dynamic[STATE] == DONE).any():
            over, elapsed, _ = roll_out(play, variation, no_malfunctions(simulator), elapsed, 1)
        assert play.state.dynamic[STATE, first] == DONE
        assert play.state.dynamic[STATE, late] != DONE
