"""Folders and patterns of saved levels: which files are found, whose turn it is, what is refused."""

import pickle
from pathlib import Path

import pytest
from flatland.envs.persistence import RailEnvPersister

from tests.helpers.lockstep import lockstep
from tests.helpers.sampled_levels import save_map
from utils.levels.env_configs import ENV_CONFIGS, names_files, resolve_env_config, single_envs, with_absolute_path
from utils.levels.level_folders import LevelFolder
from utils.levels.level_pool import LevelPool
from utils.levels.level_streams import TrainingLevels
from utils.levels.playable_levels import EvaluationLevels
from utils.levels.rail_envs import make_rail_env
from utils.levels.saved_levels import EnvConfigError, SavedEnv, check_saved_env
from utils.simulator.compiled_simulator import CompiledSimulator


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    """Two and five trains, and what is no level."""
    folder = tmp_path / "levels"
    folder.mkdir()
    for name, config in (("a", "Tiny"), ("b", "Test_0"), ("c", "Tiny")):
        RailEnvPersister.save(make_rail_env(ENV_CONFIGS[config], ord(name)), folder / f"{name}.pkl")
    save_map(tmp_path)
    (tmp_path / "stations.pkl").rename(folder / "a_stations.pkl")
    (folder / "notes.txt").touch()
    return folder


def resolve(given: object) -> LevelFolder:
    env = resolve_env_config(str(given))
    assert isinstance(env, LevelFolder)
    return env


def names(folder: LevelFolder) -> list[str]:
    return [level.name for level in folder.levels]


class TestFiles:
    def test_of_a_folder(self, levels: Path) -> None:
        for given in (levels, f"{levels}/"):
            assert names(resolve(given)) == ["a", "b", "c"]
            assert resolve(given).name == "levels"

    def test_of_a_pattern(self, levels: Path) -> None:
        assert names(resolve(levels / "[ab]*.pkl")) == ["a", "b"]
        assert names(resolve(levels / "*.pkl")) == ["a", "b", "c"]
        assert names(resolve(levels / "**" / "c.pkl")) == ["c"]
        assert resolve(levels / "*.pkl").name == "levels"

    def test_in_folders_below_names_tell_them_apart(self, levels: Path) -> None:
        for test in ("Test_00", "Test_01"):
            (levels / test).mkdir()
            (levels / test / "Level_0.pkl").write_bytes((levels / "a.pkl").read_bytes())
        assert names(resolve(levels)) == ["Test_00-Level_0", "Test_01-Level_0", "a", "b", "c"]
        assert names(resolve(levels / "Test_*" / "*.pkl")) == ["Test_00-Level_0", "Test_01-Level_0"]

    def test_file_with_the_signs_of_a_pattern_in_its_name(self, levels: Path) -> None:
        path = (levels / "a.pkl").rename(levels / "a[1].pkl")
        assert resolve_env_config(str(path)) == SavedEnv(path)

    def test_folder_with_the_signs_of_a_pattern_in_its_name(self, levels: Path) -> None:
        assert names(resolve(levels.rename(levels.with_name("levels[1]")))) == ["a", "b", "c"]

    def test_nothing_there(self, levels: Path) -> None:
        (levels / "empty").mkdir()
        for given in (levels / "empty", levels / "z*.pkl", levels / "*_stations.pkl"):
            with pytest.raises(EnvConfigError, match=r"there is no saved environment \(\.pkl\)"):
                resolve_env_config(str(given))

    def test_one_that_is_no_level(self, levels: Path) -> None:
        (levels / "d.pkl").write_bytes(pickle.dumps([1]))
        with pytest.raises(EnvConfigError, match=r"d\.pkl' is not an environment"):
            resolve_env_config(str(levels))

    def test_are_paths_that_only_the_command_line_may_name(self, levels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(levels.parent)
        for given in ("levels", "levels/*.pkl", "levels.json", "x.PKL"):
            assert names_files(given)
            assert with_absolute_path(given) == str(levels.parent / given)
        for given in ("0", "Tiny", "ecml_small", " test_1 "):
            assert not names_files(given)
            assert with_absolute_path(given) == given


class TestTurns:
    def test_in_training(self, levels: Path) -> None:
        folder = resolve(levels)
        made = TrainingLevels(folder, 3)
        assert [made.make(k).get_num_agents() for k in range(6)] == [2, 5, 2, 2, 5, 2]
        assert folder.n_agents == 5
        lockstep(TrainingLevels(folder, 3).make(4), TrainingLevels(SavedEnv(levels / "b.pkl"), 3).make(4))

    def test_from_another_process(self, levels: Path) -> None:
        with LevelPool(resolve(levels), 3, n_workers=1, end=4, warn=pytest.fail) as pool:
            assert [pool.simulator(k).state.n_trains for k in range(4)] == [2, 5, 2, 2]

    @pytest.mark.parametrize(("asked", "played"), [(1, [2, 5, 2]), (4, [2, 5, 2, 2])])
    def test_in_evaluation_each_at_least_once(self, levels: Path, asked: int, played: list[int]) -> None:
        found = EvaluationLevels(resolve(levels), 3, asked)
        assert [found.make(i).get_num_agents() for i in range(len(found))] == played

    def test_by_seed(self, levels: Path) -> None:
        assert [make_rail_env(resolve(levels), seed).get_num_agents() for seed in range(3)] == [2, 5, 2]

    def test_are_scored_apart(self, levels: Path) -> None:
        found = single_envs([ENV_CONFIGS["Tiny"], resolve(levels)])
        assert [env.name for env in found] == ["Tiny", "a", "b", "c"]


def test_loading_keeps_flatlands_distances(levels: Path) -> None:
    plain, _ = RailEnvPersister.load_new(levels / "b.pkl")
    saved = SavedEnv(levels / "b.pkl")
    check_saved_env(saved)
    assert (make_rail_env(saved, 0).distance_map.get() == plain.distance_map.get()).all()
    assert CompiledSimulator.from_env(make_rail_env(saved, 0)).state.n_trains == 5
