"""The fast way of making levels gives exactly what flatland's own gives."""

import pickle

import numpy as np
import pytest
from flatland.core.grid.grid4_astar import a_star
from flatland.envs import grid4_generators_utils
from flatland.envs.grid.distance_map import DistanceMap
from flatland.envs.grid.rail_env_grid import RailEnvTransitions
from flatland.envs.line_generators import SparseLineGen
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_generators import SparseRailGen
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap

from tests.helpers.lockstep import lockstep
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.fast_reset import FastDistanceMap, FastSparseLineGen, FastSparseRailGen, fast_timetable
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
    classes = SparseRailGen, SparseLineGen, RailGridTransitionMap, DistanceMap, grid4_generators_utils
    before = [dict(vars(of_flatland)) for of_flatland in classes]
    make_rail_env_fast(ENV_CONFIGS["Tiny"], 0)
    assert [dict(vars(of_flatland)) for of_flatland in classes] == before
    assert type(make_rail_env(ENV_CONFIGS["Tiny"], 0).distance_map) is DistanceMap


def test_orientations_where_not_all_lead_to_the_target() -> None:
    """Generated maps are connected; cut one up and ask for all stations from everywhere."""
    rail = make_rail_env(ENV_CONFIGS["Test_0"], 1).rail
    for row, column in np.argwhere(rail.grid)[::7]:
        rail.set_transitions((row, column), 0)
    cells = [((int(row), int(column)), 0) for row, column in np.argwhere(rail.grid)[::5]]
    answers = []
    for generator in (SparseLineGen, FastSparseLineGen):
        draws = np.random.RandomState(3)
        answers.append(
            [
                generator.decide_orientation(rail, start, end, [way, (way + 2) % 4], draws)
                for start in cells
                for end in cells
                for way in range(2)
            ]
        )
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == 4


def test_other_maps_are_searched_as_ever_while_track_is_laid(monkeypatch) -> None:
    """Another thread may make a level of its own in flatland's way."""
    other = RailGridTransitionMap(5, 5, RailEnvTransitions())
    found = []

    def search_elsewhere(*_: object) -> list[list[tuple[int, int]]]:
        found.append(grid4_generators_utils.a_star(other, (0, 0), (0, 2), avoid_rails=True))
        return []

    monkeypatch.setattr(SparseRailGen, "_connect_cities", search_elsewhere)
    rail = RailGridTransitionMap(5, 5, RailEnvTransitions())
    FastSparseRailGen()._connect_cities([], [], {(1, 1)}, None, rail)
    assert found == [[(0, 0), (0, 1), (0, 2)]]
    assert grid4_generators_utils.a_star is a_star


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
