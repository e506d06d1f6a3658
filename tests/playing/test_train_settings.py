"""Trains of one environment with different policy_of_train, each on its own terms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinforcement_learning.playing.policy import act_with_each
from reinforcement_learning.playing.rollout import Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from tests.helpers.playing import ListSink, RandomPolicy, play_out
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.simulator.simulator import FlatlandSimulator


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


def test_rows_know_who_acted_and_results_who_drove() -> None:
    sink, policies = ListSink(), [RandomPolicy(1), RandomPolicy(2), RandomPolicy(3)]
    rollout = Rollout(
        Observer(get_feature_set("tree"), safe_moves=False), policies, 7, n_slots=2, learning=Learning(sink)
    )
    mappings = [np.array([2, 0, 0, 2, 2]), np.array([0, 2, 2, 2, 2])]
    for env, policy_of_train in enumerate(mappings):
        train_settings = TrainSettings(policy_of_train=policy_of_train)
        rollout.start(env, FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], env)), train_settings)
    results = play_out(rollout)
    assert set(sink.all("policy_of_train")) == {0, 2}
    for env, policy_of_train in enumerate(mappings):
        result = results[env]
        assert result.policy_of_train.tolist() == policy_of_train.tolist()
        assert result.train_scores.mean() == pytest.approx(result.score)
        assert result.train_arrived.mean() == result.completion


def test_settings_survive_a_checkpoint() -> None:
    train_settings = TrainSettings(
        np.array([0.1, 0.2]), np.array([1, 0]), np.array([0.9, 0.99]), np.array([True, False]), demonstration=True
    )
    again = TrainSettings.from_state(train_settings.state_dict())
    for name, wanted in vars(train_settings).items():
        found = getattr(again, name)
        np.testing.assert_array_equal(found, wanted)
        assert np.asarray(found).dtype == np.asarray(wanted).dtype


def test_settings_of_earlier_versions() -> None:
    """They had the weights of all rewards, and no demonstrations."""
    names = ("epsilon", "policy_of_train", "n_step", "gamma", "shaping", "arrival_reward", "deadlock_penalty")
    state = {name: torch.tensor([1, 1]) for name in names} | {"team_reward": torch.tensor([0.0, 0.5])}
    found = TrainSettings.from_state(state)
    assert found.demonstration is False
    assert np.asarray(found.in_a_team).tolist() == [False, True]


def test_settings_of_some_trains_are_filled_up() -> None:
    padded = TrainSettings(0.5, np.array([1, 2]), np.array([0.5, 0.75]), demonstration=True).padded(2, 4)
    assert (padded.epsilon, padded.demonstration, padded.in_a_team) == (0.5, True, False)
    for values, wanted in ((padded.policy_of_train, [1, 2, 2, 2]), (padded.gamma, [0.5, 0.75, 0.75, 0.75])):
        assert np.asarray(values).tolist() == wanted
