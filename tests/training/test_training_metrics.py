"""Rows of metrics: what an episode brings, for all policies together and for each, and what people are told."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reinforcement_learning.multi_policy.exchange import KEPT, PERTURBED, REPLACED
from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.training.reports import exchange_lines, exchange_row
from reinforcement_learning.training.training_metrics import Smoothed, TrainingMetrics
from tests.helpers.tiny_training import make_trainer


def make_population(folder: Path, n_policies: int) -> Any:
    trainer, _ = make_trainer(folder, num_policies=n_policies, eps_decay=0.5)
    return trainer.population


def result(policy_of_train: list[int], scores: list[float], arrived: list[bool]) -> EpisodeResult:
    n = len(policy_of_train)
    counts = np.array([1, 0, 6, 2, 1])
    return EpisodeResult(
        float(np.mean(scores)), float(np.mean(arrived)), 0.25, 0.5, 30, n, 10, counts,
        np.array(arrived), np.array(policy_of_train), np.array(scores),
    )  # fmt: skip


def test_totals_of_an_episode(tmp_path):
    population = make_population(tmp_path, 1)
    population.learners[0].losses = [torch.tensor(1.0), torch.tensor(2.0), torch.tensor(6.0)]
    metrics = TrainingMetrics(population)
    row = metrics.of_episode(2, result([0, 0], [-0.5, -0.1], [False, True]))
    assert row["training/score"] == pytest.approx(-0.3)
    assert row["training/completion"] == 0.5
    assert (row["training/deadlocked"], row["training/never_departed"], row["training/nb_steps"]) == (0.25, 0.5, 30)
    assert row["training/loss"] == 3.0
    assert row["training/epsilon"] == 0.25
    actions = {name: value for name, value in row.items() if name.startswith("actions/")}
    assert actions == {
        "actions/do_nothing": 0.1,
        "actions/left": 0.0,
        "actions/forward": 0.6,
        "actions/right": 0.2,
        "actions/stop": 0.1,
    }
    second = metrics.of_episode(3, result([0, 0], [0.0, 0.0], [True, True]))
    assert second["training/smoothed_score"] == pytest.approx(0.99 * (0.99 * -1.0 + 0.01 * -0.3))
    assert second["training/smoothed_completion"] == pytest.approx(0.99 * 0.01 * 0.5 + 0.01)


def test_each_policy_is_told_by_the_trains_that_it_drove(tmp_path):
    population = make_population(tmp_path, 3)
    population.learners[0].losses = [torch.tensor(1.0)]
    population.learners[1].losses = [torch.tensor(2.0), torch.tensor(3.0)]
    row = TrainingMetrics(population).of_episode(0, result([0, 1, 0, 1], [-0.4, -0.1, -0.2, -0.3], [0, 1, 1, 1]))
    assert row["policy_00/training/score"] == pytest.approx(-0.3)
    assert row["policy_01/training/score"] == pytest.approx(-0.2)
    assert (row["policy_00/training/completion"], row["policy_01/training/completion"]) == (0.5, 1.0)
    assert "policy_02/training/score" not in row  # it drove nobody
    assert row["training/loss"] == 2.0  # of all learning steps, not of the means
    assert row["policy_01/training/loss"] == 2.5
    assert math.isnan(row["policy_02/training/loss"])


def test_episode_without_a_decision_divides_by_nothing(tmp_path):
    nobody = np.zeros(1, dtype=bool)
    empty = EpisodeResult.of_trains(
        np.zeros(1),
        9,
        clips_losses=False,
        arrived=nobody,
        departed=nobody,
        deadlocked=nobody,
        n_steps=0,
        action_counts=np.zeros(5, dtype=np.int64),
    )
    row = TrainingMetrics(make_population(tmp_path, 1)).of_episode(0, empty)
    assert all(row[f"actions/{name}"] == 0.0 for name in ("left", "stop"))


EXCHANGE = {
    "episode": 500,
    "kinds": [KEPT, REPLACED, PERTURBED],
    "sources": [0, 0, 2],
    "scores": [-0.1, -0.5, -0.25],
    "hyperparameters": [{"tau": 0.001}, {"tau": 0.0012}, {"tau": 0.0008}],
}


def test_exchange_in_numbers_and_in_words():
    row = exchange_row(EXCHANGE)
    assert [row[f"policy_{p:02d}/pbt/tau"] for p in range(3)] == [0.001, 0.0012, 0.0008]
    assert [row[f"policy_{p:02d}/pbt/source"] for p in range(3)] == [0, 0, 2]
    takes_over, learns_on = exchange_lines(EXCHANGE)  # the policy that was left alone is not mentioned
    assert "policy 1 takes over from policy 0 (score -0.500 against -0.100)" in takes_over
    assert "episode 500" in takes_over
    assert "policy 2 learns on (score -0.250) with tau 0.0008" in learns_on


def test_an_exchange_that_changes_nothing_is_told_too() -> None:
    (line,) = exchange_lines(EXCHANGE | {"kinds": [KEPT] * len(EXCHANGE["kinds"])})
    assert line == f"exchange at episode {EXCHANGE['episode']}: all policies go on as they are"


@pytest.mark.parametrize(
    ("name", "weight", "start"),
    [
        ("training/score", 0.99, -1.0),
        ("policy_03/training/completion", 0.99, 0.0),
        ("evaluation/score", 0.9, -1.0),
        ("evaluation/completion", 0.9, 0.0),
    ],
)
def test_smoothing_is_the_classic_kits(name, weight, start):
    smoothed = Smoothed(name)
    assert smoothed.value == start
    first = weight * start + (1 - weight) * -0.5
    assert smoothed.update(-0.5) == pytest.approx(first)
    assert smoothed.update(-0.25) == pytest.approx(weight * first + (1 - weight) * -0.25)
    assert smoothed.update(math.nan) == smoothed.value == pytest.approx(weight * first + (1 - weight) * -0.25)


@pytest.mark.parametrize("n_before", [0, 3])
def test_smoothing_goes_on_after_a_round_trip_through_json(n_before):
    values = np.random.default_rng(0).normal(size=8).tolist()
    one = Smoothed("training/score")
    for value in values[:n_before]:
        one.update(value)
    other = Smoothed("training/score")
    stored = one.state_dict() | {"factor": 0.9}  # which earlier versions stored, too
    other.load_state_dict(json.loads(json.dumps(stored)))
    for value in values[n_before:]:
        assert other.update(value) == one.update(value)


def test_checkpoint_of_before_that_had_no_smoothed_value_yet():
    smoothed = Smoothed("evaluation/score")
    smoothed.load_state_dict({"value": None})
    assert smoothed.update(-0.5) == Smoothed("evaluation/score").update(-0.5)
