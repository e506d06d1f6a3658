"""New levels on a saved map, and configurations that need no files: what they are made of, and what is refused."""

import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatland.core.effects_generator import MultiEffectsGeneratorWrapped
from flatland.envs.malfunction_effects_generators import (
    IntermediateStopMalfunctionEffectsGenerator,
    MalfunctionEffectsGenerator,
)
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import ECML2026Rewards

from tests.helpers.lockstep import lockstep
from tests.helpers.rail_envs import EAST, drawn_env
from tests.helpers.sampled_levels import SMALL, describe, save_map
from tests.helpers.simulator_lockstep import play_both
from utils.levels import sampled_envs
from utils.levels.env_configs import SAMPLED_ENVS, resolve_env_config
from utils.levels.level_pool import LevelPool
from utils.levels.level_streams import TrainingLevels
from utils.levels.packed_level import pack_level, unpack_level
from utils.levels.playable_levels import EvaluationLevels
from utils.levels.rail_envs import make_rail_env, make_rail_env_fast
from utils.levels.sampled_envs import Disruptions, SampledEnv
from utils.levels.saved_levels import EnvConfigError
from utils.simulator.compiled_simulator import CompiledSimulator


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    save_map(tmp_path)
    return describe(tmp_path)


def read(path: Path) -> SampledEnv:
    env = resolve_env_config(str(path))
    assert isinstance(env, SampledEnv)
    return env


def refused(path: Path) -> str:
    with pytest.raises(EnvConfigError) as raised:
        resolve_env_config(str(path))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def timetable(env: RailEnv) -> list[tuple[Any, ...]]:
    return [(a.waypoints, a.waypoints_earliest_departure, a.waypoints_latest_arrival) for a in env.agents]


