"""The registry, the ways to name an environment, and environments against flatland's own recipe."""

import dataclasses
import gc
import pickle
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from flatland.core.env_observation_builder import DummyObservationBuilder
from flatland.envs.line_generators import sparse_line_generator
from flatland.envs.malfunction_generators import MalfunctionParameters, ParamMalfunctionGen
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_generators import sparse_rail_generator

from tests.helpers.lockstep import lockstep, malfunctions
from utils.levels.env_configs import ENV_CONFIGS, EnvConfig, resolve_env_config
from utils.levels.flatland_workarounds import garbage_collection_paused
from utils.levels.rail_envs import make_rail_env, unset_rail_env
from utils.levels.saved_levels import EnvConfigError, SavedEnv


def line_of_three_stops(seed: int) -> RailEnv:
    """An environment whose trains call at a city on the way."""
    env = RailEnv(
        width=30,
        height=40,
        rail_generator=sparse_rail_generator(max_num_cities=3, max_rail_pairs_in_city=1),
        line_generator=sparse_line_generator(line_length=3),
        number_of_agents=4,
        malfunction_generator=ParamMalfunctionGen(MalfunctionParameters(1 / 30, 3, 9)),
        obs_builder_object=DummyObservationBuilder(),
        random_seed=seed,
    )
    env.reset(True, True, random_seed=seed)
    return env


@pytest.fixture
def saved_file(tmp_path: Path) -> Path:
    path = tmp_path / "Level_0.pkl"
    RailEnvPersister.save(make_rail_env(ENV_CONFIGS["Test_0"], 5), path)
    return path


class TestRegistry:
    def test_holds_the_classic_the_official_and_the_tiny_configurations(self) -> None:
        official = [f"{setting}_Test_{i:02}" for setting in ("Round2", "Benchmarks") for i in range(15)]
        assert sorted(ENV_CONFIGS) == sorted(["Test_0", "Test_1", "Test_2", "Tiny", *official])
        assert all(config.name == name for name, config in ENV_CONFIGS.items())

    @pytest.mark.parametrize("name", ["Tiny", "Test_0", "Test_1", "Test_2", "Benchmarks_Test_00"])
    def test_every_level_has_as_many_trains_as_its_configuration_says(self, name: str) -> None:
        for seed in range(3):
            assert make_rail_env(ENV_CONFIGS[name], seed).get_num_agents() == ENV_CONFIGS[name].n_agents

    def test_sizes_of_the_largest_official_configuration(self) -> None:
        config = ENV_CONFIGS["Benchmarks_Test_14"]
        assert (config.n_agents, config.width, config.height, config.n_cities) == (425, 158, 158, 41)
        assert sum(share for _, share in config.speed_ratios) == 1

    def test_the_two_official_settings_differ_in_malfunctions_and_in_the_trains_of_one_test(self) -> None:
        of_2021 = [540, 900, 1800, 4500, *[7200] * 5, *[9000] * 2, *[18000] * 2, *[36000] * 2]
        for test, interval in enumerate(of_2021):
            round2, today = (ENV_CONFIGS[f"{setting}_Test_{test:02}"] for setting in ("Round2", "Benchmarks"))
            assert (round2.malfunction_rate, today.malfunction_rate) == (1 / interval, 1 / 540)
            trains = {"n_agents": 7} if test == 1 else {}
            assert today == dataclasses.replace(round2, name=today.name, malfunction_rate=1 / 540, **trains)
        assert ENV_CONFIGS["Round2_Test_01"].n_agents == 10

    @pytest.mark.parametrize(
        ("given", "name"),
        [(0, "Test_0"), ("1", "Test_1"), ("test_2", "Test_2"), ("TINY", "Tiny"), ("round2_test_03", "Round2_Test_03")],
    )
    def test_accepts_numbers_and_names_in_any_case(self, given: str | int, name: str) -> None:
        assert resolve_env_config(given) is ENV_CONFIGS[name]


