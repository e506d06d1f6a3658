"""Scores of policies that are trained together: each alone, and all as their mapping has it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from reinforcement_learning.playing.episode_result import evaluation_metrics
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.training.population_scores import PopulationScores, score_population
from reinforcement_learning.training.trainer import Trainer
from tests.helpers.playing import ForwardPolicy
from tests.helpers.tiny_training import make_trainer

OF_EACH = ("scores_mean", "completions_mean", "deadlocked", "never_departed")


def score(trainer: Trainer, stop_after: int = 10**9) -> PopulationScores | None:
    """The evaluation of a trainer, stopped when it is asked for the so-manieth time."""
    asked = iter(range(10**9))
    population, n_levels = trainer.population, trainer.config.n_evaluation_episodes
    return score_population(
        population,
        trainer.levels_to_evaluate,
        n_levels,
        trainer.observer,
        should_stop=lambda: next(asked) >= stop_after,
    )


def test_alone_is_what_each_would_score_without_the_others(tmp_path: Path) -> None:
    trainer, _ = make_trainer(tmp_path, num_policies=2, n_evaluation_episodes=3)
    found = score(trainer)
    assert found is not None
    for p, policy in enumerate(trainer.population.evaluation_policies()):
        wanted = play_levels(trainer.levels_to_evaluate(), trainer.observer, policy)
        assert found.reached[p].score == pytest.approx(np.mean([result.score for result in wanted]))
    assert found.best == int(np.argmax([reached.score for reached in found.reached]))
    metrics = found.metrics()
    assert {name for name in metrics if name.startswith("policy_")} == {
        f"policy_{p:02d}/evaluation/{name}" for p in range(2) for name in OF_EACH
    }
    assert metrics["policy_01/evaluation/scores_mean"] == pytest.approx(found.reached[1].score)
    assert {n: v for n, v in metrics.items() if n[:6] != "policy"} == evaluation_metrics(found.together)


def test_best_of_equal_scores_is_that_with_the_highest_completion(tmp_path: Path) -> None:
    found = score(make_trainer(tmp_path)[0])
    assert found is not None
    alone = [
        [dataclasses.replace(result, score=0.0, completion=completion) for result in found.together]
        for completion in (0.5, 1.0, 1.0)
    ]
    assert PopulationScores(found.together, alone).best == 1


def test_together_follows_the_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = make_trainer(tmp_path, num_policies=2, n_evaluation_episodes=2)
    monkeypatch.setattr(trainer.population, "evaluation_policies", lambda: [ForwardPolicy(), ForwardPolicy()])
    found = score(trainer)
    assert found is not None
    assert all(sorted(result.policy_of_train.tolist()) == [0, 1] for result in found.together)  # two trains
    # the same policy twice: whoever drives, the levels come out the same
    assert [r.score for r in found.together] == [r.score for r in found.alone[0]] == [r.score for r in found.alone[1]]


def test_single_policy_is_together_what_it_is_alone(tmp_path: Path) -> None:
    found = score(make_trainer(tmp_path)[0])
    assert found is not None
    assert found.together is found.alone[0]
    assert not any(name.startswith("policy_") for name in found.metrics())


def test_evaluation_cut_short_anywhere_gives_nothing(tmp_path: Path) -> None:
    trainer, _ = make_trainer(tmp_path, num_policies=2)
    for stop_after in (0, 3, 80):
        assert score(trainer, stop_after) is None
