"""Frozen older copies of policies: who is replaced, how many are kept, and that they never change."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.multi_policy.past_selves import COPIES_KEPT, PastSelves
from tests.helpers.policies import make_policy

N_FEATURES = 3
OBSERVATIONS = np.random.default_rng(0).random((50, N_FEATURES), dtype=np.float32)
ALL = np.ones((50, 5), dtype=bool)


def make_policies(n: int) -> list[DDDQNPolicy]:
    return [make_policy(N_FEATURES, 8, index=p) for p in range(n)]


def change(policy: DDDQNPolicy, seed: int) -> None:
    """Gives the weights that are evaluated other values."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weights in policy.average_network.parameters():
            weights.copy_(torch.randn_like(weights))


def played(policy) -> list[int]:
    return policy.act(OBSERVATIONS, ALL).tolist()


@given(n_policies=st.integers(1, 3), n_taken=st.integers(0, 6), episode=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_train_is_driven_by_its_policy_or_a_copy_of_it(n_policies, n_taken, episode):
    past = PastSelves(0.5, 10, seed=1)
    policies = make_policies(n_policies)
    for _ in range(n_taken):
        past.take(policies)
    policy_of_train = np.arange(60) % n_policies
    found = past.replace_some(episode, policy_of_train, n_policies)
    assert (found % n_policies == policy_of_train).all()
    assert found.max() < n_policies * (1 + min(n_taken, COPIES_KEPT))
    assert len(past.policies) == n_policies * min(n_taken, COPIES_KEPT)
    assert (found == past.replace_some(episode, policy_of_train, n_policies)).all()
    assert (found != policy_of_train).any() == (n_taken > 0)


def test_share_of_replaced_trains_is_the_probability_and_all_copies_get_their_turn():
    past = PastSelves(0.3, 10, seed=0)
    for _ in range(COPIES_KEPT):
        past.take(make_policies(2))
    policy_of_train = np.arange(20) % 2
    found = np.concatenate([past.replace_some(episode, policy_of_train, 2) for episode in range(500)])
    assert np.mean(found >= 2) == pytest.approx(0.3, abs=0.02)
    counts = np.bincount(found[found >= 2], minlength=2 * (1 + COPIES_KEPT))[2:]
    assert counts.min() > 0.8 * counts.mean()


def test_never_without_a_probability():
    past = PastSelves(0.0, 10, seed=0)
    past.take(make_policies(1))
    assert not past.is_due(1000)
    assert past.replace_some(7, np.zeros(50, dtype=np.int64), 1).tolist() == [0] * 50


def test_due_once_for_each_interval_even_if_its_end_is_passed():
    past = PastSelves(0.2, 10, seed=0)
    due = []
    for episode in (1, 9, 10, 11, 19, 23, 24, 30):
        due.append(past.is_due(episode))
        if due[-1]:
            past.take(make_policies(1))
    assert due == [False, False, True, False, False, True, False, True]


def test_copies_stay_as_they_were_taken_and_the_oldest_gives_way():
    past, (policy,) = PastSelves(0.2, 10, seed=0), make_policies(1)
    selves = []
    for seed in range(COPIES_KEPT + 1):
        change(policy, seed)
        selves.append(played(policy.evaluation_policy()))
        past.take([policy])
    assert len({tuple(actions) for actions in selves}) == len(selves)
    assert [played(copy) for copy in past.policies] == [selves[COPIES_KEPT], *selves[1:COPIES_KEPT]]


def test_state_brings_back_the_copies_and_when_the_next_is_due():
    past, policies = PastSelves(0.4, 10, seed=0), make_policies(2)
    for seed in range(2):
        for p, policy in enumerate(policies):
            change(policy, 10 * seed + p)
        past.take(policies)
    restored = PastSelves(0.4, 10, seed=0)
    restored.take(make_policies(2))  # is forgotten
    restored.load_state_dict(past.state_dict(), make_policies(2))
    assert [played(copy) for copy in restored.policies] == [played(copy) for copy in past.policies]
    assert (restored.is_due(29), restored.is_due(30)) == (past.is_due(29), past.is_due(30)) == (False, True)
    for each in (past, restored):
        each.take(policies)
    assert [played(copy) for copy in restored.policies] == [played(copy) for copy in past.policies]
