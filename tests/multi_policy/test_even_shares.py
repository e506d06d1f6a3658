"""The synchronous mode: all policies learn from equally many transitions, in equally many steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from reinforcement_learning.multi_policy import even_shares
from reinforcement_learning.multi_policy.even_shares import EvenShares
from reinforcement_learning.playing.episode_rows import LOST, NOTHING_FOLLOWS, EpisodeRows
from reinforcement_learning.saving.checkpointing import numbered_checkpoint, read_checkpoint
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.rows import made_up_rows
from tests.helpers.tiny_training import MemorySink, make_trainer
from tests.helpers.trainings import assert_equals_uninterrupted, resume, run
from utils.observation.feature_sets import FeatureSet

FEATURES = FeatureSet("test", 1, max_depth=1)
EXCHANGES = {
    "with_pbt": True,
    "pbt_start_episodes": 0,
    "pbt_period_episodes": 5,
    "pbt_min_gap": 0.0,
    "pbt_min_errors": 0.0,
    "partner_snapshot_prob": 0.2,
    "partner_snapshot_every": 4,
}


def transitions(rewards: list[float]) -> EpisodeRows:
    """Of one train, one after the other."""
    n = len(rewards)
    return made_up_rows(n, FEATURES.n_features, rewards=np.array(rewards), next_row=np.arange(n) < n - 1)


def rewards_of(shares: list[list[EpisodeRows]]) -> list[list[float]]:
    return [[reward for part in share for reward in part.reward_parts[part.decided, 0, 0].tolist()] for share in shares]


def test_what_is_more_than_others_have_waits_and_comes_first() -> None:
    shares = EvenShares(2, 1)
    shares.add(0, transitions([1, 2, 3]))
    assert rewards_of(shares.take()) == [[], []]
    shares.add(1, transitions([7]))
    shares.add(1, transitions([8]))
    assert rewards_of(shares.take()) == [[1, 2], [7, 8]]
    shares.add(0, transitions([4]))
    shares.add(1, transitions([9, 10, 11]))
    assert rewards_of(shares.take()) == [[3, 4], [9, 10]]


def test_an_episode_in_two_parts_keeps_its_transitions_whole() -> None:
    """The first part brings along the decisions at which its transitions end."""
    shares = EvenShares(2, 2)
    shares.add(0, transitions([1, 2, 3, 4, 5]))
    shares.add(1, transitions([7]))
    ((first,), _) = shares.take()
    shares.add(1, transitions([8, 9, 10, 11]))
    ((rest,), _) = shares.take()
    assert first.reward_parts[:, 0, 0].tolist() == [1, 2, 3]
    assert (first.decided.tolist(), first.next_row.tolist()) == ([True, False, False], [1, 1, LOST])
    assert rest.reward_parts[:, 0, 0].tolist() == [2, 3, 4, 5]
    assert (rest.decided.all(), rest.next_row.tolist()) == (True, [1, 1, 1, NOTHING_FOLLOWS])


def test_of_many_that_wait_the_oldest_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(even_shares, "MOST_WAITING", 3)
    shares = EvenShares(2, 1)
    shares.add(0, transitions([1, 2, 3, 4, 5]))
    shares.take()
    shares.add(1, transitions([7, 8]))
    assert rewards_of(shares.take()) == [[3, 4], [7, 8]]


def test_what_waits_is_saved_and_checked() -> None:
    shares, again = EvenShares(2, 1), EvenShares(2, 1)
    shares.add(0, transitions([1, 2]))
    state = shares.state_dict()
    again.load_state_dict(state, FEATURES)
    for each in (shares, again):
        each.add(1, transitions([7, 8, 9]))
    assert rewards_of(again.take()) == rewards_of(shares.take()) == [[1, 2], [7, 8]]
    for wrong in (
        {"reward_parts": torch.full((2, 2, 3), torch.nan)},
        {"actions": torch.tensor([5, 0], dtype=torch.int8)},
    ):
        with pytest.raises(ValueError, match="what waits of policy 0 is damaged"):
            again.load_state_dict([state[0] | wrong, {}], FEATURES)
    with pytest.raises(ValueError, match="what waits of policy 0 is damaged"):
        again.load_state_dict(state, replace(FEATURES, max_depth=2))


def test_what_waits_in_checkpoints_of_earlier_versions_is_left_out() -> None:
    """It had other fields, as the replay buffers beside it, which are refused."""
    shares = EvenShares(2, 1)
    shares.load_state_dict([{"rewards": torch.ones(2), "demonstrated": torch.zeros(2, dtype=torch.bool)}, {}], FEATURES)
    shares.add(1, transitions([7]))
    assert rewards_of(shares.take()) == [[], []]


class TestTraining:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "training_env_config": "Test_0",
        "num_envs": 4,
        "num_policies": 4,
        "policy_mode": "synchronous",
        "n_episodes": 16,
        "checkpoint_interval": 8,
        "save_replay_buffer": True,
        "eps_decay": 0.9,
        "seed": 2,
    }

    @pytest.fixture(scope="class")
    def uninterrupted(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        return run(tmp_path_factory.mktemp("uninterrupted"), **self.OPTIONS)

    @pytest.mark.parametrize("more", [{}, EXCHANGES], ids=["alone", "with past selves and exchanges"])
    def test_all_have_the_same_experience_after_each_round(self, tmp_path: Path, more: dict[str, Any]) -> None:
        trainer, sink = make_trainer(tmp_path, **self.OPTIONS | more)
        learners = trainer.population.learners
        collected, add, rounds = np.zeros(4, int), trainer.population.add, []
        learn = trainer.population.learn

        def counted(new: EpisodeRows) -> None:
            collected[:] += np.bincount(new.policy_of_train, minlength=4)[:4]
            add(new)

        def watched() -> None:
            learn()
            rounds.append([(learner.buffer.n_added, learner.learning_steps) for learner in learners])

        trainer.population.add, trainer.population.learn = counted, watched  # type: ignore[method-assign]
        trainer.run()
        assert len(set(collected.tolist())) > 1  # or nothing was to be made even
        for of_policies in rounds:
            assert len(set(of_policies)) == 1
        assert rounds[-1][0][1] > 10
        kinds = {kind for exchange in trainer.population.exchanges for kind in exchange["kinds"]}
        assert ("replaced" in kinds) == bool(more)
        last = [row for row in sink.rows if "training/score" in row][-1]
        for name, reached in zip(("transitions", "learning_steps"), rounds[-1][0], strict=True):
            assert [last[f"policy_{p:02d}/training/{name}"] for p in range(4)] == [reached] * 4
        content = read_checkpoint(numbered_checkpoint(trainer.folders.checkpoints, 16))
        assert [policy["learning_steps"] for policy in content["policies"]] == [rounds[-1][0][1]] * 4

    @pytest.mark.parametrize("questions", [30, 120])
    def test_resumed_equals_uninterrupted_to_the_bit(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink], questions: int
    ) -> None:
        assert_equals_uninterrupted(tmp_path, uninterrupted, questions, self.OPTIONS)

    def test_checkpoints_without_replay_buffers_keep_nothing_that_waits(self, tmp_path: Path) -> None:
        options = self.OPTIONS | {"save_replay_buffer": False, "n_episodes": 8}
        trainer, _ = run(tmp_path, **options)
        path = numbered_checkpoint(trainer.folders.checkpoints, 8)
        assert read_checkpoint(path)["waiting"] == []
        resumed, _ = resume(tmp_path, path, **options | {"n_episodes": 12})
        assert resumed.run()
        steps = {learner.learning_steps for learner in resumed.population.learners}
        assert len(steps) == 1
        assert steps.pop() > trainer.population.learners[0].learning_steps

    def test_processes_that_play_bring_the_same_to_all(self, tmp_path: Path) -> None:
        trainer, _ = run(tmp_path, **self.OPTIONS | {"num_workers": 1})
        reached = {(learner.buffer.n_added, learner.learning_steps) for learner in trainer.population.learners}
        assert len(reached) == 1
        assert reached.pop()[1] > 20
