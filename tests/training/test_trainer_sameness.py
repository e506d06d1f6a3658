"""The same training to the bit: with the same seed, resumed, with levels made ahead, on either simulator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest

from reinforcement_learning.saving.checkpointing import BEST, numbered_checkpoint, read_checkpoint, write_checkpoint
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.processes import LEVEL_WORKER, pids_of, wait_until_ready
from tests.helpers.tiny_training import UNGUIDED, MemorySink, make_trainer, stop_after
from tests.helpers.trainings import assert_equals_uninterrupted, assert_same, resume, run, state_of
from utils.levels.playable_levels import PlayableLevels
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.unsupported_level import UnsupportedLevel


class TestReproducibility:
    def test_same_seed_same_training(self, tmp_path: Path) -> None:
        (first, first_sink), (second, second_sink) = (run(tmp_path / name, n_episodes=7, seed=3) for name in "ab")
        assert first.population.learners[0].policy.learning_steps > 20
        assert_same(state_of(first), state_of(second))
        assert_same(first_sink.rows, second_sink.rows)

    def test_another_seed_another_training(self, tmp_path: Path) -> None:
        (first, first_sink), (second, second_sink) = (run(tmp_path / str(s), n_episodes=3, seed=s) for s in (1, 2))
        assert [row["training/score"] for row in first_sink.rows if "training/score" in row] != [
            row["training/score"] for row in second_sink.rows if "training/score" in row
        ]
        with pytest.raises(AssertionError):
            assert_same(
                first.population.learners[0].policy.state_dict()["q_network"],
                second.population.learners[0].policy.state_dict()["q_network"],
            )


class TestLevelsMadeAhead:
    OPTIONS: ClassVar[dict[str, Any]] = {"n_episodes": 9, "seed": 3, "num_envs": 2, "save_replay_buffer": True}

    @pytest.mark.parametrize("feature_set", ["tree_routes", "tree_plan"])
    def test_training_is_the_same_to_the_bit(self, feature_set: str, tmp_path: Path) -> None:
        """And no process stays. Levels are planned ahead, too, where the features hold a plan."""
        options = {**self.OPTIONS, "feature_set": feature_set}
        wanted, wanted_sink = run(tmp_path / "0", **options)
        trainer, sink = make_trainer(tmp_path / "1", level_workers=1, **options)
        trainer.level_pool.simulator(0)
        wait_until_ready(trainer.level_pool)
        assert trainer.run()
        assert_same(state_of(trainer), state_of(wanted) | {"config": state_of(trainer)["config"]})
        assert_same(sink.rows, wanted_sink.rows)
        assert pids_of(LEVEL_WORKER) == []

    def test_resumed_training_is_the_same_to_the_bit(self, tmp_path: Path) -> None:
        wanted, _ = run(tmp_path / "0", **self.OPTIONS)
        stopped, _ = make_trainer(tmp_path, level_workers=1, stop_requested=stop_after(60), **self.OPTIONS)
        assert not stopped.run()
        assert pids_of(LEVEL_WORKER) == []
        checkpoint = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
        resumed, _ = resume(tmp_path, checkpoint, level_workers=1, **self.OPTIONS)
        resumed.level_pool.simulator(4)
        wait_until_ready(resumed.level_pool)
        assert resumed.run()
        assert_same(state_of(resumed), state_of(wanted) | {"config": state_of(resumed)["config"]})

    def test_processes_end_when_a_training_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer, _ = make_trainer(tmp_path, level_workers=1, **self.OPTIONS)
        pids = []

        def fail(*_: object) -> None:
            pids.extend(pids_of(LEVEL_WORKER))
            raise RuntimeError("broken")

        monkeypatch.setattr(trainer.population, "learn", fail)
        with pytest.raises(RuntimeError, match="broken"):
            trainer.run()
        assert len(pids) == 1
        assert not psutil.pid_exists(pids[0])

    def test_falls_back_to_flatland(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted, wanted_sink = run(tmp_path / "0", **self.OPTIONS)
        trainer, sink = make_trainer(tmp_path / "1", level_workers=1, **self.OPTIONS)

        def refuse(k: int) -> None:
            raise UnsupportedLevel("this train flies")

        monkeypatch.setattr(trainer.level_pool, "simulator", refuse)
        trainer.run()
        assert [text for text in sink.messages if "this train flies" in text] == [
            "warning: the compiled simulator cannot play this level (this train flies); flatland-rl's own does."
        ]
        assert_same(sink.rows, wanted_sink.rows)
        assert_same(
            trainer.population.learners[0].policy.state_dict(), wanted.population.learners[0].policy.state_dict()
        )


class TestResume:
    OPTIONS: ClassVar[dict[str, Any]] = {"n_episodes": 8, "save_replay_buffer": True, "n_step": 2, "seed": 1}

    @pytest.fixture(scope="class")
    def uninterrupted(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        return run(tmp_path_factory.mktemp("uninterrupted"), **self.OPTIONS)

    # Questions after which a stop is asked for: before the first step, in the middle of episodes before and after
    # learning begins, in the evaluation after episode 3 (the run's first), late, and very late.
    @pytest.mark.parametrize("questions", [1, 30, 120, 180, 300, 400])
    def test_equals_the_uninterrupted_training_to_the_bit(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink], questions: int
    ) -> None:
        assert_equals_uninterrupted(tmp_path, uninterrupted, questions, self.OPTIONS)

    def test_at_the_boundary_of_an_episode(self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        shorter, first_sink = run(tmp_path, **self.OPTIONS | {"n_episodes": 6})
        checkpoint = numbered_checkpoint(shorter.folders.checkpoints, 6)
        resumed, later_sink = resume(tmp_path, checkpoint, **self.OPTIONS)
        resumed.run()
        wanted, wanted_sink = uninterrupted
        assert_same(state_of(resumed), state_of(wanted))
        assert_same(first_sink.rows + later_sink.rows, wanted_sink.rows)

    def test_interrupted_again_and_again(self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        trainer, sink = make_trainer(tmp_path, stop_requested=stop_after(40), **self.OPTIONS)
        rows: list[dict[str, float]] = []
        while not trainer.run():
            rows += sink.rows
            checkpoint = numbered_checkpoint(trainer.folders.checkpoints, trainer.episode)
            trainer, sink = resume(tmp_path, checkpoint, stop_requested=stop_after(150), **self.OPTIONS)
        assert_same(state_of(trainer), state_of(uninterrupted[0]))
        assert_same(rows + sink.rows, uninterrupted[1].rows)

    def test_mid_episode_checkpoints_hold_an_unfinished_episode(self, tmp_path: Path) -> None:
        stopped, _ = make_trainer(tmp_path, stop_requested=stop_after(30), **self.OPTIONS)
        stopped.run()
        content = read_checkpoint(numbered_checkpoint(stopped.folders.checkpoints, stopped.episode))
        (unfinished,) = content["unfinished"]
        assert (unfinished["slot"], unfinished["level_number"], content["next_level"]) == (0, 0, 1)
        assert unfinished["actions"].shape == (29, 2)

    def test_unfinished_episode_with_the_names_of_an_earlier_version_begins_again(self, tmp_path: Path) -> None:
        stopped, _ = make_trainer(tmp_path, stop_requested=stop_after(30), **self.OPTIONS)
        stopped.run()
        checkpoint = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
        content = read_checkpoint(checkpoint)
        content["unfinished"] = [{"env": 0, "level": 0, "actions": content["unfinished"][0]["actions"]}]
        write_checkpoint(checkpoint, content)
        resumed, _ = resume(tmp_path, checkpoint, **self.OPTIONS)
        (unfinished,) = resumed.experience.unfinished()
        assert (unfinished.level_number, list(unfinished.actions)) == (0, [])
        assert resumed.run()
        assert resumed.episode == resumed.config.n_episodes

    def test_evaluation_that_was_cut_short_is_done_again(self, tmp_path: Path) -> None:
        options = self.OPTIONS | {"checkpoint_interval": 2, "n_episodes": 2}
        calls = 0

        def stop() -> bool:
            nonlocal calls
            calls += trainer.episode == 2  # from the second episode on only the evaluation asks
            return calls > 5

        trainer, sink = make_trainer(tmp_path, stop_requested=stop, **options)
        assert not trainer.run()
        assert not any("evaluation/scores_mean" in row for row in sink.rows)
        assert not (trainer.folders.checkpoints / BEST).exists()
        resumed, later = resume(tmp_path, numbered_checkpoint(trainer.folders.checkpoints, 2), **options)
        assert resumed.run()
        assert [row["episode"] for row in later.rows if "evaluation/scores_mean" in row] == [2]

    def test_without_a_buffer_training_goes_on_too(self, tmp_path: Path) -> None:
        run(tmp_path, n_episodes=3)
        resumed, sink = resume(tmp_path, numbered_checkpoint(tmp_path / "checkpoints", 3), n_episodes=5)
        assert len(resumed.population.learners[0].buffer) == 0
        assert resumed.run()
        assert [row["episode"] for row in sink.rows if "training/score" in row] == [4, 5]
        assert all(row["training/epsilon"] < 1.0 for row in sink.rows if "training/score" in row)

    def test_buffer_given_at_the_beginning_is_not_restored_again(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, restore_replay_buffer="first.npz")
        assert trainer.state.state_dict()["config"]["restore_replay_buffer"] == ""

    def test_clocks_go_on(self, tmp_path: Path) -> None:
        first, _ = run(tmp_path, n_episodes=3)
        resumed, _ = resume(tmp_path, numbered_checkpoint(tmp_path / "checkpoints", 3), n_episodes=4)
        before = read_checkpoint(numbered_checkpoint(tmp_path / "checkpoints", 3))["seconds_by_part"]
        assert before["step"] > 0
        assert resumed.stopwatch.seconds["step"] == before["step"]
        assert resumed.summary()["timer/total"] > before["step"]
        assert first.summary().keys() == resumed.summary().keys()


def levels_played(rows: Sequence[dict[str, float]], decay: float) -> list[int]:
    """The levels of all finished episodes, which their epsilons tell, in the order of their ends."""
    epsilons = np.array([row["training/epsilon"] for row in rows if "training/epsilon" in row])
    return np.round(np.log(epsilons) / np.log(decay)).astype(int).tolist()


class TestSideBySide:
    OPTIONS: ClassVar[dict[str, Any]] = TestResume.OPTIONS | {"num_envs": 3, "eps_decay": 0.9, "eps_end": 0.001}
    N_EPISODES = 8

    @pytest.fixture(scope="class")
    def uninterrupted(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        return run(tmp_path_factory.mktemp("uninterrupted"), **self.OPTIONS)

    def test_same_seed_same_training(self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        again, sink = run(tmp_path, **self.OPTIONS)
        assert again.population.learners[0].policy.learning_steps > 20
        assert_same(state_of(again), state_of(uninterrupted[0]))
        assert_same(sink.rows, uninterrupted[1].rows)

    @pytest.mark.parametrize(("num_envs", "n_episodes"), [(1, 4), (2, 5), (3, 8), (8, 3)])
    def test_each_level_is_played_once(self, tmp_path: Path, num_envs: int, n_episodes: int) -> None:
        options = self.OPTIONS | {"num_envs": num_envs, "n_episodes": n_episodes}
        trainer, sink = run(tmp_path, **options)
        assert sorted(levels_played(sink.rows, 0.9)) == list(range(n_episodes))
        assert [row["episode"] for row in sink.rows if "training/score" in row] == list(range(1, n_episodes + 1))
        assert trainer.state.state_dict()["unfinished"] == []
        assert trainer.experience.next_level == trainer.episode == n_episodes

    def test_evaluations_come_at_the_interval_or_in_the_step_that_passes_it(self, tmp_path: Path) -> None:
        _, sink = run(tmp_path, **self.OPTIONS | UNGUIDED | {"checkpoint_interval": 1})
        ends = [row["episode"] for row in sink.rows if "evaluation/scores_mean" in row]
        assert 1 not in ends  # the first two episodes end in the same step
        assert ends[-1] == self.N_EPISODES
        _, sink = run(tmp_path, **self.OPTIONS | UNGUIDED | {"checkpoint_interval": 4})
        assert [row["episode"] for row in sink.rows if "evaluation/scores_mean" in row] == [5, 8]

    def test_episodes_that_end_in_one_step_share_its_loss(self, tmp_path: Path) -> None:
        _, sink = run(tmp_path, **self.OPTIONS | UNGUIDED | {"buffer_min_size": 16})
        losses = [row["training/loss"] for row in sink.rows if "training/loss" in row]
        assert losses[0] == losses[1]
        assert not np.isnan(losses).any()

    # before the first step, before and after learning begins, just after two of three episodes have ended, in the
    # first evaluation, and later ones
    @pytest.mark.parametrize("questions", [1, 20, 43, 60, 90, 118, 150, 230])
    def test_equals_the_uninterrupted_training_to_the_bit(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink], questions: int
    ) -> None:
        assert_equals_uninterrupted(tmp_path, uninterrupted, questions, self.OPTIONS)

    def test_from_the_checkpoint_of_an_evaluation(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink]
    ) -> None:
        """Episodes are under way at that moment, and their neighbours are over."""
        stopped, first_sink = make_trainer(
            tmp_path, stop_requested=lambda: stopped.state.evaluated_episode > 0, **self.OPTIONS
        )
        assert not stopped.run()
        checkpoint = numbered_checkpoint(stopped.folders.checkpoints, stopped.state.evaluated_episode)
        assert read_checkpoint(checkpoint)["unfinished"]
        resumed, later_sink = resume(tmp_path, checkpoint, **self.OPTIONS)
        resumed.run()
        assert_same(state_of(resumed), state_of(uninterrupted[0]))
        rows = [row for row in first_sink.rows if row["episode"] <= stopped.state.evaluated_episode]
        assert_same(rows + later_sink.rows, uninterrupted[1].rows)

    def test_interrupted_again_and_again(self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        trainer, sink = make_trainer(tmp_path, stop_requested=stop_after(1), **self.OPTIONS)
        rows: list[dict[str, float]] = []
        interruptions = 0
        while not trainer.run():
            rows += sink.rows
            interruptions += 1
            checkpoint = numbered_checkpoint(trainer.folders.checkpoints, trainer.episode)
            trainer, sink = resume(tmp_path, checkpoint, stop_requested=stop_after(50), **self.OPTIONS)
        assert interruptions > 3
        assert_same(state_of(trainer), state_of(uninterrupted[0]))
        assert_same(rows + sink.rows, uninterrupted[1].rows)

    @pytest.mark.parametrize("num_envs", [1, 2, 6])
    @pytest.mark.parametrize("questions", [20, 60])
    def test_resumed_with_another_number(self, tmp_path: Path, questions: int, num_envs: int) -> None:
        stopped, first_sink = make_trainer(tmp_path, stop_requested=stop_after(questions), **self.OPTIONS)
        assert not stopped.run()
        checkpoint = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
        unfinished = read_checkpoint(checkpoint)["unfinished"]
        assert len(unfinished) == 3
        resumed, later_sink = resume(tmp_path, checkpoint, **self.OPTIONS | {"num_envs": num_envs})
        assert resumed.run()
        assert sorted(levels_played(first_sink.rows + later_sink.rows, 0.9)) == list(range(self.N_EPISODES))
        assert resumed.state.state_dict()["unfinished"] == []

    def test_fewer_are_played_once_enough_are_over(self, tmp_path: Path) -> None:
        stopped, _ = make_trainer(tmp_path, stop_requested=stop_after(20), **self.OPTIONS)
        stopped.run()
        checkpoint = numbered_checkpoint(stopped.folders.checkpoints, 0)
        at_a_time = []

        def stop() -> bool:
            at_a_time.append(len(resumed.experience.unfinished()))
            return False

        resumed, _ = resume(tmp_path, checkpoint, stop_requested=stop, **self.OPTIONS | {"num_envs": 1})
        assert resumed.run()
        at_a_time = [n for n in at_a_time if n]  # none between the end of an episode and the next step
        assert at_a_time[0] == 3
        assert at_a_time == sorted(at_a_time, reverse=True)
        assert at_a_time.count(1) > at_a_time.count(3)

    def test_stopped_before_anything_is_played_the_unfinished_episodes_stay(self, tmp_path: Path) -> None:
        stopped, _ = make_trainer(tmp_path, stop_requested=stop_after(20), **self.OPTIONS)
        stopped.run()
        checkpoint = numbered_checkpoint(stopped.folders.checkpoints, 0)
        before = read_checkpoint(checkpoint)["unfinished"]
        resumed, _ = resume(tmp_path, checkpoint, stop_requested=lambda: True, **self.OPTIONS)
        assert not resumed.run()
        assert_same(read_checkpoint(checkpoint)["unfinished"], before)


class TestSimulators:
    @pytest.mark.parametrize(("config", "num_envs"), [("Tiny", 1), ("Tiny", 3), ("Test_0", 1), ("Test_0", 2)])
    def test_both_give_the_same_training(self, tmp_path: Path, config: str, num_envs: int) -> None:
        options = {"training_env_config": config, "n_episodes": 4, "seed": 5, "num_envs": num_envs, "n_step": 2}
        (compiled, compiled_sink), (flatland, flatland_sink) = (
            run(tmp_path / name, simulator=name, **options) for name in ("compiled", "flatland")
        )
        assert compiled.population.learners[0].policy.learning_steps > 5
        states = [{k: v for k, v in state_of(t).items() if k != "config"} for t in (compiled, flatland)]
        assert_same(*states)
        assert_same(compiled_sink.rows, flatland_sink.rows)

    @pytest.mark.parametrize("simulator", ["compiled", "flatland"])
    def test_the_one_that_was_asked_for_plays(self, tmp_path: Path, simulator: str) -> None:
        trainer, _ = make_trainer(tmp_path, simulator=simulator)
        levels = PlayableLevels(trainer.level_pool, simulator, pytest.fail)
        assert isinstance(levels.simulator(0), CompiledSimulator) == (simulator == "compiled")

    def test_counting_trains_makes_no_level(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer, _ = make_trainer(tmp_path, training_env_config="Test_1")
        monkeypatch.setattr(trainer.level_pool.levels, "make", lambda k: pytest.fail(f"level {k} was made"))
        assert PlayableLevels(trainer.level_pool, "compiled", pytest.fail).n_trains == 10

    def test_an_interrupted_training_may_go_on_with_the_other(self, tmp_path: Path) -> None:
        options = TestResume.OPTIONS | {"num_envs": 2}
        whole, _ = run(tmp_path / "whole", **options)
        stopped, _ = make_trainer(tmp_path, stop_requested=stop_after(60), **options)
        stopped.run()
        checkpoint = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
        resumed, _ = resume(tmp_path, checkpoint, **options | {"simulator": "flatland"})
        assert resumed.run()
        assert_same(
            resumed.population.learners[0].policy.state_dict(), whole.population.learners[0].policy.state_dict()
        )

    def test_levels_that_the_compiled_one_cannot_play_are_played_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flatland, flatland_sink = run(tmp_path / "flatland", simulator="flatland", n_episodes=4)

        def refuse(env: Any) -> CompiledSimulator:
            raise UnsupportedLevel("it has drawbridges")

        monkeypatch.setattr(CompiledSimulator, "from_env", refuse)
        trainer, sink = run(tmp_path / "compiled", simulator="compiled", n_episodes=4)
        warnings = [text for text in sink.messages if "warning" in text]
        assert len(warnings) == 1
        assert "drawbridges" in warnings[0]
        assert_same(
            trainer.population.learners[0].policy.state_dict(), flatland.population.learners[0].policy.state_dict()
        )
        assert_same(sink.rows, flatland_sink.rows)


class TestDemonstrations:
    """Levels that a plan plays beside others, trains that see it, and a stop in the middle of both."""

    OPTIONS: ClassVar[dict[str, Any]] = {
        "n_episodes": 8,
        "num_envs": 3,
        "seed": 2,
        "feature_set": "tree_plan",
        "demonstrations": 0.7,
        "save_replay_buffer": True,
    }

    @pytest.fixture(scope="class")
    def uninterrupted(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        return run(tmp_path_factory.mktemp("uninterrupted"), **self.OPTIONS)

    def test_some_transitions_are_demonstrated(self, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        shown = uninterrupted[0].population.learners[0].buffer.rows()["shown"]
        assert 0.0 < (shown >= 0).mean() < 1.0

    @pytest.mark.parametrize("questions", [15, 70])
    def test_equals_the_uninterrupted_training_to_the_bit(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink], questions: int
    ) -> None:
        assert_equals_uninterrupted(tmp_path, uninterrupted, questions, self.OPTIONS)
