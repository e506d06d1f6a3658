"""Packed levels: a few hundred bytes that give the same level to the bit."""

import numpy as np
import pytest

from tests.helpers.rail_envs import sparse_env
from tests.helpers.simulator_equality import assert_same_in_play
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.packed_level import UnpackableLevelError, distance_map_of, pack_level, unpack_level
from utils.levels.rail_envs import make_rail_env
from utils.simulator.compiled_simulator import CompiledSimulator


@pytest.mark.parametrize("name", ["Tiny", "Test_0", "Test_1", "Test_2", "Benchmarks_Test_00", "Benchmarks_Test_03"])
def test_round_trip(name: str) -> None:
    for seed in range(3):
        simulator = CompiledSimulator.from_env(make_rail_env(ENV_CONFIGS[name], seed))
        assert_same_in_play(simulator, unpack_level(pack_level(simulator)), seed)


@pytest.mark.parametrize("options", [{"p_level_free": 1.0}, {"line_length": 4}, {"malfunction_rate": 0.0}])
def test_round_trip_of_unusual_levels(options: dict[str, float]) -> None:
    for seed in range(3):
        simulator = CompiledSimulator.from_env(sparse_env(seed, **options))
        assert_same_in_play(simulator, unpack_level(pack_level(simulator)), seed)


def test_copies_share_nothing() -> None:
    packed = pack_level(CompiledSimulator.from_env(make_rail_env(ENV_CONFIGS["Test_0"], 0)))
    played = unpack_level(packed)
    while not played.done:
        played.step(np.full(5, 2))
    assert_same_in_play(unpack_level(packed), unpack_level(packed))


def test_is_small() -> None:
    for name, limit in (("Test_1", 1_000), ("Benchmarks_Test_06", 5_000)):
        assert len(pack_level(CompiledSimulator.from_env(make_rail_env(ENV_CONFIGS[name], 0)))) < limit


def test_target_that_cannot_be_reached() -> None:
    simulator = CompiledSimulator.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 0))
    state = simulator.state
    state.grid[state.target_row[0], state.target_column[0]] = 0
    assert np.isinf(distance_map_of(state.grid, state.constants)[0]).all()


def test_refuses_what_it_could_not_give_back() -> None:
    simulator = CompiledSimulator.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 0))
    simulator.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(UnpackableLevelError, match="this one is at 1"):
        pack_level(simulator)
