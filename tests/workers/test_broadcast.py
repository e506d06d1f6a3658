"""What players elsewhere are told: all that is new to them, and nothing twice."""

import dataclasses
from pathlib import Path

import numpy as np

from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.workers.broadcast import Broadcast, Listener, News
from tests.helpers.tiny_training import make_trainer
from tests.learning.test_learner import transitions

NOTHING = News({}, None, None)


def make_population(base: Path) -> Population:
    options = {"feature_set": "tree", "num_policies": 3, "partner_snapshot_prob": 0.1}
    return make_trainer(base, **options)[0].population


def broadcast_of(population: Population) -> Broadcast:
    return Broadcast(population.learners, population.past_selves)


def learn(population: Population, policy: int) -> None:
    """A few learning steps of one policy."""
    population.learners[policy].add(transitions(64))
    population.learners[policy].learn()


def test_a_new_player_is_told_everything_once(tmp_path: Path) -> None:
    population = make_population(tmp_path)
    population.past_selves.take([learner.policy for learner in population.learners])
    broadcast = broadcast_of(population)
    for _ in range(2):  # another one is as new
        listener = Listener(broadcast)
        news = listener.news()
        for p, learner in enumerate(population.learners):
            np.testing.assert_array_equal(news.weights[p], learner.policy.acting_weights())
        assert news.hyperparameters == population.hyperparameters
        assert news.past_selves is not None
        assert len(news.past_selves) == 3
        assert listener.news() == NOTHING


def test_weights_of_those_only_that_have_learned(tmp_path: Path) -> None:
    population = make_population(tmp_path)
    listener = Listener(broadcast_of(population))
    listener.news()
    learn(population, 1)
    news = listener.news()
    assert list(news.weights) == [1]
    np.testing.assert_array_equal(news.weights[1], population.learners[1].policy.acting_weights())
    assert (news.hyperparameters, news.past_selves) == (None, None)


def test_weights_taken_over_after_as_many_steps_are_new(tmp_path: Path) -> None:
    population = make_population(tmp_path)
    for p in (0, 2):
        learn(population, p)
    first, *_, last = population.learners
    assert first.learning_steps == last.learning_steps
    listener = Listener(broadcast_of(population))
    before = listener.news().weights
    last.take_over(first)
    news = listener.news()
    assert list(news.weights) == [2]
    np.testing.assert_array_equal(news.weights[2], before[0])


def test_terms_and_older_copies_when_they_change(tmp_path: Path) -> None:
    population = make_population(tmp_path)
    listener = Listener(broadcast_of(population))
    listener.news()
    learner = population.learners[1]
    learner.hyperparameters = dataclasses.replace(learner.hyperparameters, epsilon_scale=0.5)
    assert listener.news() == News({}, population.hyperparameters, None)
    population.past_selves.take([learner.policy for learner in population.learners])
    news = listener.news()
    assert (news.weights, news.hyperparameters) == ({}, None)
    for copy, sent in zip(population.past_selves.weights(), news.past_selves or [], strict=True):
        np.testing.assert_array_equal(copy, sent)
    assert listener.news() == NOTHING
