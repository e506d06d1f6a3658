"""Checkpoints: whole or absent, no code in them, and one sentence for each that cannot be used."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reinforcement_learning.export_checkpoint import main as export_main
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.saving.checkpointing import (
    BEST,
    CHECKPOINT_FORMAT,
    CheckpointError,
    export_checkpoint,
    find_checkpoint,
    latest_checkpoint,
    load_policy,
    newest_first,
    numbered_checkpoint,
    read_checkpoint,
    remove_all_but_newest,
    stored_feature_set,
    write_checkpoint,
)
from reinforcement_learning.tracking.metrics import of_policy
from tests.helpers.tiny_training import make_trainer
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import FEATURE_SETS, FeatureSet
from utils.simulator.simulator import FlatlandSimulator
from utils.system.files import PROJECT_ROOT


def content_of(trainer_folder: Path) -> dict[str, Any]:
    trainer, _ = make_trainer(trainer_folder)
    return trainer.state.state_dict()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return content_of(tmp_path_factory.mktemp("trainer"))


def one_sentence(error_info: pytest.ExceptionInfo[CheckpointError]) -> str:
    sentence = str(error_info.value)
    assert "\n" not in sentence
    assert "weights_only" not in sentence  # no word on how to open it unsafely
    return sentence


def no_warning(text: str) -> None:
    pytest.fail(f"unexpected warning: {text}")


class TestReading:
    def test_round_trip_without_running_code(self, tmp_path: Path, content: dict[str, Any]) -> None:
        path = tmp_path / "episode_0000001.pt"
        write_checkpoint(path, content)
        assert read_checkpoint(path)["config"] == content["config"]
        loaded = torch.load(path, weights_only=True)
        assert loaded["format_version"] == CHECKPOINT_FORMAT
        assert loaded["policies"][0]["exploration"] == content["policies"][0]["exploration"]
        for name, tensor in content["policies"][0]["q_network"].items():
            assert loaded["policies"][0]["q_network"][name].equal(tensor)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="does not exist"):
            read_checkpoint(tmp_path / "episode_0000001.pt")
        with pytest.raises(CheckpointError, match="is a folder"):
            read_checkpoint(tmp_path)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
    def test_half_a_file(self, tmp_path: Path, content: dict[str, Any], share: float) -> None:
        path = tmp_path / "half.pt"
        write_checkpoint(path, content)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match="damaged") as error_info:
            read_checkpoint(path)
        one_sentence(error_info)

    @pytest.mark.parametrize(
        "rubbish", [b"no checkpoint at all", pickle.dumps(print, 2), b"\x80\x02]q", b"PK\x03\x04" + b"\0" * 500]
    )
    def test_rubbish(self, tmp_path: Path, rubbish: bytes) -> None:
        path = tmp_path / "rubbish.pt"
        path.write_bytes(rubbish)
        with pytest.raises(CheckpointError, match="damaged") as error_info:
            read_checkpoint(path)
        one_sentence(error_info)

    def test_random_bytes(self, tmp_path: Path) -> None:
        path, random = tmp_path / "random.pt", np.random.default_rng(0)
        for start in (b"", b"\x80\x02", b"\x80\x02}("):
            for _ in range(30):
                path.write_bytes(start + random.bytes(60))
                with pytest.raises(CheckpointError):
                    read_checkpoint(path)

    @pytest.mark.parametrize("other", [torch.zeros(3), {"weights": torch.zeros(3)}, [1, 2]])
    def test_files_of_other_programs(self, tmp_path: Path, other: Any) -> None:
        path = tmp_path / "other.pt"
        torch.save(other, path)
        with pytest.raises(CheckpointError, match="not a checkpoint of this kit"):
            read_checkpoint(path)

    def test_whole_module_is_not_unpickled(self, tmp_path: Path) -> None:
        path = tmp_path / "module.pt"
        torch.save(torch.nn.Linear(2, 2), path)
        with pytest.raises(CheckpointError) as error_info:
            read_checkpoint(path)
        one_sentence(error_info)

    def test_another_format(self, tmp_path: Path) -> None:
        path = tmp_path / "future.pt"
        write_checkpoint(path, {})
        torch.save(torch.load(path, weights_only=True) | {"format_version": 99}, path)
        with pytest.raises(CheckpointError, match=f"format 99.*{CHECKPOINT_FORMAT}"):
            read_checkpoint(path)

    def test_a_part_is_missing(self, tmp_path: Path, content: dict[str, Any]) -> None:
        path = tmp_path / "part.pt"
        write_checkpoint(path, {name: value for name, value in content.items() if name != "policies"})
        with pytest.raises(CheckpointError, match="lacks policies"):
            read_checkpoint(path)


class TestFeatureSet:
    def test_same(self, content: dict[str, Any]) -> None:
        assert stored_feature_set(content, "x.pt") == FEATURE_SETS["tree_routes"]

    @pytest.mark.parametrize(
        ("stored", "words"),
        [
            ({"name": "tree", "version": 7}, r"tree version 7.*version 1"),
            ({"name": "forest", "version": 1}, r"forest version 1.*tree"),
            # earlier versions had it
            ({"name": "tree_conflicts", "version": 1}, r"tree_conflicts version 1: .*tree_routes"),
        ],
    )
    def test_another_one_is_named_beside_ours(
        self, tmp_path: Path, content: dict[str, Any], stored: dict[str, Any], words: str
    ) -> None:
        path = tmp_path / "x.pt"
        write_checkpoint(path, content | {"feature_set": stored})
        for read in (lambda: stored_feature_set(read_checkpoint(path), path), lambda: load_policy(path)):
            with pytest.raises(CheckpointError, match=words) as error_info:
                read()
            assert str(path) in one_sentence(error_info)


class TestLoadPolicy:
    def test_plays_as_the_evaluated_policy(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, n_episodes=4, action_mask=False, decision_points="switches")
        trainer.run()
        policy, observer = load_policy(numbered_checkpoint(trainer.folders.checkpoints, 4))
        random = np.random.default_rng(0)
        observations = random.normal(size=(200, trainer.feature_set.n_features)).astype(np.float32)
        mask = np.ones((200, 5), bool)
        wanted = trainer.population.learners[0].policy.evaluation_policy().act(observations, mask)
        assert policy.act(observations, mask).tolist() == wanted.tolist()
        assert vars(observer)["_all_actions"] == vars(trainer.observer)["_all_actions"]
        assert vars(observer)["_stop_everywhere"] == vars(trainer.observer)["_stop_everywhere"]

    def test_network_of_another_shape(self, tmp_path: Path, content: dict[str, Any]) -> None:
        path = tmp_path / "x.pt"
        write_checkpoint(path, content | {"config": content["config"] | {"hidden_size": 17}})
        with pytest.raises(CheckpointError, match="another shape"):
            load_policy(path)


def test_policy_that_was_best_by_completion_where_scores_are_equal(tmp_path: Path) -> None:
    trainer, _ = make_trainer(tmp_path, num_policies=3)
    trainer.state.last_evaluation = {
        of_policy(p, f"evaluation/{name}"): value
        for p, completion in enumerate((0.2, 0.8, 0.8))
        for name, value in (("scores_mean", 0.0), ("completions_mean", completion))
    }
    path = tmp_path / "x.pt"
    write_checkpoint(path, trainer.state.state_dict())
    found, wanted = (load_policy(path, index)[0].network.state_dict() for index in (None, 1))
    assert all(found[name].equal(wanted[name]) for name in wanted)


class TestRunInsteadOfACheckpoint:
    @pytest.mark.parametrize("resume", ["mine", "{}", "{}/"])
    def test_its_newest_checkpoint_is_named(self, tmp_path: Path, content: dict[str, Any], resume: str) -> None:
        run = tmp_path / "mine"
        for episode in (1, 2):
            write_checkpoint(numbered_checkpoint(run, episode), content | {"written": episode})
        options = {"resume": resume.format(run), "checkpoint_dir": str(tmp_path)}
        with pytest.raises(CheckpointError, match=r"is a run.*episode_0000002\.pt.*latest") as error_info:
            find_checkpoint(options, no_warning)
        one_sentence(error_info)

    def test_a_name_that_is_nobody_s_hints_at_latest(self, tmp_path: Path) -> None:
        for resume in ("mine", str(tmp_path)):
            with pytest.raises(CheckpointError, match="latest"):
                find_checkpoint({"resume": resume, "checkpoint_dir": str(tmp_path)}, no_warning)


class TestFolder:
    def touch(self, path: Path, seconds: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (seconds, seconds))
        return path

    def test_names_sort_by_episode(self) -> None:
        paths = [numbered_checkpoint(Path(), episode) for episode in (0, 9, 10, 999, 1000, 25_000)]
        assert paths == sorted(paths)

    def test_latest_is_the_newest_complete_one_of_all_runs(self, tmp_path: Path, content: dict[str, Any]) -> None:
        whole = tmp_path / "first" / "episode_0000100.pt"
        older = tmp_path / "second" / "episode_0000900.pt"
        for path, seconds in ((whole, 2000), (older, 1000)):
            write_checkpoint(path, content)
            os.utime(path, (seconds, seconds))
        damaged = self.touch(tmp_path / "second" / "episode_0001000.pt", 3000)
        self.touch(tmp_path / "first" / ".episode_0000200.pt.77.tmp", 4000)
        self.touch(tmp_path / "first" / "best.pt", 5000)
        warnings: list[str] = []
        assert latest_checkpoint(tmp_path, warnings.append) == whole
        assert len(warnings) == 1
        assert str(damaged) in warnings[0]

    def test_no_complete_checkpoint(self, tmp_path: Path) -> None:
        for folder in (tmp_path, tmp_path / "missing"):
            with pytest.raises(CheckpointError, match="no complete checkpoint"):
                latest_checkpoint(folder, no_warning)

    def test_remove_all_but_newest(self, tmp_path: Path) -> None:
        for episode, seconds in ((1, 50), (2, 10), (3, 40), (4, 30)):
            self.touch(numbered_checkpoint(tmp_path, episode), seconds)
        self.touch(tmp_path / "best.pt", 1)
        remove_all_but_newest(tmp_path, keep=2)
        assert sorted(os.listdir(tmp_path)) == ["best.pt", "episode_0000003.pt", "episode_0000004.pt"]

    def test_what_was_just_written_stays_though_others_have_more_episodes(self, tmp_path: Path) -> None:
        for episode in (2, 6, 8, 10, 10_000_000):
            numbered_checkpoint(tmp_path, episode).touch()
        (tmp_path / "episode_mine.pt").touch()
        remove_all_but_newest(tmp_path, 3, [numbered_checkpoint(tmp_path, 2)])
        assert sorted(os.listdir(tmp_path)) == [
            "episode_0000002.pt", "episode_0000010.pt", "episode_10000000.pt", "episode_mine.pt",
        ]  # fmt: skip

    def test_order_is_that_of_writing_whatever_the_clock_says(self, tmp_path: Path, content: dict[str, Any]) -> None:
        first, second, older = (tmp_path / name / "episode_0000009.pt" for name in ("first", "second", "older"))
        write_checkpoint(first, content | {"written": 5_000_000_000})
        write_checkpoint(second, content | {"written": 5_000_000_001})
        write_checkpoint(older, content)  # of a version that does not tell: the time of the file
        for path, seconds in ((first, 9000), (second, 8000), (older, 4)):
            os.utime(path, (seconds, seconds))
        assert newest_first(tmp_path, "*/*.pt") == [second, first, older]
        assert latest_checkpoint(tmp_path, no_warning) == second


WRITER = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, {project!r})
from reinforcement_learning.saving.checkpointing import numbered_checkpoint, remove_all_but_newest, write_checkpoint
folder = Path({folder!r})
whole = torch.load({whole!r}, weights_only=True)
for episode in range(1, 100_000):
    if episode == 5 and {fatal_call!r}:
        setattr(os, {fatal_call!r}, lambda *arguments: os.kill(os.getpid(), 9))
    content = whole | {{"episode": episode, "weights": torch.full((200_000,), episode)}}
    write_checkpoint(numbered_checkpoint(folder, episode), content)
    remove_all_but_newest(folder, 3)
    print(episode, flush=True)
"""


