"""Trainings on several environments: when the next one is added, and that everybody plays the same levels."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reinforcement_learning.playing.experience import FinishedEpisode
from reinforcement_learning.saving.checkpointing import CheckpointError, numbered_checkpoint, read_checkpoint
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.training.curriculum import ENOUGH, PATIENCE, WINDOW, Curriculum
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.mixtures import N_TRAINS, SEVERAL, check_rule, noted
from tests.helpers.processes import wait_until_ready
from tests.helpers.tiny_training import SMALL, UNGUIDED, MemorySink, make_trainer, stop_after
from tests.helpers.trainings import assert_equals_uninterrupted, assert_same, resume, run, state_of
from utils.levels.level_streams import TrainingLevels


class Played:
    """A curriculum of two environments, fed by hand: level numbers count up, and the next one is not begun yet."""

    def __init__(self, **options: Any) -> None:
        self.messages: list[str] = []
        self.experience = SimpleNamespace(next_level=0)
        self.shown: set[int] = set()
        config = TrainingConfig(**SMALL | {"training_env_config": "Tiny,Test_0", "n_episodes": 10_000} | options)
        self.levels = TrainingLevels(config.training_env, config.seed)
        self.curriculum = Curriculum(
            config, self.levels, self.experience, self.shown.__contains__, self.messages.append
        )

    def play(self, *completions: float) -> dict[str, float]:
        row = {}
        for completion in completions:
            level_number = self.experience.next_level
            self.experience.next_level += 1
            result: Any = SimpleNamespace(score=completion - 1.0, completion=completion)
            row = self.curriculum.after_episode(FinishedEpisode(level_number, result), self.experience.next_level)
        return row


class TestWhenTheNextIsAdded:
    def test_when_the_newest_is_mastered(self) -> None:
        played = Played()
        played.play(*[ENOUGH] * (WINDOW - 1))
        assert played.levels.opened == (0,)
        assert played.play(1.0) == {
            "training/Tiny/score": 0.0,
            "training/Tiny/completion": 1.0,
            "training/environments": 2.0,
            "curriculum/Test_0": WINDOW,
        }
        assert played.levels.opened == (0, WINDOW)
        (message,) = played.messages
        assert message.startswith(f"Test_0 is added after episode {WINDOW}: 90.2% of the trains have arrived")
        assert "curriculum/Test_0" not in played.play(1.0)

    def test_when_it_no_longer_gets_better(self) -> None:
        played = Played()
        played.play(*[0.4] * (WINDOW + 20), *[0.5] * WINDOW)  # the mean rises with each of the latter
        played.play(*[0.5] * (PATIENCE - 1))
        assert played.levels.opened == (0,)
        played.play(0.5)
        assert len(played.levels.opened) == 2
        assert f"completion on Tiny has not risen above 50.0% for {PATIENCE} episodes" in played.messages[0]

    def test_at_the_latest_after_its_share_of_the_training(self) -> None:
        played = Played(n_episodes=60)
        played.play(*[0.0] * 29)
        assert played.levels.opened == (0,)
        played.play(0.0)
        assert played.levels.opened == (0, 30)

    def test_the_first_episodes_do_not_tell(self) -> None:
        played = Played()
        played.play(1.0, 1.0, 1.0)
        assert played.levels.opened == (0,)

    def test_what_the_plan_plays_tells_nothing(self) -> None:
        played = Played()
        played.shown.update(range(WINDOW))
        played.play(*[1.0] * WINDOW)
        assert played.levels.opened == (0,)

    def test_not_where_no_level_is_left(self) -> None:
        played = Played(n_episodes=60)
        played.experience.next_level = 59
        played.play(*[0.0])
        assert played.levels.opened == (0,)
        assert played.messages == []

    def test_a_mixture_has_all_from_the_beginning(self) -> None:
        played = Played(curriculum=False)
        assert played.levels.opened == (0, 0)
        assert played.play(*[1.0] * 2 * WINDOW)["training/environments"] == 2.0
        assert played.messages == []

    def test_one_environment_has_no_metrics_of_its_own(self) -> None:
        assert Played(training_env_config="Tiny").play(1.0) == {}


class TestResume:
    @pytest.fixture(scope="class")
    def uninterrupted(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        return run(tmp_path_factory.mktemp("uninterrupted"), **SEVERAL)

    def test_the_training_adds_both(self, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        trainer, sink = uninterrupted
        opened = trainer.level_pool.levels.opened
        assert len(opened) == 3
        assert 4 <= opened[1] <= 6 < 8 <= opened[2] <= 10
        added = [name for row in sink.rows for name in row if name.startswith("curriculum/")]
        assert added == ["curriculum/Test_0", "curriculum/Round2_Test_00"]
        assert [text.split()[0] for text in sink.messages] == ["Test_0", "Round2_Test_00"]
        assert any("training/Round2_Test_00/completion" in row for row in sink.rows)

    # in the first environment, in mid-episode after the second is there, after the third is
    @pytest.mark.parametrize("questions", [30, 240, 420])
    def test_equals_the_uninterrupted_training_to_the_bit(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink], questions: int
    ) -> None:
        assert_equals_uninterrupted(tmp_path, uninterrupted, questions, SEVERAL)

    def test_levels_made_ahead_make_no_difference(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink]
    ) -> None:
        trainer, sink = make_trainer(tmp_path, level_workers=1, **SEVERAL)
        trainer.level_pool.simulator(0)
        wait_until_ready(trainer.level_pool)
        assert trainer.run()
        wanted, wanted_sink = uninterrupted
        assert_same(state_of(trainer), state_of(wanted) | {"config": state_of(trainer)["config"]})
        assert_same(sink.rows, wanted_sink.rows)

    @pytest.mark.parametrize("other", [{"training_env_config": "Tiny,Test_0"}, {"curriculum": False}])
    def test_on_other_environments_it_begins_anew(self, tmp_path: Path, other: dict[str, Any]) -> None:
        stopped, _ = make_trainer(tmp_path, stop_requested=stop_after(420), **SEVERAL)
        assert not stopped.run()
        assert len(stopped.level_pool.levels.opened) == 3
        path = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
        resumed, _ = resume(tmp_path, path, **SEVERAL | other)
        assert resumed.level_pool.levels.opened == ((0, 0, 0) if "curriculum" in other else (0,))
        assert not any(len(episode.actions) for episode in resumed.experience.unfinished())
        assert resumed.run()

    @pytest.mark.parametrize("opened", [[], [1], [0, 4, 3], [0, 1, 2, 3], [0, 500]])
    def test_what_cannot_be_is_refused(self, tmp_path: Path, opened: list[int]) -> None:
        stopped, _ = make_trainer(tmp_path, stop_requested=stop_after(30), **SEVERAL)
        stopped.run()
        path = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
        content = read_checkpoint(path)
        content["curriculum"]["opened"] = opened
        with pytest.raises(CheckpointError, match="damaged"):
            make_trainer(tmp_path, **SEVERAL)[0].resume(path, content)


class TestWhoeverPlays:
    @pytest.mark.parametrize("options", [{}, {"num_policies": 2}, {"num_workers": 2}])
    def test_levels_follow_the_rule(self, tmp_path: Path, options: dict[str, Any]) -> None:
        trainer, _ = make_trainer(tmp_path, **SEVERAL | {"n_episodes": 24} | options)
        found = noted(trainer)
        assert trainer.run()
        assert len(trainer.level_pool.levels.opened) == 3
        check_rule(trainer, found)

    @pytest.mark.parametrize("simulator", ["compiled", "flatland"])
    def test_workers_play_the_levels_of_a_training_in_one_process(self, tmp_path: Path, simulator: str) -> None:
        """Made by them on flatland's simulator, sent to them on the other."""
        options = SEVERAL | UNGUIDED | {"simulator": simulator, "eps_start": 0.0, "eps_end": 0.0}
        options |= {"buffer_size": 5000, "buffer_min_size": 5000, "n_episodes": 9}
        rows = []
        for n in (0, 2):
            trainer, _ = make_trainer(tmp_path / str(n), num_workers=n, **options)
            trainer.level_pool.levels.opened = (0, 2, 4)
            found = noted(trainer)
            assert trainer.run()
            check_rule(trainer, found)
            assert {n_trains for _, n_trains in found} == set(N_TRAINS)
            arrays = trainer.population.learners[0].buffer.rows().values()
            rows.append(sorted(b"".join(part.tobytes() for part in row) for row in zip(*arrays, strict=True)))
        assert rows[0] == rows[1]
