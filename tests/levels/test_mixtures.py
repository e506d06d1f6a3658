"""Several environments in one training: which level is made of which, and how people name them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.lockstep import lockstep
from tests.helpers.processes import levels_ahead, wait_until_ready
from tests.helpers.simulator_equality import assert_same_in_play
from utils.levels.env_configs import ENV_CONFIGS, SAMPLED_ENVS
from utils.levels.level_pool import LevelPool
from utils.levels.level_streams import TrainingLevels
from utils.levels.mixtures import (
    MOST_ENVIRONMENTS,
    Mixture,
    any_names_files,
    join_environments,
    resolve_environments,
    split_environments,
    stage_of_level,
    with_absolute_paths,
)
from utils.levels.saved_levels import EnvConfigError
from utils.simulator.compiled_simulator import CompiledSimulator

TINY, TEST_0, STOPS = ENV_CONFIGS["Tiny"], ENV_CONFIGS["Test_0"], SAMPLED_ENVS["ECML_small"]
MIXTURE = Mixture((TINY, TEST_0, STOPS))


class TestStageOfLevel:
    def test_only_stages_that_are_open_and_what_is_opened_later_changes_nothing(self) -> None:
        """For many histories: of one stage or several, opened together, at once, late."""
        random = np.random.default_rng(0)
        for seed in range(20):
            opened = (0, *sorted(random.integers(0, 60, random.integers(0, 5)).tolist()))
            for k in range(80):
                stage = stage_of_level(seed, opened, k)
                assert opened[stage] <= k
                before = tuple(first for first in opened if first <= k)
                assert stage == stage_of_level(seed, before, k) == stage_of_level(seed, (*before, k + 1), k)

    def test_half_are_of_the_newest_and_half_of_all(self) -> None:
        count = Counter(stage_of_level(3, (0, 5, 9), k) for k in range(100, 4100))
        assert [round(count[stage] / 4000, 1) for stage in range(3)] == [0.2, 0.2, 0.7]  # 1/6, 1/6, 2/3
        count = Counter(stage_of_level(3, (0, 0, 0), k) for k in range(4000))
        assert [round(count[stage] / 4000, 1) for stage in range(3)] == [0.3, 0.3, 0.3]

    def test_differs_by_seed(self) -> None:
        first, second = ([stage_of_level(seed, (0, 0), k) for k in range(50)] for seed in (1, 2))
        assert first != second

    def test_is_the_same_in_every_version(self) -> None:
        """Checkpoints hold numbers of levels only."""
        assert [stage_of_level(1, (0, 4, 8), k) for k in range(16)] == [0, 0, 0, 0, 1, 0, 1, 1, 2, 2, 1, 1, 2, 2, 2, 2]


class TestLevels:
    def test_each_is_that_of_its_environment(self) -> None:
        levels = TrainingLevels(MIXTURE, 1)
        levels.opened = (0, 2, 4)
        some = {levels.stage(k): k for k in range(30)}  # a level of each
        assert some.keys() == {0, 1, 2}
        for stage, k in some.items():
            lockstep(levels.make(k), TrainingLevels(MIXTURE.environments[stage], 1).make(k))

    def test_first_of_each(self) -> None:
        assert [env.get_num_agents() for env in TrainingLevels(Mixture((TINY, TEST_0)), 3).first_of_each()] == [2, 5]

    def test_arrays_have_room_for_the_most_trains(self) -> None:
        assert Mixture((TEST_0, TINY)).n_agents == 5

    def test_made_ahead_of_another_environment_are_forgotten(self) -> None:
        mixture = Mixture((TINY, TEST_0))
        warnings: list[str] = []
        with LevelPool(mixture, 3, 1, end=12, warn=warnings.append) as pool:
            pool.levels.opened = (0,)
            pool.simulator(0)
            wait_until_ready(pool)
            pool.simulator(1)  # from now on the others are made ahead
            assert levels_ahead(pool) == set(range(2, 12))
            pool.simulator(2)
            pool.levels.opened = (0, 3)
            plain = TrainingLevels(mixture, 3)
            plain.opened = (0, 3)
            assert {plain.stage(k) for k in range(3, 12)} == {0, 1}
            for k in range(3, 12):
                assert_same_in_play(pool.simulator(k), CompiledSimulator.from_env(plain.make(k)), k)
            assert (levels_ahead(pool), warnings) == (set(), [])


class TestNames:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("2", ["2"]),
            ("2,Round2_Test_03", ["2", "Round2_Test_03"]),
            (" 2 , Tiny ", ["2", "Tiny"]),
            ('"a, b/level.pkl",2', ["a, b/level.pkl", "2"]),
            ("2,", ["2", ""]),
            ("", [""]),
        ],
    )
    def test_split(self, text: str, names: list[str]) -> None:
        assert split_environments(text) == names
        assert split_environments(join_environments(names)) == names

    def test_what_is_no_row_is_one_name(self) -> None:
        assert split_environments("a\nb") == ["a\nb"]

    def test_paths_in_a_folder_with_a_comma(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "a,b"
        folder.mkdir()
        monkeypatch.chdir(folder)
        absolute = with_absolute_paths("Tiny,level.pkl")
        assert split_environments(absolute) == ["Tiny", str(folder / "level.pkl")]
        assert with_absolute_paths(absolute) == absolute

    def test_files_are_found_among_names(self) -> None:
        assert any_names_files("Tiny, level.pkl")
        assert not any_names_files("Tiny, 2")

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("2,Test_2", "'Test_2' is given twice"),
            ("Tiny,,2", "unknown environment ''"),
            ("Tiny,7", "unknown environment 7"),
            (",".join(["Tiny"] * (MOST_ENVIRONMENTS + 1)), f"at most {MOST_ENVIRONMENTS} are accepted"),
        ],
    )
    def test_refused(self, text: str, sentence: str) -> None:
        with pytest.raises(EnvConfigError, match=sentence):
            resolve_environments(text)
