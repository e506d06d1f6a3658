"""Helpers of the tests: two compiled simulators compared bit by bit."""

import numpy as np

from utils.simulator.compiled_simulator import CompiledSimulator

STATE_ARRAYS = (
    *("grid", "distance_map", "level_free", "has_target", "constants", "dynamic", "served", "occupant"),
    "reward_weights",
)
TABLES = ("plans", "malfunctions", "halts", "rewards")


def assert_same_simulators(first: CompiledSimulator, second: CompiledSimulator) -> None:
    """Equal in every array, types and memory order included."""
    arrays = [(name, getattr(first.state, name), getattr(second.state, name)) for name in STATE_ARRAYS]
    arrays += [(name, getattr(first, name), getattr(second, name)) for name in TABLES]
    arrays += zip(first.state.stops._fields, first.state.stops, second.state.stops, strict=True)
    arrays += zip(first.effects._fields, first.effects, second.effects, strict=True)
    for name, one, other in arrays:
        assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        assert one.flags.c_contiguous, name
        assert other.flags.c_contiguous, name
        assert other.flags.writeable, name
        assert one.tobytes() == other.tobytes(), name
    assert first.state.max_episode_steps == second.state.max_episode_steps
    assert first.state.elapsed_steps == second.state.elapsed_steps
    assert first.done == second.done


def assert_same_in_play(first: CompiledSimulator, second: CompiledSimulator, seed: int = 0) -> None:
    """Plays both to the end with the same actions, mostly forward, comparing everything before and after each step."""
    random = np.random.default_rng(seed)
    assert_same_simulators(first, second)
    while not first.done:
        actions = np.where(random.random(first.state.n_trains) < 0.7, 2, random.integers(5, size=first.state.n_trains))
        first.step(actions)
        second.step(actions)
        assert_same_simulators(first, second)
