"""Resuming with other options, or from another checkpoint than the newest."""

from pathlib import Path
from typing import Any

import pytest

from reinforcement_learning.saving.checkpointing import BEST, numbered_checkpoint, read_checkpoint
from tests.helpers.tiny_training import make_trainer, stop_after
from tests.helpers.trainings import resume, run


@pytest.mark.parametrize("options", [{"n_step": 1}, {"training_env_config": "Test_0"}])
def test_episodes_under_way_that_no_longer_fit_begin_again(tmp_path: Path, options: dict[str, Any]) -> None:
    more = {"num_envs": 2, "n_episodes": 4}
    stopped, _ = make_trainer(tmp_path / "stopped", stop_requested=stop_after(40), **more)
    assert not stopped.run()
    assert any(len(episode.actions) for episode in stopped.experience.unfinished())
    path = numbered_checkpoint(stopped.folders.checkpoints, stopped.episode)
    resumed, sink = resume(tmp_path / "resumed", path, **more, **options)
    assert resumed.run()
    assert resumed.episode == 4
    assert len([row for row in sink.rows if "training/score" in row]) == 4 - stopped.episode


def test_buffers_that_belong_to_other_checkpoints_are_told(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path / "run", n_episodes=3, save_replay_buffer=True)
    best = trainer.folders.checkpoints / BEST
    notes = make_trainer(tmp_path / "resumed")[0].resume(best, read_checkpoint(best))
    assert any("belong to its numbered checkpoints" in note for note in notes)
    assert not any("has no saved replay buffer" in note for note in notes)


def test_a_best_score_under_other_rewards_counts_no_more(tmp_path: Path) -> None:
    stopped, _ = run(tmp_path / "run", n_episodes=3)
    path = numbered_checkpoint(stopped.folders.checkpoints, 3)
    assert resume(tmp_path / "same", path)[0].state.best == stopped.state.best
    assert resume(tmp_path / "other", path, rewards="ecml2026")[0].state.best.episode == 0