class TestWhatIsNoEnvironment:
    @pytest.mark.parametrize(
        "given", [3, -1, "17", "Test_9", "", "Round2_Test_15", "Benchmarks_Test_15", "level.txt", "1.5"]
    )
    def test_unknown_names_are_named_together_with_what_is_accepted(self, given: str | int) -> None:
        with pytest.raises(EnvConfigError) as raised:
            resolve_env_config(given)
        message = str(raised.value)
        assert str(given) in message
        assert "Test_0, Test_1, Test_2, Tiny, Round2_Test_00 to Round2_Test_14, Benchmarks_Test_00 to " in message
        assert "ECML_small, ECML_medium, ECML_large" in message
        assert ".pkl, of a folder of them, or of levels described in .json" in message
        assert "\n" not in message

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(EnvConfigError, match=r"absent\.pkl.* does not exist"):
            resolve_env_config(str(tmp_path / "absent.pkl"))

    @pytest.mark.parametrize(
        "content",
        [b"", b"no pickle", b"\x00\xff" * 50, pickle.dumps([1, 2]), pickle.dumps({"grid": [[0]]}), pickle.dumps({})],
    )
    def test_file_that_holds_no_environment(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "level.pkl"
        path.write_bytes(content)
        with pytest.raises(EnvConfigError, match=r"'.*level\.pkl' is not an environment saved by RailEnvPersister"):
            resolve_env_config(str(path))

    def test_half_a_file(self, saved_file: Path) -> None:
        content = saved_file.read_bytes()
        saved_file.write_bytes(content[: len(content) // 2])
        with pytest.raises(EnvConfigError, match="is not an environment"):
            resolve_env_config(str(saved_file))

    def test_folder_with_the_name_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "level.pkl").mkdir()
        with pytest.raises(EnvConfigError, match=r"no saved environment \(\.pkl\) in the folder"):
            resolve_env_config(str(tmp_path / "level.pkl"))


def by_the_recipe(config: EnvConfig, seed: int) -> RailEnv:
    """The environment as flatland's documentation builds it, without any help of the kit."""
    rail = sparse_rail_generator(
        max_num_cities=config.n_cities,
        grid_mode=False,
        max_rails_between_cities=2,
        max_rail_pairs_in_city=config.max_rail_pairs_in_city,
    )
    lines = sparse_line_generator({1.0: 0.25, 0.5: 0.25, 1 / 3: 0.25, 0.25: 0.25} if config.speed_ratios else None)
    malfunction = MalfunctionParameters(config.malfunction_rate, min_duration=20, max_duration=50)
    env = RailEnv(
        config.width,
        config.height,
        rail,
        lines,
        config.n_agents,
        malfunction_generator=ParamMalfunctionGen(malfunction),
        random_seed=seed,
    )
    env.reset(True, True, random_seed=seed)
    return env


class TestMakeRailEnv:
    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("name", ["Tiny", "Test_0", "Test_1", "Test_2", "Benchmarks_Test_00", "Benchmarks_Test_02"])
    def test_plays_like_the_recipe_with_malfunctions(self, name: str) -> None:
        config = ENV_CONFIGS[name]
        broken = lockstep(by_the_recipe(config, 1000), make_rail_env(config, 1000))
        assert (broken > 0) == (config.malfunction_rate > 0)

    def test_tiny_is_always_solvable_and_short(self) -> None:
        for seed in range(10):
            env = make_rail_env(ENV_CONFIGS["Tiny"], seed)
            for agent in env.agents:
                (row, column), direction = agent.initial_configuration
                assert np.isfinite(env.distance_map.get()[agent.handle, row, column, direction])
            assert env._max_episode_steps < 100

    def test_says_nothing_and_leaves_global_state_alone(self) -> None:
        random.seed(7)
        before = random.getstate(), gc.isenabled()
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            filters = list(warnings.filters)
            for seed in range(4):
                make_rail_env(ENV_CONFIGS["Tiny"], seed)
            assert warnings.filters == filters
        assert shown == []
        assert (random.getstate(), gc.isenabled()) == before

    def test_the_silence_is_needed(self) -> None:
        with pytest.warns(UserWarning, match=r"\[WARNING\]|Could not set all required cities"):
            [unset_rail_env(ENV_CONFIGS["Tiny"], seed).reset(True, True, random_seed=seed) for seed in range(4)]


def test_garbage_collection_is_put_back_as_it_was() -> None:
    gc.enable()
    with garbage_collection_paused():
        with garbage_collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_garbage_collection_is_put_back_after_an_error() -> None:
    gc.enable()
    with pytest.raises(RuntimeError), garbage_collection_paused():
        raise RuntimeError
    assert gc.isenabled()


class TestSavedEnv:
    def test_same_level_every_time_with_malfunctions_from_the_seed(self, saved_file: Path) -> None:
        saved = resolve_env_config(str(saved_file))
        assert saved == SavedEnv(saved_file)
        assert saved.name == "Level_0"
        original = make_rail_env(ENV_CONFIGS["Test_0"], 5)
        envs = [make_rail_env(saved, seed) for seed in (1, 1, 2)]
        for env in envs:
            assert np.array_equal(env.rail.grid, original.rail.grid)
            assert np.array_equal(env.distance_map.get(), original.distance_map.get())
            assert env._max_episode_steps == original._max_episode_steps
            for agent, other in zip(env.agents, original.agents, strict=True):
                assert agent.waypoints == other.waypoints
                assert agent.targets == other.targets
                assert agent.waypoints_earliest_departure == other.waypoints_earliest_departure
                assert agent.waypoints_latest_arrival == other.waypoints_latest_arrival
            assert env.malfunction_process_data == original.malfunction_process_data
        first, again, different = (malfunctions(env) for env in envs)
        assert first == again
        assert any(first)
        assert first != different

    def test_plays_like_the_remote_evaluator_plays_it(self, saved_file: Path) -> None:
        graded, _ = RailEnvPersister.load_new(saved_file)
        graded.reset(True, True, random_seed=1001)
        assert lockstep(graded, make_rail_env(SavedEnv(saved_file), 1001)) > 0

    def test_knows_its_number_of_trains(self, saved_file: Path) -> None:
        assert SavedEnv(saved_file).n_agents == make_rail_env(SavedEnv(saved_file), 0).get_num_agents() == 5

    def test_intermediate_stops(self, tmp_path: Path) -> None:
        original = line_of_three_stops(3)
        assert any(len(agent.waypoints) == 3 for agent in original.agents)
        RailEnvPersister.save(original, tmp_path / "stops.pkl")
        env = make_rail_env(resolve_env_config(str(tmp_path / "stops.pkl")), 1001)
        for agent, other in zip(env.agents, original.agents, strict=True):
            assert agent.waypoints == other.waypoints
            assert agent.waypoints_earliest_departure == other.waypoints_earliest_departure
        graded, _ = RailEnvPersister.load_new(tmp_path / "stops.pkl")
        graded.reset(True, True, random_seed=1001)
        lockstep(graded, env)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_file_saved_in_the_middle_of_an_episode_begins_at_step_0(self, tmp_path: Path) -> None:
        config = ENV_CONFIGS["Benchmarks_Test_00"]
        played = make_rail_env(config, 8)
        for _ in range(40):
            played.step(dict.fromkeys(range(7), 2))
        for _ in range(5):
            played.step(dict.fromkeys(range(7), 4))
        assert any(agent.speed_counter.speed == 0 for agent in played.agents)
        RailEnvPersister.save(played, tmp_path / "played.pkl")
        RailEnvPersister.save(make_rail_env(config, 8), tmp_path / "unplayed.pkl")
        unplayed, rewound = (make_rail_env(SavedEnv(tmp_path / f"{name}.pkl"), 4) for name in ("unplayed", "played"))
        lockstep(unplayed, rewound)

    def test_level_free_crossings_are_kept(self, tmp_path: Path) -> None:
        env = make_rail_env(ENV_CONFIGS["Test_0"], 5)
        env.resource_map.level_free_positions = {(3, 4)}
        RailEnvPersister.save(env, tmp_path / "level_free.pkl")
        loaded = make_rail_env(SavedEnv(tmp_path / "level_free.pkl"), 0)
        assert loaded.resource_map.level_free_positions == {(3, 4)}

    def test_environments_are_independent_and_can_be_reset_and_pickled(self, saved_file: Path) -> None:
        first, second = make_rail_env(SavedEnv(saved_file), 1), make_rail_env(SavedEnv(saved_file), 1)
        malfunctions(first)
        first.reset(True, True, random_seed=1)
        assert np.array_equal(first.rail.grid, second.rail.grid)
        lockstep(second, pickle.loads(pickle.dumps(make_rail_env(SavedEnv(saved_file), 1))))

    def test_changed_file_is_read_again(self, saved_file: Path) -> None:
        before = make_rail_env(SavedEnv(saved_file), 0)
        RailEnvPersister.save(make_rail_env(ENV_CONFIGS["Test_1"], 5), saved_file)
        after = make_rail_env(SavedEnv(saved_file), 0)
        assert (len(before.agents), len(after.agents)) == (5, 10)
