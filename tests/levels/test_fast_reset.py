"""The fast way of making levels gives exactly what flatland's own gives."""

import pickle

import numpy as np
import pytest
from flatland.envs.grid.distance_map import DistanceMap
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_generators import SparseRailGen
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap

from tests.helpers.lockstep import lockstep
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.fast_reset import FastDistanceMap, fast_timetable, neighbours_fit
from utils.levels.level_streams import TrainingLevels
from utils.levels.rail_envs import make_rail_env, make_rail_env_fast
from utils.system.seeds import Stream, level_seed


def assert_equal_levels(fast: RailEnv, plain: RailEnv) -> None:
    """Compares everything that a reset makes."""
    assert fast.rail.grid.dtype == plain.rail.grid.dtype
    assert np.array_equal(fast.rail.grid, plain.rail.grid)
    assert fast.agents == plain.agents  # attrs compares every field, the timetable included
    assert fast._max_episode_steps == plain._max_episode_steps
    assert fast.resource_map.level_free_positions == plain.resource_map.level_free_positions
    assert pickle.dumps(fast.stations_links) == pickle.dumps(plain.stations_links)
    assert np.array_equal(fast.distance_map.get(), plain.distance_map.get())
    assert fast.distance_map.get_shortest_paths() == plain.distance_map.get_shortest_paths()
    assert fast.np_random.get_state()[2:] == plain.np_random.get_state()[2:]
    assert np.array_equal(fast.np_random.get_state()[1], plain.np_random.get_state()[1])
    assert fast.random_seed == plain.random_seed
    assert fast.seed_history == plain.seed_history


@pytest.mark.parametrize(
    ("name", "n_seeds"),
    [
        ("Tiny", 20),
        ("Test_0", 25),
        ("Test_1", 25),
        ("Test_2", 15),
        ("Benchmarks_Test_00", 10),
        ("Benchmarks_Test_03", 4),
    ],
)
def test_equal_levels(name: str, n_seeds: int) -> None:
    for seed in range(n_seeds):
        assert_equal_levels(make_rail_env_fast(ENV_CONFIGS[name], seed), make_rail_env(ENV_CONFIGS[name], seed))


@pytest.mark.parametrize("name", ["Test_1", "Benchmarks_Test_02"])
def test_equal_in_play(name: str) -> None:
    assert lockstep(make_rail_env_fast(ENV_CONFIGS[name], 2), make_rail_env(ENV_CONFIGS[name], 2)) > 0


def test_training_levels_are_made_this_way() -> None:
    env = TrainingLevels(ENV_CONFIGS["Test_0"], 3).make(7)
    assert isinstance(env.distance_map, FastDistanceMap)
    assert_equal_levels(env, make_rail_env(ENV_CONFIGS["Test_0"], level_seed(3, Stream.TRAINING_LEVELS, 7)))


def test_flatland_itself_stays_as_it_is() -> None:
    classes = SparseRailGen, RailGridTransitionMap, DistanceMap
    before = [dict(vars(of_flatland)) for of_flatland in classes]
    make_rail_env_fast(ENV_CONFIGS["Tiny"], 0)
    assert [dict(vars(of_flatland)) for of_flatland in classes] == before
    assert type(make_rail_env(ENV_CONFIGS["Tiny"], 0).distance_map) is DistanceMap


def test_neighbours_fit_on_damaged_maps() -> None:
    """Finished maps hardly ever have a misfit, so cells are emptied and swapped at random."""
    generator = np.random.default_rng(0)
    misfits = 0
    for seed in range(5):
        rail = make_rail_env(ENV_CONFIGS["Test_0"], seed).rail
        for _ in range(40):
            rows, columns = generator.integers(0, 30, (2, 2))
            rail.set_transitions((rows[0], columns[0]), rail.grid[rows[1], columns[1]])
            rail.set_transitions(tuple(generator.choice(np.argwhere(rail.grid))), 0)
        cells = np.argwhere(np.ones(rail.grid.shape))
        expected = [rail.cell_neighbours_valid((int(row), int(column))) for row, column in cells]
        fits = neighbours_fit(rail.grid, cells)
        assert fits.tolist() == expected
        misfits += np.count_nonzero(~fits)
    assert misfits > 50


def test_distance_map_and_timetable_where_some_trains_have_no_path() -> None:
    """Generated maps are connected; cut one up and make its timetable again in both ways."""
    for seed in range(3):
        plain, fast = make_rail_env(ENV_CONFIGS["Test_1"], seed), make_rail_env_fast(ENV_CONFIGS["Test_1"], seed)
        results = []
        for env in (plain, fast):
            for row, column in np.argwhere(env.rail.grid)[::9]:
                if all((row, column) != position for agent in env.agents for position, _ in agent.targets):
                    env.rail.set_transitions((row, column), 0)
            env.distance_map.reset(env.agents, env.rail)
            random_state = np.random.RandomState(5)
            results.append(
                env.timetable_generator(env.agents, env.distance_map, {"city_positions": [0, 1]}, random_state)
            )
        assert fast.timetable_generator is fast_timetable
        assert results[0] == results[1]
        assert np.array_equal(fast.distance_map.get(), plain.distance_map.get())
        assert any(
            np.isinf(
                plain.distance_map.get()[
                    (agent.handle, *agent.initial_configuration[0], agent.initial_configuration[1])
                ]
            )
            for agent in plain.agents
        )