class TestNewLevelsOnAMap:
    def test_map_is_kept_and_all_else_is_new(self, levels: Path) -> None:
        saved = make_rail_env(resolve_env_config(str(levels.with_name("map.pkl"))), 0)
        envs = [make_rail_env(read(levels), seed) for seed in range(6)]
        assert all(np.array_equal(env.rail.grid, saved.rail.grid) for env in envs)
        assert len({str(timetable(env)) for env in envs}) == 6
        n_trains = [env.get_num_agents() for env in envs]
        assert all(3 <= n <= 6 for n in n_trains)
        assert len(set(n_trains)) > 1
        assert [env.number_of_agents for env in envs] == n_trains

    def test_level_is_a_function_of_its_seed(self, levels: Path) -> None:
        config = replace(read(levels), malfunctions=Disruptions(20, 3, 9), departure_delays=Disruptions(5, 2, 5))
        first, second = make_rail_env(config, 7), make_rail_env_fast(config, 7)
        assert timetable(first) == timetable(second)
        assert lockstep(first, second) > 0

    def test_a_seed_gives_the_same_level_after_a_reset_or_a_round_trip(self, levels: Path) -> None:
        config = read(levels)
        reset, expected = make_rail_env(config, 1), timetable(make_rail_env(config, 7))
        reset.reset(True, True, random_seed=7)
        assert timetable(reset) == expected
        assert timetable(make_rail_env(pickle.loads(pickle.dumps(config)), 7)) == expected

    def test_level_process_makes_the_same(self, levels: Path) -> None:
        config = read(levels)
        with LevelPool(config, 3, n_workers=1, end=3, warn=pytest.fail) as pool:
            made = [pack_level(pool.simulator(k)) for k in range(3)]
        here = TrainingLevels(config, 3)
        assert made == [pack_level(CompiledSimulator.from_env(here.make(k))) for k in range(3)]

    def test_evaluation_levels_stay_the_same(self, levels: Path) -> None:
        found = EvaluationLevels(read(levels), 0, 2)
        assert timetable(found.make(0)) != timetable(found.make(1))
        lockstep(found.make(1), found.make(1))

    def test_map_is_read_once(self, levels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = read(levels)
        make_rail_env(config, 0)
        monkeypatch.setattr(sampled_envs, "read_content", pytest.fail)
        monkeypatch.setattr(sampled_envs, "read_stations", pytest.fail)
        make_rail_env(config, 1)

    def test_changed_map_is_read_again(self, levels: Path) -> None:
        before = make_rail_env(read(levels), 0).rail.grid
        save_map(levels.parent, seed=1)
        assert not np.array_equal(make_rail_env(read(levels), 0).rail.grid, before)

    def test_level_free_crossings_are_kept(self, levels: Path) -> None:
        env = save_map(levels.parent)
        env.resource_map.level_free_positions = {(3, 4)}
        RailEnvPersister.save(env, levels.with_name("map.pkl"))
        assert make_rail_env(read(levels), 0).resource_map.level_free_positions == {(3, 4)}

    def test_only_stations_of_the_scene(self, levels: Path) -> None:
        content = pickle.loads(levels.with_name("stations.pkl").read_bytes())
        n_west = sum("west" in scenes for scenes in content["scenes_with_station"])
        west = {cell for tracks in content["train_stations"][:n_west] for cell, _ in tracks}
        describe(levels.parent, scene="west", trains=6)
        for seed in range(4):
            for agent in make_rail_env(read(levels), seed).agents:
                assert {waypoint.position for stop in agent.waypoints for waypoint in stop} <= west

    def test_without_a_file_of_stations_they_are_where_trains_stop(self, levels: Path) -> None:
        saved = make_rail_env(resolve_env_config(str(levels.with_name("map.pkl"))), 0)
        known = {waypoint.position for agent in saved.agents for stop in agent.waypoints for waypoint in stop}
        describe(levels.parent, stations=None)
        for agent in make_rail_env(read(levels), 0).agents:
            assert {waypoint.position for stop in agent.waypoints for waypoint in stop} <= known

    def test_paths_are_relative_to_the_file(self, levels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = levels.parent / "elsewhere"
        folder.mkdir()
        describe(folder, map="../map.pkl", stations="../stations.pkl")
        monkeypatch.chdir(levels.parent)
        assert read(Path("elsewhere/levels.json")).name == "levels"
        assert read(folder / "levels.json").n_agents == 6


class TestTimetable:
    def test_trains_of_a_line_follow_each_other(self, levels: Path) -> None:
        describe(levels.parent, trains=9, lines=3, interval=7)
        env = make_rail_env(read(levels), 0)
        assert [agent.earliest_departure for agent in env.agents] == [0, 7, 14] * 3
        for first, *others in (env.agents[0:3], env.agents[3:6], env.agents[6:9]):
            for number, other in enumerate(others, start=1):
                assert other.waypoints == first.waypoints
                latest = zip(other.waypoints_latest_arrival[1:], first.waypoints_latest_arrival[1:], strict=True)
                assert all(own == firsts + 7 * number for own, firsts in latest)

    def test_lines_of_the_same_way_do_not_depart_together(self) -> None:
        config = replace(SMALL, trains=(8, 8), lines=8, waypoints=(2, 2))
        for seed in range(8):
            departures = [(str(a.waypoints), a.earliest_departure) for a in make_rail_env(config, seed).agents]
            assert len(set(departures)) == 8

    def test_leaves_time_to_stop_and_lasts_twice_as_long(self, levels: Path) -> None:
        describe(levels.parent, travel_factor=1.5)
        env = make_rail_env(read(levels), 0)
        for agent in env.agents:
            stops = zip(agent.waypoints_latest_arrival[1:-1], agent.waypoints_earliest_departure[1:-1], strict=True)
            assert all(departure == arrival + 2 for arrival, departure in stops)
            (row, column), direction = agent.initial_configuration
            direct = env.distance_map.get()[agent.handle, row, column, direction]
            assert agent.latest_arrival - agent.earliest_departure >= 1.5 * direct
        assert env._max_episode_steps == 2 * max(agent.latest_arrival for agent in env.agents)

    def test_length_of_the_episode_can_be_set(self, levels: Path) -> None:
        describe(levels.parent, max_episode_steps=180, interval=5)
        for seed in range(4):
            env = make_rail_env(read(levels), seed)
            assert env._max_episode_steps == 180
            assert max(agent.latest_arrival for agent in env.agents) <= 180

    def test_more_trains_than_departures(self, levels: Path) -> None:
        describe(levels.parent, trains=[3, 400], max_episode_steps=200)
        assert "levels: 400 trains are asked for, but only" in refused(levels)
        describe(levels.parent, trains=[3, 100_000])
        assert "departures fit in" in refused(levels)
        describe(levels.parent, trains=3, max_episode_steps=2)
        assert "only 0 departures fit in" in refused(levels)

    def test_as_many_as_fit(self, levels: Path) -> None:
        describe(levels.parent, trains=400, max_episode_steps=200, interval=10)
        fitting = int(refused(levels).split("but only ")[1].split()[0])
        describe(levels.parent, trains=fitting, max_episode_steps=200, interval=10)
        for seed in range(4):
            env = make_rail_env(read(levels), seed)
            assert env.get_num_agents() == fitting
            assert max(agent.latest_arrival for agent in env.agents) <= 200
        describe(levels.parent, trains=fitting + 1, max_episode_steps=200, interval=10)
        refused(levels)


class TestDisruptions:
    def test_effects_of_the_competition(self) -> None:
        env = make_rail_env(SMALL, 0)
        assert isinstance(env.effects_generator, MultiEffectsGeneratorWrapped)
        delays, breakdowns = env.effects_generator.effects_generators
        assert type(delays) is IntermediateStopMalfunctionEffectsGenerator
        assert (delays._malfunction_rate, delays._min_duration, delays._max_duration) == (1 / 10, 2, 5)
        assert type(breakdowns) is MalfunctionEffectsGenerator
        assert tuple(breakdowns.malfunction_generator.MFP) == (1 / 540, 20, 50)

    def test_none_unless_asked_for(self, levels: Path) -> None:
        env = make_rail_env(read(levels), 0)
        assert type(env.effects_generator) is MalfunctionEffectsGenerator
        assert env.effects_generator.malfunction_generator.MFP.malfunction_rate == 0

    def test_from_the_file(self, levels: Path) -> None:
        disruptions = {"interval": 50, "duration": [3, 4]}
        describe(levels.parent, malfunctions=disruptions, departure_delays={"interval": 2.5, "duration": 3})
        config = read(levels)
        assert config.malfunctions == Disruptions(50, 3, 4)
        assert config.departure_delays == Disruptions(2.5, 3, 3)


@pytest.mark.parametrize("name", ["ECML_small", "ECML_medium"])
@pytest.mark.parametrize("rewards", [SMALL.rewards, ECML2026Rewards])
def test_compiled_simulator_plays_them_as_flatland_does(name: str, rewards: type) -> None:
    config = replace(SAMPLED_ENVS[name], rewards=rewards, departure_delays=Disruptions(3, 2, 5))
    play_both(make_rail_env(config, 3), random_share=0.1, seed=3, halting=0.5)


class TestNamedConfigurations:
    @pytest.mark.parametrize(
        ("name", "size", "trains"),
        [("ECML_small", (30, 40), (7, 10)), ("ECML_medium", (60, 80), (25, 40)), ("ECML_large", (120, 150), (90, 90))],
    )
    def test_sizes(self, name: str, size: tuple[int, int], trains: tuple[int, int]) -> None:
        config = resolve_env_config(name.lower())
        assert config is SAMPLED_ENVS[name]
        env = make_rail_env(config, 1)
        assert (env.height, env.width) == size == env.rail.grid.shape == env.agent_positions.shape
        assert trains[0] <= env.get_num_agents() <= trains[1] == config.n_agents
        distances = env.distance_map.get()
        for agent in env.agents:
            (row, column), direction = agent.initial_configuration
            assert np.isfinite(distances[agent.handle, row, column, direction])

    def test_small_has_two_or_three_stops(self) -> None:
        n_stops = [len(a.waypoints) - 2 for seed in range(10) for a in make_rail_env(SMALL, seed).agents]
        assert max(n_stops) == 3
        assert np.mean([n >= 2 for n in n_stops]) > 0.8

    def test_packed_and_saved_levels_are_the_same(self, tmp_path: Path) -> None:
        env = make_rail_env(SMALL, 2)
        packed = pack_level(CompiledSimulator.from_env(env))
        assert pack_level(unpack_level(packed)) == packed
        RailEnvPersister.save(env, tmp_path / "level.pkl")
        saved = make_rail_env(resolve_env_config(str(tmp_path / "level.pkl")), 5)
        assert timetable(saved) == timetable(env)

    def test_global_random_state_is_left_alone(self) -> None:
        random.seed(7)
        before = random.getstate()
        make_rail_env(SMALL, 0)
        assert random.getstate() == before


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"map": None}, "lack the key 'map'"),
            ({"trains": None}, "lack the key 'trains'"),
            ({"colour": 3}, "have an unknown key 'colour': known are map, stations, scene"),
            ({"trains": 0}, "'trains' in the levels .* is 0, but must be a whole number of at least 1, or two"),
            ({"trains": [5, 3]}, "'trains' .* the smaller first"),
            ({"trains": True}, "'trains' .* is true, but must be"),
            ({"trains": [1, 2, 3]}, "'trains'"),
            ({"line_length": 1}, "'line_length' .* at least 2"),
            ({"lines": 1.5}, "'lines' .* whole number"),
            ({"interval": 0}, "'interval' .* at least 1"),
            ({"travel_factor": 0.9}, "'travel_factor' .* finite number of at least 1"),
            ({"travel_factor": float("nan")}, "'travel_factor' .* finite"),
            ({"max_episode_steps": "long"}, "'max_episode_steps'"),
            ({"map": 7}, "'map' .* must be a text"),
            ({"malfunctions": 540}, "'malfunctions' .* must be as"),
            ({"malfunctions": {"interval": 540}}, "malfunctions in the levels .* lack the key 'duration'"),
            ({"departure_delays": {"interval": 0, "duration": 3}}, "'interval' in departure_delays .* at least 1"),
            ({"departure_delays": {"interval": 1, "duration": 3, "rate": 1}}, "unknown key 'rate'"),
            ({"scene": "scene_9"}, "the stations do not know the scene 'scene_9': they know all, west"),
            ({"scene": "west", "stations": None}, "tells of no scenes"),
            ({"map": "absent.pkl"}, "the map .*absent.pkl' does not exist"),
            ({"stations": "absent.pkl"}, "the file of stations .*absent.pkl' does not exist"),
            ({"map": "stations.pkl"}, "is not an environment saved by RailEnvPersister"),
            ({"stations": "map.pkl"}, "holds no stations"),
        ],
    )
    def test_what_is_described(self, levels: Path, values: dict[str, Any], sentence: str) -> None:
        describe(levels.parent, **values)
        with pytest.raises(EnvConfigError, match=sentence):
            resolve_env_config(str(levels))
        refused(levels)

    @pytest.mark.parametrize("text", ["", "[1", "[]", "3", '{"map": 1, "map": 2}', "\ud800", "[" * 100_000])
    def test_what_is_no_description(self, levels: Path, text: str) -> None:
        levels.write_bytes(text.encode(errors="surrogatepass"))
        assert "levels.json' " in refused(levels)

    def test_missing(self, tmp_path: Path) -> None:
        assert refused(tmp_path / "absent.json").endswith("absent.json' does not exist")

    def test_map_without_stations(self, levels: Path) -> None:
        env = drawn_env(["<---------->"], [(((0, 4), EAST), (0, 5))])
        RailEnvPersister.save(env, levels.with_name("map.pkl"))
        describe(levels.parent, stations=None)
        assert "map.pkl' has no stations: give a file that knows at least two" in refused(levels)

    def test_stations_of_another_map(self, levels: Path) -> None:
        content = pickle.loads(levels.with_name("stations.pkl").read_bytes())
        content["train_stations"][0][0] = ((1000, 2), 0)
        levels.with_name("stations.pkl").write_bytes(pickle.dumps(content))
        assert "do not belong to the map" in refused(levels)
        assert "no track in row 1000, column 2" in refused(levels)

    def test_stations_that_no_way_joins(self, levels: Path) -> None:
        env = drawn_env(["<---->", "<---->"], [(((0, 2), EAST), (0, 4))])
        RailEnvPersister.save(env, levels.with_name("map.pkl"))
        content = {"train_stations": [[((0, 1), 0)], [((1, 1), 0)]]}
        levels.with_name("stations.pkl").write_bytes(pickle.dumps(content))
        assert "has no way from one of the 2 stations to another" in refused(levels)
