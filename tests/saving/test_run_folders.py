"""Where a run writes: names, folders that cannot be written, and sizes that will not fit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from reinforcement_learning.learning.replay_buffer import bytes_needed
from reinforcement_learning.saving.run_folders import prepare_run_folders, warn_about_sizes
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from utils.observation.feature_sets import get_feature_set


def config_below(base: Path, **options: Any) -> TrainingConfig:
    folders = {name: str(base / name) for name in ("checkpoint_dir", "replay_buffer_dir", "output_dir")}
    return TrainingConfig(**{"training_env_config": "Tiny", **folders, **options})


def test_folders_carry_the_name_and_exist(tmp_path: Path) -> None:
    folders = prepare_run_folders(config_below(tmp_path, run_name="mine", save_replay_buffer=True), resumed=False)
    assert folders.name == "mine"
    assert folders.checkpoints == tmp_path / "checkpoint_dir" / "mine"
    assert all(folder.is_dir() for folder in (folders.checkpoints, folders.replay_buffers, folders.output))


def test_names_by_environment_and_seed_are_never_shared(tmp_path: Path) -> None:
    config = config_below(tmp_path, seed=5)
    names = [prepare_run_folders(config, resumed=False).name for _ in range(5)]
    assert len(set(names)) == 5
    assert all(name.startswith("Tiny-seed5-") for name in names)


def test_name_of_another_run_is_refused_unless_it_is_resumed(tmp_path: Path) -> None:
    config = config_below(tmp_path, run_name="mine")
    folders = prepare_run_folders(config, resumed=False)
    (folders.checkpoints / "episode_0000100.pt").touch()
    with pytest.raises(ConfigError, match=r"--run_name 'mine'.*--resume .*mine/episode_0000100\.pt"):
        prepare_run_folders(config, resumed=False)
    assert prepare_run_folders(config, resumed=True) == folders


@pytest.mark.parametrize("option", ["checkpoint_dir", "replay_buffer_dir", "output_dir"])
@pytest.mark.parametrize("below", ["", "a/folder/further/down"])
def test_folder_that_cannot_be_written_is_named(tmp_path: Path, option: str, below: str) -> None:
    (tmp_path / "file").touch()  # a file in place of a folder stops even the superuser
    folder = str(tmp_path / "file" / below)
    with pytest.raises(ConfigError) as error_info:
        prepare_run_folders(config_below(tmp_path, **{option: folder}), resumed=False)
    sentence = str(error_info.value)
    assert f"--{option}" in sentence
    assert folder in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ["taken", "n" * 300])
def test_run_name_that_makes_no_folder(tmp_path: Path, name: str) -> None:
    config = config_below(tmp_path, run_name=name)
    Path(config.output_dir).mkdir()
    (Path(config.output_dir) / "taken").touch()
    with pytest.raises(ConfigError, match="--run_name"):
        prepare_run_folders(config, resumed=False)


def test_leftovers_of_a_killed_run_go(tmp_path: Path) -> None:
    config = config_below(tmp_path, run_name="mine")
    folders = prepare_run_folders(config, resumed=False)
    leftover = folders.checkpoints / ".episode_0000001.pt.123.tmp"
    leftover.touch()
    prepare_run_folders(config, resumed=True)
    assert not leftover.exists()


class TestSizes:
    def warnings(self, monkeypatch: pytest.MonkeyPatch, config: TrainingConfig, memory: float, disk: float) -> list:
        """What is said with so many buffers' worth of memory and disk free."""
        size = bytes_needed(config.buffer_size, get_feature_set(config.feature_set).n_features)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory * size))
        monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(free=disk * size))
        said: list[str] = []
        warn_about_sizes(config, said.append)
        return said

    def test_enough_of_both(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        config = config_below(tmp_path, save_replay_buffer=True)
        assert self.warnings(monkeypatch, config, memory=1.1, disk=2.1) == []

    def test_too_little_memory(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (warning,) = self.warnings(monkeypatch, config_below(tmp_path), memory=0.9, disk=0.0)
        assert "--buffer_size 100000" in warning
        assert "memory" in warning

    def test_too_little_disk_matters_only_where_buffers_are_saved(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert self.warnings(monkeypatch, config_below(tmp_path), memory=2.0, disk=0.5) == []
        config = config_below(tmp_path, save_replay_buffer=True)
        (warning,) = self.warnings(monkeypatch, config, memory=2.0, disk=1.9)
        assert config.replay_buffer_dir in warning
        assert "disk" in warning
