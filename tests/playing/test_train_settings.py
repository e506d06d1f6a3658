"""Trains of one environment with different policy_of_train, each on its own terms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reinforcement_learning.playing.transitions import TransitionCollector

from reinforcement_learning.playing.policy import act_with_each
from reinforcement_learning.playing.reward_shaping import LearningRewards, RewardWeights
from reinforcement_learning.playing.rollout import Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from tests.helpers.playing import ListSink, RandomPolicy, play_out, step_of_trains
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.simulator.simulator import FlatlandSimulator

SHAPING = RewardWeights(0.99, 1.0, 1.0, 0.5)


class Named:
    """Tells its trains by their observations, and answers with its own number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.batches: list[np.ndarray] = []
        self.epsilons: list[float] = []

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float | np.ndarray = 0.0) -> np.ndarray:
        self.batches.append(observations[:, 0])
        self.epsilons += np.broadcast_to(epsilon, len(observations)).tolist()
        return np.full(len(observations), self.number)


@given(policy_of_train=st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_each_driver_gets_one_batch_with_all_its_trains_and_no_others(policy_of_train: list[int]) -> None:
    policies = [Named(number) for number in range(5)]
    ids = np.arange(len(policy_of_train), dtype=np.float32)
    mask = np.ones((len(policy_of_train), 5), dtype=bool)
    actions = act_with_each(policies, np.array(policy_of_train), ids[:, np.newaxis], mask, ids / 100)
    assert actions.tolist() == policy_of_train
    for policy in policies:
        own = [i for i, number in enumerate(policy_of_train) if number == policy.number]
        assert [batch.tolist() for batch in policy.batches] == ([own] if own else [])
        assert policy.epsilons == pytest.approx([i / 100 for i in own])


def test_transitions_know_who_acted_and_results_who_drove() -> None:
    sink, policies = ListSink(), [RandomPolicy(1), RandomPolicy(2), RandomPolicy(3)]
    rollout = Rollout(
        Observer(get_feature_set("tree"), safe_moves=False), policies, 7, n_slots=2, learning=Learning(sink, SHAPING, 3)
    )
    mappings = [np.array([2, 0, 0, 2, 2]), np.array([0, 2, 2, 2, 2])]
    for env, policy_of_train in enumerate(mappings):
        train_settings = TrainSettings(policy_of_train=policy_of_train, n_step=np.array([1, 2, 3, 1, 2]))
        rollout.start(env, FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], env)), train_settings)
    results = play_out(rollout)
    assert set(sink.all("policy_of_train")) == {0, 2}
    for env, policy_of_train in enumerate(mappings):
        result = results[env]
        assert result.policy_of_train.tolist() == policy_of_train.tolist()
        assert result.train_scores.mean() == pytest.approx(result.score)
        assert result.train_arrived.mean() == result.completion


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n_trains=st.integers(1, 4))
def test_terms_of_each_train_are_as_if_it_had_a_collector_of_its_own(seed: int, n_trains: int) -> None:
    random = np.random.default_rng(seed)
    gamma, n_step = random.uniform(0.5, 1.0, n_trains), random.integers(1, 5, n_trains)
    together = TransitionCollector(n_trains, 1, gamma=0.0, n_step=4)
    together.begin(np.arange(n_trains), np.arange(n_trains) + 5, gamma, n_step)
    alone = [TransitionCollector(1, 1, gamma=gamma[train], n_step=int(n_step[train])) for train in range(n_trains)]
    received: list[list[tuple[float, ...]]] = [[] for _ in range(2 * n_trains)]

    def keep(collector: int, closed: object) -> None:
        rows = zip(closed.observations, closed.rewards, closed.discounts, closed.next_observations, strict=True)  # type: ignore[attr-defined]
        for (observation,), reward, discount, (following,) in rows:
            received[collector].append((observation, reward, discount, following))

    def keep_together(closed: object) -> None:
        for train in range(n_trains):
            keep(n_trains + train, closed.of_policy(train + 5))  # type: ignore[attr-defined]

    mask = np.ones((1, 5), dtype=bool)
    for step in range(15):
        deciding = np.flatnonzero(random.random(n_trains) < 0.6)
        observations = (100.0 * deciding + step).astype(np.float32)[:, np.newaxis]
        masks = np.repeat(mask, len(deciding), axis=0)
        keep_together(together.decide(deciding, observations, masks, np.zeros(len(deciding), np.int64)))
        for train, observation in zip(deciding.tolist(), observations, strict=True):
            keep(train, alone[train].decide(np.array([0]), observation[np.newaxis], mask, np.zeros(1, np.int64)))
        rewards = random.normal(size=n_trains)
        together.reward(rewards)
        for train in range(n_trains):
            alone[train].reward(rewards[train : train + 1])
    keep_together(together.finish(np.arange(n_trains)))
    for train in range(n_trains):
        keep(train, alone[train].finish(np.array([0])))
        assert sorted(received[n_trains + train]) == sorted(received[train])


def test_shaping_of_each_train_is_as_if_all_had_it() -> None:
    random = np.random.default_rng(0)
    weights = [RewardWeights(0.9, 1.0, 2.0, 0.5), RewardWeights(0.99, 3.0, 0.0, 1.5)]
    mixed = RewardWeights(*(np.array(pair) for pair in zip(*(vars(w).values() for w in weights), strict=True)))
    together = LearningRewards(SHAPING, 1, 2)
    alone = [LearningRewards(weight, 1, 2) for weight in weights]
    together.start(0, mixed)
    for rewards in alone:
        rewards.start(0)
    for number in range(5):
        own, remaining, flags = random.normal(size=2), random.uniform(0, 30, (2, 2)), random.random((2, 2)) < 0.3
        step = step_of_trains(own, *remaining, *flags, over=number == 4, max_episode_steps=40)
        found = together.step(step, {})
        each = [rewards.step(step, {}) for rewards in alone]
        assert found[0].tolist() == [each[0][0, 0], each[1][0, 1]]


def test_settings_survive_a_checkpoint() -> None:
    policy_of_train = np.array([1, 0])
    shaping = RewardWeights(np.array([0.9, 0.99]), np.array([1.0, 2.0]), np.array([0.0, 1.0]), np.array([0.5, 0.25]))
    train_settings = TrainSettings(np.array([0.1, 0.2]), policy_of_train, shaping, np.array([3, 1]), demonstration=True)
    again = TrainSettings.from_state(train_settings.state_dict())
    assert again.demonstration is True
    assert again.reward_weights is not None
    for found, wanted in zip(
        (again.epsilon, again.policy_of_train, again.n_step, *vars(again.reward_weights).values()),
        (train_settings.epsilon, train_settings.policy_of_train, train_settings.n_step, *vars(shaping).values()),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)
        assert np.asarray(found).dtype == np.asarray(wanted).dtype


def test_settings_of_earlier_versions_are_no_demonstrations() -> None:
    state = TrainSettings(reward_weights=SHAPING, n_step=1).state_dict()
    del state["demonstration"]
    assert TrainSettings.from_state(state).demonstration is False


def test_a_demonstration_stays_one_where_trains_are_missing() -> None:
    assert TrainSettings(demonstration=True).padded(2, 5).demonstration
