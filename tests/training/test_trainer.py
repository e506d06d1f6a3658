"""Training: what it logs, when it learns and evaluates, what it keeps on disk, and that it learns."""

import dataclasses
import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reinforcement_learning.learning.replay_buffer import ReplayBuffer
from reinforcement_learning.playing.episode_result import evaluation_metrics
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.saving import checkpoint_writer
from reinforcement_learning.saving.checkpointing import (
    BEST,
    latest_checkpoint,
    numbered_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from reinforcement_learning.training import trainer as trainer_module
from reinforcement_learning.training.population_scores import PopulationScores, score_population
from tests.helpers.playing import RandomPolicy, transitions_in
from tests.helpers.tiny_training import MemorySink, make_trainer, stop_after
from tests.helpers.trainings import assert_same, resume, run
from utils.pictures.rendering import EpisodeRecorder
from utils.system.users_code import UsersCodeError


class TestRows:
    def test_every_documented_metric_is_there(self, tmp_path: Path) -> None:
        names: set[str] = set()

        class Names(MemorySink):
            def log(self, episode: int, metrics: Any) -> None:
                names.update(metrics)

        trainer, _ = make_trainer(tmp_path, sinks=[Names()], n_episodes=3)
        trainer.run()
        statistics = ("min", "max", "mean", "std")
        wanted = {f"evaluation/{what}_{s}" for what in ("scores", "completions", "nb_steps") for s in statistics}
        wanted |= {f"evaluation/{what}" for what in ("smoothed_score", "smoothed_completion")}
        wanted |= {f"evaluation/{what}" for what in ("deadlocked", "never_departed")}
        training = "score smoothed_score completion smoothed_completion nb_steps epsilon buffer_size loss"
        wanted |= {f"training/{what}" for what in training.split()}
        wanted |= {f"actions/{what}" for what in ("do_nothing", "left", "forward", "right", "stop")}
        wanted |= {f"timer/{what}" for what in ("reset", "step", "observation", "inference", "learn", "total")}
        assert wanted <= names
        assert any(name.startswith("throughput/") for name in names)

    def test_values_are_in_their_ranges(self, tmp_path: Path) -> None:
        trainer, sink = run(tmp_path, n_episodes=6, eps_decay=0.5, eps_end=0.2)
        training = [row for row in sink.rows if "training/score" in row]
        assert [row["episode"] for row in training] == [1, 2, 3, 4, 5, 6]
        assert [row["training/epsilon"] for row in training] == pytest.approx([1, 0.5, 0.25, 0.2, 0.2, 0.2])
        assert [row["episode"] for row in sink.rows if "evaluation/scores_mean" in row] == [3, 6]
        for row in training:
            assert sum(value for name, value in row.items() if name.startswith("actions/")) == pytest.approx(1.0)
        sizes = [row["training/buffer_size"] for row in training]
        assert sizes == sorted(sizes)
        assert sizes[-1] == len(trainer.population.learners[0].buffer)

    def test_smoothing_is_that_of_published_reports(self, tmp_path: Path) -> None:
        _, sink = run(tmp_path, n_episodes=2)
        first, second = (row for row in sink.rows if "training/score" in row)
        assert first["training/smoothed_score"] == pytest.approx(-0.99 + 0.01 * first["training/score"])
        wanted = 0.99 * first["training/smoothed_score"] + 0.01 * second["training/score"]
        assert second["training/smoothed_score"] == pytest.approx(wanted)
        (evaluation,) = (row for row in sink.rows if "evaluation/scores_mean" in row)
        assert evaluation["evaluation/smoothed_score"] == pytest.approx(
            -0.9 + 0.1 * evaluation["evaluation/scores_mean"]
        )


class TestLearningSteps:
    def test_one_for_each_update_every_transitions_once_the_buffer_suffices(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, n_episodes=5, update_every=4, buffer_min_size=64)
        after_start = trainer.population.learners[0].buffer.n_added - 64
        assert trainer.population.learners[0].policy.learning_steps == after_start // 4

    def test_none_before(self, tmp_path: Path) -> None:
        trainer, sink = run(tmp_path, n_episodes=2, buffer_min_size=500)
        assert trainer.population.learners[0].policy.learning_steps == 0
        assert all(np.isnan(row["training/loss"]) for row in sink.rows if "training/loss" in row)


class TestTeamReward:
    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_rewards_of_others_reach_the_buffer(self, num_workers: int, tmp_path: Path) -> None:
        sums = []
        for team_reward in (0.0, 0.5):
            trainer, _ = make_trainer(
                tmp_path / f"{team_reward}",
                team_reward=team_reward,
                n_episodes=4,
                num_workers=num_workers,
                buffer_size=10_000,
                buffer_min_size=10_000,  # nothing is learned, so both play the same
                shaping=0.0,
                arrival_reward=0.0,
                deadlock_penalty=0.0,
            )
            trainer.run()
            sums.append(transitions_in(trainer.population.learners[0]).rewards.sum().item())
        # there are penalties only: of two trains' each the other one bears half as well
        assert sums[1] < 1.2 * sums[0] < 0


class TestLearningRate:
    def test_falls_in_a_straight_line_to_its_share_at_the_end(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, n_episodes=4, learning_rate=1e-3, learning_rate_end_factor=0.2)
        policy = trainer.population.learners[0].policy
        assert policy.learning_rate == pytest.approx(1e-3)
        trainer.stop_requested = lambda: trainer.episode >= 2
        assert not trainer.run()
        assert policy.learning_rate == pytest.approx(1e-3 * (1 - 0.8 * trainer.episode / 4))
        assert policy.optimizer.lr == policy.learning_rate
        checkpoint = numbered_checkpoint(trainer.folders.checkpoints, trainer.episode)
        resumed, _ = resume(tmp_path, checkpoint, n_episodes=4, learning_rate=1e-3, learning_rate_end_factor=0.2)
        assert resumed.population.learners[0].policy.optimizer.lr == policy.learning_rate
        assert resumed.run()
        assert resumed.population.learners[0].policy.optimizer.lr == pytest.approx(2e-4)

    def test_stays_by_default(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, n_episodes=2, learning_rate=1e-3)
        assert trainer.population.learners[0].policy.optimizer.lr == 1e-3


class TestEvaluation:
    def test_writes_nothing_into_replay(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, n_episodes=1)
        before = (
            trainer.population.learners[0].buffer.n_added,
            trainer.population.learners[0].policy.exploration.bit_generator.state,
        )
        assert trainer.evaluate()
        assert (
            trainer.population.learners[0].buffer.n_added,
            trainer.population.learners[0].policy.exploration.bit_generator.state,
        ) == before

    def test_comes_before_the_first_episode_once(self, tmp_path: Path) -> None:
        """It is where the learning curve begins: nothing that could be a checkpoint or the best."""
        stopped, first = make_trainer(tmp_path, evaluates_at_start=True, n_episodes=6, stop_requested=stop_after(130))
        assert not stopped.run()
        assert 0 < stopped.episode < 6
        assert first.rows[0]["episode"] == 0
        assert "evaluation/scores_mean" in first.rows[0]
        assert not numbered_checkpoint(stopped.folders.checkpoints, 0).exists()
        path = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
        trainer, later = make_trainer(tmp_path, evaluates_at_start=True, n_episodes=6)
        trainer.resume(path, read_checkpoint(path))
        assert trainer.run()
        evaluated = [row["episode"] for row in first.rows + later.rows if "evaluation/scores_mean" in row]
        assert evaluated == [0, 3, 6]
        assert trainer.state.best.episode in (3, 6)

    def test_changes_nothing_in_training(self, tmp_path: Path) -> None:
        often, _ = run(tmp_path / "often", n_episodes=4, checkpoint_interval=1)
        seldom, _ = run(tmp_path / "seldom", n_episodes=4, checkpoint_interval=4)
        assert_same(often.population.learners[0].policy.state_dict(), seldom.population.learners[0].policy.state_dict())
        assert_same(often.population.learners[0].buffer.rows(), seldom.population.learners[0].buffer.rows())

    def test_same_levels_each_time(self, tmp_path: Path) -> None:
        trainer, sink = make_trainer(tmp_path, n_evaluation_episodes=4)
        for _ in range(2):
            assert trainer.evaluate()
        first, second = ({k: v for k, v in row.items() if "smoothed" not in k} for row in sink.rows)
        assert_same(first, second)


def let_evaluations_find(
    monkeypatch: pytest.MonkeyPatch, scores: list[float], completions: list[float] | None = None
) -> None:
    """Has each evaluation find the next of some mean scores, and of some mean completions."""
    waiting = zip(scores, completions or [0.0] * len(scores), strict=True)

    def scored(*arguments: Any, **more: Any) -> PopulationScores:
        found, (score, completion) = score_population(*arguments, **more), next(waiting)
        results = [dataclasses.replace(result, score=score, completion=completion) for result in found.together]
        return PopulationScores(results, [results])

    monkeypatch.setattr(trainer_module, "score_population", scored)


class TestCheckpoints:
    def test_the_last_few_and_the_best_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        let_evaluations_find(monkeypatch, [-0.5, -0.1, -0.3, -0.2, -0.4])
        trainer, _ = run(tmp_path, n_episodes=5, checkpoint_interval=1, keep_checkpoints=2, save_replay_buffer=True)
        assert sorted(os.listdir(trainer.folders.checkpoints)) == [
            "best.pt",
            "episode_0000004.pt",
            "episode_0000005.pt",
        ]
        best = read_checkpoint(trainer.folders.checkpoints / BEST)
        assert best["episode"] == best["best"]["episode"] == 2
        assert best["best"]["score"] == -0.1
        (buffer,) = trainer.folders.replay_buffers.iterdir()
        assert read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, 5))["replay_buffers"] == [str(buffer)]

    @pytest.mark.parametrize(
        ("completions", "best"),
        [([0.1, 0.4, 0.4, 0.2], 3), ([0.0, 0.0, 0.0, 0.0], 4)],
        ids=["by completion, then the later one", "the later one"],
    )
    def test_best_of_equal_scores(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, completions: list[float], best: int
    ) -> None:
        let_evaluations_find(monkeypatch, [0.0] * 4, completions)
        trainer, _ = run(tmp_path, n_episodes=4, checkpoint_interval=1)
        assert trainer.state.best.episode == best
        assert read_checkpoint(trainer.folders.checkpoints / BEST)["episode"] == best

    def test_best_of_a_checkpoint_that_tells_no_completion(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, n_episodes=3)
        path = trainer.folders.checkpoints / BEST
        content = read_checkpoint(path)
        completion = content["best"].pop("completion")
        resumed, _ = make_trainer(tmp_path)
        resumed.resume(path, content)
        assert resumed.state.best.score == trainer.state.best.score
        assert resumed.state.best.completion < completion

    def test_clock_that_goes_back_deletes_nothing_new(self, tmp_path: Path) -> None:
        options = {"checkpoint_interval": 1, "keep_checkpoints": 2, "save_replay_buffer": True}
        trainer, _ = run(tmp_path, n_episodes=3, **options)
        in_an_hour = time.time() + 3600
        for path in [*trainer.folders.checkpoints.iterdir(), *trainer.folders.replay_buffers.iterdir()]:
            os.utime(path, (in_an_hour, in_an_hour))
        resumed, _ = resume(tmp_path, numbered_checkpoint(trainer.folders.checkpoints, 3), n_episodes=5, **options)
        assert resumed.run()
        assert [path.name for path in sorted(trainer.folders.checkpoints.glob("episode_*"))] == [
            "episode_0000004.pt",
            "episode_0000005.pt",
        ]
        newest = latest_checkpoint(tmp_path, pytest.fail)
        assert newest == resumed.checkpoints.newest == numbered_checkpoint(trainer.folders.checkpoints, 5)
        (buffer,) = trainer.folders.replay_buffers.iterdir()
        assert read_checkpoint(newest)["replay_buffers"] == [str(buffer)]

    def test_going_back_to_an_earlier_checkpoint_deletes_nothing_new(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, n_episodes=6, checkpoint_interval=2)
        folder = trainer.folders.checkpoints
        resumed, _ = resume(tmp_path, numbered_checkpoint(folder, 2), n_episodes=3, keep_checkpoints=2)
        assert resumed.run()
        assert [path.name for path in sorted(folder.glob("episode_*"))] == ["episode_0000003.pt", "episode_0000006.pt"]
        assert latest_checkpoint(tmp_path, pytest.fail) == numbered_checkpoint(folder, 3)

    def test_runs_beside_this_one_are_older_though_their_clock_was_ahead(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path / "first", n_episodes=1)
        first = numbered_checkpoint(trainer.folders.checkpoints, 1)
        in_an_hour = time.time_ns() + 3600 * 10**9
        write_checkpoint(first, read_checkpoint(first) | {"written": in_an_hour})
        shutil.copytree(trainer.folders.checkpoints, tmp_path / "second" / "earlier")
        second, _ = run(tmp_path / "second", n_episodes=1)
        assert latest_checkpoint(tmp_path / "second", pytest.fail).parent == second.folders.checkpoints

    def test_resumed_with_fewer_episodes_it_does_nothing(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, n_episodes=9, checkpoint_interval=2)
        trainer.stop_requested = lambda: trainer.episode >= 3
        assert not trainer.run()
        checkpoint = numbered_checkpoint(trainer.folders.checkpoints, 3)
        before = checkpoint.read_bytes()
        resumed, sink = resume(tmp_path, checkpoint, n_episodes=1, checkpoint_interval=1)
        assert resumed.run()
        assert sink.rows == []
        assert checkpoint.read_bytes() == before

    def test_full_disk_costs_a_warning_and_no_more(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write, full = checkpoint_writer.write_checkpoint, False

        def write_unless_full(path: Path, content: dict[str, Any]) -> None:
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, content)

        monkeypatch.setattr(checkpoint_writer, "write_checkpoint", write_unless_full)
        trainer, sink = run(tmp_path, n_episodes=3)
        full = True
        trainer, sink = resume(tmp_path, numbered_checkpoint(tmp_path / "checkpoints", 3), n_episodes=6)
        assert trainer.run()
        assert trainer.episode == 6
        assert any("No space left" in text and "warning" in text for text in sink.messages)
        assert read_checkpoint(numbered_checkpoint(tmp_path / "checkpoints", 3))["episode"] == 3
        assert not numbered_checkpoint(tmp_path / "checkpoints", 6).exists()
        assert "the newest checkpoint" in trainer.unsaved
        full = False
        assert trainer.save_checkpoint()
        assert "the newest checkpoint" not in trainer.unsaved

    def test_best_that_cannot_be_written_is_not_told_as_the_best(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = checkpoint_writer.write_checkpoint

        def write_unless_second(path: Path, content: dict[str, Any]) -> None:
            if content["episode"] == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, content)

        let_evaluations_find(monkeypatch, [-0.5, -0.1, -0.3])
        monkeypatch.setattr(checkpoint_writer, "write_checkpoint", write_unless_second)
        trainer, _ = run(tmp_path, n_episodes=3, checkpoint_interval=1)
        best = read_checkpoint(trainer.folders.checkpoints / BEST)
        assert best["episode"] == best["best"]["episode"] == trainer.state.best.episode == 3
        assert best["best"]["score"] == trainer.state.best.score == -0.3

    def test_buffer_without_its_checkpoint_does_not_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_room(path: Path, content: dict[str, Any]) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        trainer, _ = run(tmp_path, n_episodes=3, save_replay_buffer=True)
        (kept,) = trainer.folders.replay_buffers.iterdir()
        monkeypatch.setattr(checkpoint_writer, "write_checkpoint", no_room)
        trainer.save_checkpoint()  # the same once more: its buffer belongs to the checkpoint that is there
        assert list(trainer.folders.replay_buffers.iterdir()) == [kept]
        trainer, _ = resume(tmp_path, numbered_checkpoint(tmp_path / "checkpoints", 3), n_episodes=6)
        trainer.run()
        assert list(trainer.folders.replay_buffers.iterdir()) == [kept]

    def test_buffer_that_cannot_be_saved_leaves_a_checkpoint_without_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_room(buffer: ReplayBuffer, path: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(ReplayBuffer, "save", no_room)
        trainer, sink = run(tmp_path, n_episodes=3, save_replay_buffer=True)
        assert any("replay buffer" in text and "No space left" in text for text in sink.messages)
        assert read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, 3))["replay_buffers"] == []
        assert trainer.unsaved == ["the replay buffer"]

    def test_error_does_not_claim_a_checkpoint_that_could_not_be_saved(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_room(path: Path, content: dict[str, Any]) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def broken() -> None:
            raise UsersCodeError("broken")

        monkeypatch.setattr(checkpoint_writer, "write_checkpoint", no_room)
        trainer, _ = make_trainer(tmp_path)
        monkeypatch.setattr(trainer, "play_and_learn", broken)
        with pytest.raises(UsersCodeError) as error_info:
            trainer.run()
        assert not error_info.value.saved


@pytest.mark.parametrize("num_policies", [1, 2])
def test_film_says_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_policies: int) -> None:
    filmed: list[EpisodeRecorder] = []
    monkeypatch.setattr(EpisodeRecorder, "save", lambda recorder, path: filmed.append(recorder))
    n_step = {"n_step": 2} if num_policies > 1 else {}
    trainer, _ = make_trainer(tmp_path, n_episodes=3, num_policies=num_policies, render=True, **n_step)
    trainer.run()
    (recorder,) = filmed
    assert recorder.title == "run, episode 3, first level of Tiny"
    if num_policies == 1:
        assert recorder.policy_of_train is None
    else:
        mapped = trainer.population.mapping.policy_of_train(0, recorder.state)
        assert recorder.policy_of_train is not None
        assert recorder.policy_of_train.tolist() == mapped.tolist()


def test_learns_the_smallest_environment(tmp_path: Path) -> None:
    trainer, _ = make_trainer(
        tmp_path,
        n_episodes=250,
        checkpoint_interval=250,
        n_evaluation_episodes=30,
        hidden_size=64,
        buffer_size=20_000,
        buffer_min_size=500,
        batch_size=64,
        learning_rate=1e-3,
        tau=5e-3,
        averaging_steps=300,
        eps_decay=0.98,
    )
    random = evaluation_metrics(play_levels(trainer.levels_to_evaluate(), trainer.observer, RandomPolicy(0)))
    trainer.run()
    learned = trainer.state.last_evaluation
    assert learned["evaluation/completions_mean"] > random["evaluation/completions_mean"] + 0.2
    assert learned["evaluation/scores_mean"] > random["evaluation/scores_mean"] + 0.15
