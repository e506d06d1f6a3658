"""One policy with what its learning needs: when it learns, with what settings, and that a checkpoint holds it all."""

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.learning.learner import LocalLearner
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.settings.config import TrainingConfig
from tests.helpers.rows import PLAIN, made_up_rows
from tests.helpers.tiny_training import SMALL
from tests.helpers.trainings import assert_same
from utils.observation.feature_sets import get_feature_set

FEATURES = get_feature_set("tree")


def make_learner(index: int = 0, **options: Any) -> LocalLearner:
    config = TrainingConfig(**{**SMALL, "feature_set": "tree", "hidden_size": 4, **options})
    return LocalLearner(config, FEATURES, index, "cpu")


def transitions(n: int, seed: int = 0) -> EpisodeRows:
    random = np.random.default_rng(seed)
    return made_up_rows(
        n,
        FEATURES.n_features,
        rewards=random.random(n),
        observations=random.random((n, FEATURES.n_features)),
        actions=random.integers(5, size=n),
        next_row=np.arange(n) < n - 1,
    )


@given(sizes=st.lists(st.integers(0, 30), max_size=6), update_every=st.integers(1, 9), enough=st.integers(0, 30))
@settings(max_examples=8, deadline=None)
def test_one_step_for_each_update_every_transitions_once_there_are_enough(sizes, update_every, enough):
    learner = make_learner(batch_size=4, update_every=update_every, buffer_min_size=enough)
    collected = waiting = steps = 0
    for size in sizes:
        learner.add(transitions(size))
        learner.learn()
        waiting += max(0, size - max(0, max(enough, 4) - collected))
        collected += size
        steps, waiting = steps + waiting // update_every, waiting % update_every
        assert learner.policy.learning_steps == len(learner.losses) == steps
        assert learner.transitions_to_learn_from == waiting


def test_a_full_buffer_is_enough_even_if_transitions_begin_at_few_of_its_rows():
    learner = make_learner(buffer_size=20, buffer_min_size=20, batch_size=4, update_every=2)
    for n_decided, steps in ((0, 0), (8, 4)):
        learner.add(dataclasses.replace(transitions(20), decided=np.arange(20) < n_decided))
        learner.learn()
        assert (len(learner.buffer), learner.learning_steps) == (n_decided, steps)


def test_takes_over_what_another_has_learned_from_too():
    better, worse = make_learner(buffer_size=40), make_learner(1, buffer_size=40)
    better.add(transitions(60))
    worse.add(transitions(10, seed=1))
    worse.transitions_to_learn_from, own_draws = 3, copy.deepcopy(worse.buffer.random)
    worse.take_over(better)
    assert_same(worse.buffer.rows(), better.buffer.rows())
    assert (len(worse.buffer), worse.buffer.n_added, worse.transitions_to_learn_from) == (40, 60, 3)
    assert worse.buffer.random.random() == own_draws.random()
    for learner in (better, worse):  # both go on in the same place, and nothing is shared
        learner.add(transitions(5, seed=2))
    assert_same(worse.buffer.rows(), better.buffer.rows())
    worse.add(transitions(1, seed=3))
    assert better.buffer.n_added == 65


def test_goes_on_from_its_state_to_the_bit():
    first = make_learner(update_every=5, buffer_min_size=16)
    first.add(transitions(43))
    first.learn()
    second = make_learner(update_every=5, buffer_min_size=16, seed=9)
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # as from a file: Adam would share its moments
    second.buffer.add(transitions(43))
    for learner in (first, second):
        learner.add(transitions(12, seed=1))
        learner.learn()
    assert first.policy.learning_steps == (43 + 12 - 16) // 5
    assert_same(second.state_dict(), first.state_dict())


def test_state_can_be_kept_in_a_checkpoint(tmp_path):
    learner = make_learner(buffer_min_size=0)
    torch.save(learner.state_dict(), tmp_path / "state.pt")  # nothing has been learned: there are no losses
    assert_same(torch.load(tmp_path / "state.pt", weights_only=True), learner.state_dict())


def test_policies_of_one_seed_differ_in_weights_and_in_what_they_sample():
    learners = [make_learner(index=p) for p in (0, 0, 1)]
    weights = [next(learner.policy.q_network.parameters()).detach() for learner in learners]
    for learner in learners:
        learner.add(transitions(200))
    drawn = [learner.buffer.sample(16, PLAIN, 1).rewards for learner in learners]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(drawn[0], drawn[2])


def test_new_hyperparameters_reach_the_optimizer_at_once():
    learner = make_learner()
    learner.hyperparameters = dataclasses.replace(learner.hyperparameters, learning_rate=0.5, tau=0.25)
    assert learner.policy.optimizer.lr == 0.5
    assert learner.policy.tau == 0.25


def test_new_hyperparameters_change_what_is_learned_from_what_is_stored(monkeypatch: pytest.MonkeyPatch):
    """Also where another one has collected it."""
    source, learner = make_learner(gamma=0.5, n_step=1), make_learner(1, gamma=0.5, n_step=1, buffer_min_size=0)
    rows = transitions(20)
    rows.reward_parts[:, 0] = [1.0, 10.0, 100.0]  # the environment's, an arrival, a deadlock
    source.add(rows)
    learner.take_over(source)
    batches = []
    monkeypatch.setattr(learner.policy, "learn", lambda batch: batches.append(batch) or torch.zeros(()))
    changes = [{"arrival_reward": 2.0, "deadlock_penalty": 0.0}, {"deadlock_penalty": 0.5}, {"gamma": 1.0, "n_step": 3}]
    for change in changes:
        learner.hyperparameters = dataclasses.replace(learner.hyperparameters, **change)
        learner.transitions_to_learn_from = learner.hyperparameters.update_every
        learner.learn()
    found = [
        (batch.rewards.max().item(), batch.rewards.min().item(), batch.discounts.max().item()) for batch in batches
    ]
    assert found == [(21.0, 21.0, 0.5), (-29.0, -29.0, 0.5), (-29.0, -87.0, 1.0)]


def test_learning_rate_falls_with_progress_from_whatever_it_is():
    learner = make_learner(learning_rate=0.1, learning_rate_end_factor=0.2)
    rates = []
    for progress in (0.0, 0.5, 1.0, 1.5):
        learner.progress = progress
        rates.append(learner.policy.learning_rate)
    assert rates == pytest.approx([0.1, 0.06, 0.02, 0.02])
    learner.progress = 0.5
    learner.hyperparameters = dataclasses.replace(learner.hyperparameters, learning_rate=0.2)
    assert learner.policy.learning_rate == pytest.approx(0.12)


@pytest.mark.parametrize("update_every", [4, 16, 50])
def test_replay_ratio_is_kept_however_transitions_come(update_every):
    """``batch_size / update_every``; what only filled the buffer does not count."""
    learner = make_learner(update_every=update_every, batch_size=8, buffer_min_size=32)
    assert math.isnan(learner.replay_ratio)
    learner.add(transitions(20))
    learner.learn()
    assert math.isnan(learner.replay_ratio)
    for n in [200, 1, 3, 60, 7, 150]:
        learner.add(transitions(n))
        learner.learn()
    steps = (441 - 32) // update_every
    assert learner.learning_steps == steps
    assert learner.replay_ratio == pytest.approx(8 * steps / (441 - 32))
    assert learner.replay_ratio <= 8 / update_every
