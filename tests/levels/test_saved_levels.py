"""Saved levels as people have them: without trains, without a way to the target, of other versions of flatland."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flatland.envs.persistence import RailEnvPersister

from tests.helpers.rail_envs import EAST, WEST, drawn_env
from utils.levels.env_configs import ENV_CONFIGS, names_files
from utils.levels.rail_envs import make_rail_env
from utils.levels.saved_levels import EnvConfigError, SavedEnv, check_saved_env, warn_about_targets

TWO_TRACKS = ["<---------->", " " * 12, "<---------->"]


@pytest.fixture
def level(tmp_path: Path) -> Path:
    path = tmp_path / "level.pkl"
    RailEnvPersister.save(drawn_env(TWO_TRACKS, [(((0, 4), EAST), (0, 10)), (((2, 7), WEST), (2, 1))]), path)
    return path


def change(path: Path, **values: Any) -> None:
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | values))


def refused(path: Path) -> str:
    with pytest.raises(EnvConfigError) as error_info:
        check_saved_env(SavedEnv(path))
    assert "\n" not in str(error_info.value)
    return str(error_info.value)


def test_without_trains(level: Path) -> None:
    change(level, agents=[])
    assert refused(level).endswith("has no trains")


def test_suffix_in_capitals(level: Path) -> None:
    loud = level.rename(level.with_suffix(".PKL"))
    assert make_rail_env(SavedEnv(loud), 1).get_num_agents() == 2
    assert names_files(str(loud))  # a pickle, which a checkpoint alone must not name


class TestTargets:
    def warnings(self, path: Path) -> list[str]:
        found: list[str] = []
        warn_about_targets([SavedEnv(path), ENV_CONFIGS["Tiny"], SavedEnv(path)], found.append)
        return found

    def test_within_reach(self, level: Path) -> None:
        assert self.warnings(level) == []

    @pytest.mark.parametrize(("targets", "n"), [([(2, 10), (2, 1)], 1), ([(2, 10), (0, 1)], 2)])
    def test_out_of_reach_are_told_once(self, tmp_path: Path, targets: list[tuple[int, int]], n: int) -> None:
        path = tmp_path / "level.pkl"
        starts = [((0, 4), EAST), ((2, 7), WEST)]
        RailEnvPersister.save(drawn_env(TWO_TRACKS, list(zip(starts, targets, strict=True))), path)
        (warning,) = self.warnings(path)
        assert warning.startswith(f"{n} of 2 trains in {path} cannot reach their target")


@pytest.mark.parametrize(
    "make_older",
    [
        lambda content: content.replace(b"MalfunctionProcessData", b"MalfunctionProcessDatx"),
        lambda content: content.replace(b"flatland.envs.agent_utils", b"flatland.envs.agent_utilx"),
        lambda content: pickle.dumps(
            (found := pickle.loads(content)) | {"agents": [tuple(agent)[:12] for agent in found["agents"]]}
        ),
        lambda content: pickle.dumps(pickle.loads(content) | {"level_free_positions": [3]}),
        lambda content: pickle.dumps(pickle.loads(content) | {"max_episode_steps": [3]}),
    ],
)
def test_of_another_version_of_flatland(level: Path, make_older: Callable[[bytes], bytes]) -> None:
    level.write_bytes(make_older(level.read_bytes()))
    sentence = refused(level)
    assert "was saved by another version" in sentence
    assert "RailEnvPersister" not in sentence