class TestKillInMidSave:
    @pytest.fixture(autouse=True)
    def whole(self, tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
        self._whole = tmp_path_factory.mktemp("whole") / "whole.pt"
        write_checkpoint(self._whole, content)

    def write(self, folder: Path, fatal_call: str = "", seconds: float = 60.0) -> int:
        """Lets a process write checkpoints until it is killed; returns the last that it says it has written."""
        project = str(PROJECT_ROOT)
        script = WRITER.format(project=project, folder=str(folder), whole=str(self._whole), fatal_call=fatal_call)
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            first = int(writer.stdout.readline())
            with contextlib.suppress(subprocess.TimeoutExpired):
                writer.wait(seconds)
            writer.kill()
            written = [first, *map(int, writer.stdout.read().split())]
        assert writer.returncode == -signal.SIGKILL
        return written[-1]

    def check(self, folder: Path, written: int) -> None:
        latest = read_checkpoint(latest_checkpoint(folder, no_warning))
        assert latest["episode"] >= written
        assert latest["weights"].eq(latest["episode"]).all()

    @pytest.mark.parametrize("fatal_call", ["fsync", "replace"])
    def test_before_a_file_takes_its_place(self, tmp_path: Path, fatal_call: str) -> None:
        assert self.write(tmp_path, fatal_call) == 4
        assert len(list(tmp_path.glob(".*.tmp"))) == 1
        self.check(tmp_path, 4)

    def test_at_any_moment(self, tmp_path: Path) -> None:
        random = np.random.default_rng()
        for attempt in range(3):
            folder = tmp_path / str(attempt)
            self.check(folder, self.write(folder, seconds=random.uniform(0.02, 0.3)))


def test_feature_sets_of_the_registry_can_all_be_stored(tmp_path: Path, content: dict[str, Any]) -> None:
    for feature_set in FEATURE_SETS.values():
        stored = {"name": feature_set.name, "version": feature_set.version}
        write_checkpoint(tmp_path / "x.pt", content | {"feature_set": stored})
        assert isinstance(stored_feature_set(read_checkpoint(tmp_path / "x.pt"), "x.pt"), FeatureSet)


class TestExport:
    def test_plays_alike_and_is_small(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, n_episodes=4)
        trainer.run()
        source, target = trainer.folders.checkpoints / BEST, tmp_path / "exported.pt"
        assert export_main([str(source), str(target)]) == 0
        assert target.stat().st_size < source.stat().st_size / 3
        assert str(tmp_path).encode() not in target.read_bytes()
        played = [
            play_levels([FlatlandSimulator(make_rail_env(ENV_CONFIGS["Tiny"], 3))], observer, policy)[0]
            for policy, observer in (load_policy(source), load_policy(target))
        ]
        assert played[0].score == played[1].score
        assert played[0].action_counts.tolist() == played[1].action_counts.tolist()
        with pytest.raises(CheckpointError, match="exported for playing"):
            read_checkpoint(target)
        export_checkpoint(target, tmp_path / "again.pt")
        assert (
            torch.load(tmp_path / "again.pt", weights_only=True).keys() == torch.load(target, weights_only=True).keys()
        )

    def test_link_stays(self, tmp_path: Path, content: dict[str, Any]) -> None:
        source, target, link = (tmp_path / name for name in ("source.pt", "target.pt", "link.pt"))
        write_checkpoint(source, content)
        link.symlink_to(target)
        assert export_main([str(source), str(link)]) == 0
        assert link.is_symlink()
        assert read_checkpoint(target, to_resume=False)["episode"] == content["episode"]

    def test_says_what_is_wrong(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert export_main([str(tmp_path / "missing.pt"), str(tmp_path / "x.pt")]) == 2
        assert "does not exist" in capsys.readouterr().err
