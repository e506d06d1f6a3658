"""Where a run writes: names, folders that cannot be written, and sizes that will not fit."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from reinforcement_learning.learning.replay_buffer import bytes_needed
from reinforcement_learning.saving.run_folders import (
    LOCK_FILE,
    RunFolders,
    check_file_writable,
    own_run_folders,
    warn_about_sizes,
)
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from utils.observation.feature_sets import get_feature_set
from utils.system.files import PROJECT_ROOT


def config_below(base: Path, **options: Any) -> TrainingConfig:
    folders = {name: str(base / name) for name in ("checkpoint_dir", "replay_buffer_dir", "output_dir")}
    return TrainingConfig(**{"training_env_config": "Tiny", **folders, **options})


def made(config: TrainingConfig, *, resumed: bool = False) -> RunFolders:
    """The folders of a run that has left something in each of them, and has ended."""
    with own_run_folders(config, resumed=resumed) as folders:
        for folder in (folders.checkpoints, folders.replay_buffers, folders.output):
            if folder.is_dir():
                (folder / "something").touch()
        return folders


def test_folders_carry_the_name_and_exist(tmp_path: Path) -> None:
    with own_run_folders(config_below(tmp_path, run_name="mine", save_replay_buffer=True), resumed=False) as folders:
        assert folders.name == "mine"
        assert folders.checkpoints == tmp_path / "checkpoint_dir" / "mine"
        assert all(folder.is_dir() for folder in (folders.checkpoints, folders.replay_buffers, folders.output))


def test_names_by_environment_and_seed_are_never_shared(tmp_path: Path) -> None:
    config = config_below(tmp_path, seed=5)
    names = [made(config).name for _ in range(5)]
    assert len(set(names)) == 5
    assert all(name.startswith("Tiny-seed5-") for name in names)


def test_name_of_another_run_is_refused_unless_it_is_resumed(tmp_path: Path) -> None:
    config = config_below(tmp_path, run_name="mine")
    folders = made(config)
    (folders.checkpoints / "episode_0000100.pt").touch()
    with pytest.raises(ConfigError, match=r"--run_name 'mine'.*--resume .*mine/episode_0000100\.pt"):
        made(config)
    assert made(config, resumed=True) == folders


@pytest.mark.parametrize("option", ["checkpoint_dir", "replay_buffer_dir", "output_dir"])
@pytest.mark.parametrize("below", ["", "a/folder/further/down"])
def test_folder_that_cannot_be_written_is_named(tmp_path: Path, option: str, below: str) -> None:
    (tmp_path / "file").touch()  # a file in place of a folder stops even the superuser
    folder = str(tmp_path / "file" / below)
    with pytest.raises(ConfigError) as error_info:
        made(config_below(tmp_path, **{option: folder}))
    sentence = str(error_info.value)
    assert f"--{option}" in sentence
    assert folder in sentence
    assert "\n" not in sentence
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["taken", "n" * 300])
def test_run_name_that_makes_no_folder(tmp_path: Path, name: str) -> None:
    config = config_below(tmp_path, run_name=name)
    Path(config.output_dir).mkdir()
    (Path(config.output_dir) / "taken").touch()
    with pytest.raises(ConfigError, match="--run_name"):
        made(config)


def test_leftovers_of_a_killed_run_go(tmp_path: Path) -> None:
    config = config_below(tmp_path, run_name="mine")
    leftover = made(config).checkpoints / ".episode_0000001.pt.123.tmp"
    leftover.touch()
    made(config, resumed=True)
    assert not leftover.exists()


class TestOwner:
    @pytest.mark.parametrize("resumed", [False, True])
    def test_second_training_of_a_name_is_refused_while_the_first_runs(self, tmp_path: Path, resumed: bool) -> None:
        config = config_below(tmp_path, run_name="mine")
        with own_run_folders(config, resumed=False) as folders:
            half_written = folders.checkpoints / ".episode_0000001.pt.123.tmp"
            half_written.touch()
            with pytest.raises(ConfigError, match=r"--run_name 'mine' .*runs now and writes to .*checkpoint_dir/mine"):
                made(config, resumed=resumed)
            assert half_written.exists()
        made(config, resumed=True)

    @pytest.mark.parametrize("shared", ["checkpoint_dir", "replay_buffer_dir", "output_dir"])
    def test_one_folder_in_common_is_enough(self, tmp_path: Path, shared: str) -> None:
        first, second = (
            config_below(tmp_path / base, run_name="mine", save_replay_buffer=True, **{shared: str(tmp_path / "both")})
            for base in ("first", "second")
        )
        with own_run_folders(first, resumed=False), pytest.raises(ConfigError, match="both/mine"):
            made(second)

    def test_a_kill_frees_the_folders(self, tmp_path: Path) -> None:
        script = (
            "import os, sys; sys.path.insert(0, sys.argv[1])\n"
            "from reinforcement_learning.saving.run_folders import own_run_folders\n"
            "from tests.saving.test_run_folders import config_below, Path\n"
            "with own_run_folders(config_below(Path(sys.argv[2]), run_name='mine'), resumed=True):\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        config = config_below(tmp_path, run_name="mine")
        folder = made(config).checkpoints
        subprocess.run([sys.executable, "-c", script, str(PROJECT_ROOT), str(tmp_path)], check=False)
        assert sorted(os.listdir(folder)) == [LOCK_FILE, "something"]  # the killed one's lock is still there
        made(config)
        assert os.listdir(folder) == ["something"]

    def test_without_locks_nobody_is_kept_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_locks(*arguments: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        config = config_below(tmp_path, run_name="mine")
        monkeypatch.setattr(fcntl, "flock", no_locks)
        with own_run_folders(config, resumed=False):
            made(config)
        assert os.listdir(tmp_path / "checkpoint_dir" / "mine") == ["something"]


class TestEmptyFolders:
    def test_what_was_made_and_never_used_goes(self, tmp_path: Path) -> None:
        config = config_below(tmp_path / "far" / "down", save_replay_buffer=True)
        with pytest.raises(KeyError), own_run_folders(config, resumed=False):
            raise KeyError("refused for another reason")
        assert os.listdir(tmp_path) == []

    def test_what_was_there_or_has_content_stays(self, tmp_path: Path) -> None:
        config = config_below(tmp_path, run_name="mine")
        (tmp_path / "checkpoint_dir").mkdir()
        with own_run_folders(config, resumed=False) as folders:
            (folders.output / "metrics.jsonl").touch()
        assert sorted(os.listdir(tmp_path)) == ["checkpoint_dir", "output_dir"]
        assert os.listdir(tmp_path / "checkpoint_dir") == []

    def test_folder_that_is_removed_meanwhile_is_nobody_s_business(self, tmp_path: Path) -> None:
        with own_run_folders(config_below(tmp_path), resumed=False) as folders:
            shutil.rmtree(folders.output)


class TestFiles:
    def test_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"--json is .* a folder, but must be a file"):
            check_file_writable("json", tmp_path)

    def test_where_a_link_leads_to_is_looked_at(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(tmp_path / "file" / "below")
        with pytest.raises(ConfigError, match=r"--json: .*file cannot be written"):
            check_file_writable("json", tmp_path / "link")

    def test_beside_a_device_nothing_is_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "write_bytes", lambda *arguments: pytest.fail("written"))
        check_file_writable("json", Path(os.devnull))


class TestSizes:
    def warnings(self, monkeypatch: pytest.MonkeyPatch, config: TrainingConfig, memory: float, disk: float) -> list:
        """What is said with so many buffers' worth of memory and disk free."""
        size = bytes_needed(config.buffer_size, get_feature_set(config.feature_set))
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
