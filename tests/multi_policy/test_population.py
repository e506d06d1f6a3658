"""Several policies in one training: apart from each other, reproducible, resumable; one policy is the case N = 1."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from reinforcement_learning.saving.checkpointing import load_policies, load_policy, numbered_checkpoint
from reinforcement_learning.settings.extensions import ExtensionError
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.tiny_training import MemorySink, make_trainer
from tests.helpers.trainings import assert_equals_uninterrupted, assert_same, run, state_of

# Test_0 has five trains; three environments, so that learning begins soon
FIVE_TRAINS: dict[str, Any] = {"training_env_config": "Test_0", "num_envs": 3, "n_step": 2, "eps_decay": 0.9}


def to_first(request: Any) -> list[int]:
    """A mapping that leaves all policies but the first without trains."""
    return [0] * request.n_trains


def wrong_later(request: Any) -> list[int]:
    """A mapping that breaks in the sixth episode."""
    return [0] * (request.n_trains - (request.episode == 5))


class TestOnePolicy:
    def test_is_the_same_training_beside_policies_that_never_drive(self, tmp_path: Path) -> None:
        options = FIVE_TRAINS | {"n_episodes": 7, "seed": 3}
        alone, _ = run(tmp_path / "alone", **options)
        among, _ = run(
            tmp_path / "among", num_policies=3, policy_mapping="tests.multi_policy.test_population:to_first", **options
        )
        first, *others = among.population.learners
        assert first.policy.learning_steps > 20
        wanted = alone.population.learners[0]
        assert_same(first.state_dict(), wanted.state_dict())
        assert_same(first.buffer.rows(), wanted.buffer.rows())
        assert [other.policy.learning_steps for other in others] == [0, 0]
        assert [len(other.buffer) for other in others] == [0, 0]
        assert among.population.trains_driven.tolist() == [35, 0, 0]

    def test_has_no_metrics_of_its_own_beside_the_totals(self, tmp_path: Path) -> None:
        _, sink = run(tmp_path, n_episodes=3)
        assert not any(name.startswith("policy_") for row in sink.rows for name in row)


class TestSeveralPolicies:
    OPTIONS: ClassVar[dict[str, Any]] = FIVE_TRAINS | {
        "n_episodes": 12,
        "num_policies": 3,
        "resample_policies_every": 2,
        "checkpoint_interval": 6,
        "save_replay_buffer": True,
        "seed": 2,
    }

    @pytest.fixture(scope="class")
    def uninterrupted(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, MemorySink]:
        return run(tmp_path_factory.mktemp("uninterrupted"), **self.OPTIONS)

    def test_no_two_start_equal(self, tmp_path: Path) -> None:
        trainer, _ = make_trainer(tmp_path, num_policies=3)
        learners = trainer.population.learners
        weights = [next(learner.policy.q_network.parameters()).detach().numpy().tobytes() for learner in learners]
        draws = [learner.policy.exploration.random() for learner in learners]
        samples = [learner.buffer.random.random() for learner in learners]
        assert [len(set(values)) for values in (weights, draws, samples)] == [3, 3, 3]

    def test_each_learns_from_its_own_trains_only(self, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        trainer, _ = uninterrupted
        population = trainer.population
        assert population.trains_driven.sum() == 12 * 5
        assert population.trains_driven == pytest.approx(np.full(3, 20), abs=2)
        for learner in population.learners:
            assert learner.policy.learning_steps > 5
            assert learner.policy.learning_steps == (learner.buffer.n_added - 32) // 16
        rows = [learner.buffer.rows()["observations"] for learner in population.learners]
        first, second = ({row.tobytes() for row in of_policy} for of_policy in rows[:2])
        assert len(first & second) < 0.1 * len(first)

    def test_same_seed_same_training(self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        again, sink = run(tmp_path, **self.OPTIONS)
        assert_same(state_of(again), state_of(uninterrupted[0]))
        assert_same(sink.rows, uninterrupted[1].rows)

    # before the first step, before and after learning begins, with mappings of two draws in play
    @pytest.mark.parametrize("questions", [1, 30, 100, 170])
    def test_resumed_equals_uninterrupted_to_the_bit(
        self, tmp_path: Path, uninterrupted: tuple[Trainer, MemorySink], questions: int
    ) -> None:
        assert_equals_uninterrupted(tmp_path, uninterrupted, questions, self.OPTIONS)

    def test_metrics_of_each_policy_stand_beside_the_totals(self, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        trainer, sink = uninterrupted
        training = [row for row in sink.rows if "training/score" in row]
        for row in training:
            own = [name for name in row if name.startswith("policy_")]
            assert {name.split("/", 1)[0] for name in own} == {"policy_00", "policy_01", "policy_02"}
        last = training[-1]
        names = ("score", "smoothed_score", "completion", "loss", "epsilon", "trains_driven", "learning_steps")
        assert {f"policy_02/training/{name}" for name in names} <= last.keys()
        driven = [last[f"policy_{p:02d}/training/trains_driven"] for p in range(3)]
        assert driven == trainer.population.trains_driven.tolist()
        evaluation = [row for row in sink.rows if "evaluation/scores_mean" in row][-1]
        assert {f"policy_{p:02d}/evaluation/{n}_mean" for p in range(3) for n in ("scores", "completions")} <= set(
            evaluation
        )

    def test_own_scores_make_up_the_total(self, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        before = np.zeros(3)
        for row in (row for row in uninterrupted[1].rows if "training/score" in row):
            driven = np.array([row[f"policy_{p:02d}/training/trains_driven"] for p in range(3)])
            trains, before = driven - before, driven
            own = np.array([row.get(f"policy_{p:02d}/training/score", 0.0) for p in range(3)])
            assert trains.sum() == 5
            assert trains @ own / 5 == pytest.approx(row["training/score"])

    def test_checkpoint_holds_all_of_them(self, uninterrupted: tuple[Trainer, MemorySink]) -> None:
        trainer, _ = uninterrupted
        path = numbered_checkpoint(trainer.folders.checkpoints, 12)
        observations = np.random.default_rng(0).normal(size=(300, trainer.feature_set.n_features)).astype(np.float32)
        mask = np.ones((300, 5), bool)
        wanted = [p.act(observations, mask).tolist() for p in trainer.population.evaluation_policies()]
        assert len({tuple(actions) for actions in wanted}) == 3
        found = [load_policy(path, p)[0].act(observations, mask).tolist() for p in range(3)]
        together, _, config = load_policies(path)
        assert found == wanted == [policy.act(observations, mask).tolist() for policy in together]
        assert config.num_policies == 3
        scores = [trainer.state.last_evaluation[f"policy_{p:02d}/evaluation/scores_mean"] for p in range(3)]
        best = int(np.argmax(scores))
        assert load_policy(path)[0].act(observations, mask).tolist() == wanted[best]


def test_with_a_single_train_policies_take_turns_and_their_schedules_count_their_own_episodes(tmp_path: Path) -> None:
    trainer, _ = make_trainer(tmp_path, num_policies=4, eps_decay=0.5)
    population = trainer.population
    epsilon = partial(population.assignment.epsilon, population.hyperparameters[1])
    assert [epsilon(k, 1) for k in (0, 3, 4, 8)] == [1.0, 1.0, 0.5, 0.25]
    assert [epsilon(k, 2) for k in (0, 2, 4)] == [1.0, 0.5, 0.25]
    assert [epsilon(k, 9) for k in (0, 1, 2)] == [1.0, 0.5, 0.25]


def test_mapping_that_breaks_in_mid_training_costs_nothing_that_was_learned(tmp_path: Path) -> None:
    trainer, _ = make_trainer(
        tmp_path,
        n_episodes=9,
        num_policies=2,
        policy_mapping="tests.multi_policy.test_population:wrong_later",
        checkpoint_interval=9,
    )
    with pytest.raises(ExtensionError, match="gave 1 numbers"):
        trainer.run()
    assert numbered_checkpoint(trainer.folders.checkpoints, 5).exists()


def test_all_that_failed_elsewhere_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first error: none is left to be raised later on, while episodes are counted."""
    trainer, _ = make_trainer(tmp_path, num_policies=2)
    waited = []

    def fail(policy: int) -> None:
        waited.append(policy)
        raise ValueError(f"policy {policy} has failed")

    for policy, learner in enumerate(trainer.population.learners):
        monkeypatch.setattr(learner, "wait", partial(fail, policy))
    with pytest.raises(ValueError, match="policy 0 has failed"):
        trainer.population.wait()
    assert waited == [0, 1]
