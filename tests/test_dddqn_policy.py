"""Dueling double DQN: targets computed by hand, actions within the mask, complete state, and learning."""

import copy
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn.functional import smooth_l1_loss

from reinforcement_learning.dddqn_policy import Batch, DDDQNPolicy, random_possible_actions
from reinforcement_learning.dueling_q_network import DuelingQNetwork
from tests.helpers.policies import make_policy
from utils.simulator.rail_grid import N_ACTIONS
from utils.system.files import PROJECT_ROOT

N_FEATURES = 6


def make_batch(seed: int, size: int = 32) -> Batch:
    random = torch.Generator().manual_seed(seed)
    return Batch(
        observations=torch.randn(size, N_FEATURES, generator=random),
        action_masks=torch.ones(size, 5, dtype=torch.bool),
        actions=torch.randint(5, (size,), generator=random),
        rewards=torch.randn(size, generator=random),
        discounts=torch.rand(size, generator=random),
        next_observations=torch.randn(size, N_FEATURES, generator=random),
        next_action_masks=torch.ones(size, 5, dtype=torch.bool),
        shown=torch.full((size,), -1),
    )


def weights(policy: DDDQNPolicy) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in policy.q_network.parameters()]


def always(network: DuelingQNetwork, value: float, advantages: list[float]) -> None:
    """Makes a network answer ``value`` and ``advantages`` to every observation."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.value[-1].bias.fill_(value)
        network.advantage[-1].bias.copy_(torch.tensor(advantages))


class TestTdTarget:
    @pytest.fixture
    def policy(self) -> DDDQNPolicy:
        policy = make_policy()
        # the online network likes action 4 best, then 1; the target network has another opinion of all of them
        always(policy.q_network, 0.0, [0.0, 3.0, 1.0, 2.0, 4.0])
        always(policy.target_network, 10.0, [1.0, 2.0, 3.0, 4.0, -10.0])  # mean 0: values 11, 12, 13, 14, 0
        return policy

    def batch(self, masks: list[list[bool]], rewards: list[float], discounts: list[float]) -> Batch:
        n = len(masks)
        zeros = torch.zeros(n, N_FEATURES)
        return Batch(
            zeros,
            torch.ones(n, 5, dtype=torch.bool),
            torch.zeros(n, dtype=torch.int64),
            torch.tensor(rewards),
            torch.tensor(discounts),
            zeros,
            torch.tensor(masks),
            torch.zeros(n, dtype=torch.bool),
        )

    def test_by_hand(self, policy: DDDQNPolicy) -> None:
        masks = [
            [True, True, True, True, True],  # online best: 4, worth 0
            [True, True, True, True, False],  # online best that is possible: 1, worth 12
            [True, False, False, False, False],  # only 0, worth 11
            [True, True, True, True, True],  # nothing follows
        ]
        targets = policy.td_target(self.batch(masks, [1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 0.25, 0.0]))
        assert targets.tolist() == pytest.approx([1.0, 2.0 + 6.0, 3.0 + 2.75, 4.0])

    def test_advantage_learning_lowers_the_targets_of_actions_that_are_not_the_best_possible(
        self, policy: DDDQNPolicy
    ) -> None:
        policy.advantage_learning = 0.5
        everything = torch.ones(3, 5, dtype=torch.bool)
        batch = Batch(
            torch.zeros(3, N_FEATURES),
            torch.tensor([[True] * 5, [True] * 5, [True, True, False, False, True]]),
            torch.tensor([0, 3, 0]),
            torch.zeros(3),
            torch.zeros(3),
            torch.zeros(3, N_FEATURES),
            everything,
            torch.zeros(3, dtype=torch.bool),
        )
        # the target network's values are 11, 12, 13, 14, 0: gaps to the best possible one are 3, 0 and 1
        assert policy.td_target(batch).tolist() == pytest.approx([-1.5, 0.0, -0.5])

    def test_no_gradient_flows_into_the_target(self, policy: DDDQNPolicy) -> None:
        batch = make_batch(0)
        assert not policy.td_target(batch).requires_grad
        target_before = copy.deepcopy(policy.target_network.state_dict())
        policy.tau = 0.0
        policy.learn(batch)
        assert all(parameter.grad is None for parameter in policy.target_network.parameters())
        assert all(target_before[name].equal(now) for name, now in policy.target_network.state_dict().items())


class TestLearn:
    def test_loss_is_huber_of_the_action_taken(self) -> None:
        policy, batch = make_policy(), make_batch(1)
        batch.rewards.mul_(10)  # some errors in the linear part
        q_taken = policy.q_network(batch.observations)[torch.arange(32), batch.actions]
        wanted = smooth_l1_loss(q_taken, policy.td_target(batch)).item()
        assert policy.learn(batch).item() == pytest.approx(wanted)

    def test_gradient_is_clipped_to_its_norm(self) -> None:
        policy, batch = make_policy(max_grad_norm=1e-3), make_batch(1)
        policy.learn(batch)
        norm = torch.cat([p.grad.flatten() for p in policy.q_network.parameters() if p.grad is not None]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-2)

    def test_target_network_follows_by_tau(self) -> None:
        policy = make_policy(tau=0.1)
        before = copy.deepcopy(policy.target_network)
        policy.learn(make_batch(1))
        triples = zip(
            before.parameters(), policy.q_network.parameters(), policy.target_network.parameters(), strict=True
        )
        for old, online, new in triples:
            torch.testing.assert_close(new, 0.9 * old + 0.1 * online)

    @pytest.mark.parametrize(
        ("averaging_steps", "weights_of_steps"), [(1, [0, 0, 1]), (2, [0.25, 0.25, 0.5]), (9, [1 / 3] * 3)]
    )
    def test_average_network_is_a_mean_over_the_last_steps(
        self, averaging_steps: int, weights_of_steps: list[float]
    ) -> None:
        policy = make_policy(averaging_steps=averaging_steps)
        history = []
        for k in range(3):
            policy.learn(make_batch(k))
            history.append(weights(policy))
        for i, averaged in enumerate(policy.average_network.parameters()):
            wanted = sum(share * step[i] for share, step in zip(weights_of_steps, history, strict=True))
            torch.testing.assert_close(averaged, wanted)

    def test_loss_is_detached(self) -> None:
        assert not make_policy().learn(make_batch(1)).requires_grad


masks_with_a_choice = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.just(5))).map(
    lambda mask: mask | (~mask.any(axis=1, keepdims=True) & (np.arange(5) == 3))
)


class TestAct:
    @given(mask=masks_with_a_choice, epsilon=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 1000))
    @settings(max_examples=60, deadline=None)
    def test_actions_are_possible(self, mask: np.ndarray, epsilon: float, seed: int) -> None:
        observations = np.random.default_rng(seed).normal(size=(len(mask), N_FEATURES)).astype(np.float32)
        actions = make_policy(seed=seed).act(observations, mask, epsilon)
        assert actions.shape == (len(mask),)
        assert actions.dtype == np.int64
        assert mask[np.arange(len(mask)), actions].all()

    def test_greedy_takes_the_best_possible(self) -> None:
        policy = make_policy()
        always(policy.q_network, 0.0, [5.0, 4.0, 3.0, 2.0, 1.0])
        mask = np.array([[True] * 5, [False, False, True, True, True], [False, False, False, False, True]])
        assert policy.act(np.zeros((3, N_FEATURES), np.float32), mask).tolist() == [0, 2, 4]

    @pytest.mark.parametrize(("epsilon", "batches"), [(0.0, [40]), (1.0, [])])
    def test_one_forward_pass_for_all_and_none_where_all_explore(
        self, monkeypatch: pytest.MonkeyPatch, epsilon: float, batches: list[int]
    ) -> None:
        assert self.forward_passes(monkeypatch, epsilon) == batches

    def test_the_network_sees_only_those_that_do_not_explore(self, monkeypatch: pytest.MonkeyPatch) -> None:
        (batch,) = self.forward_passes(monkeypatch, 0.5)
        assert 5 < batch < 35

    def forward_passes(self, monkeypatch: pytest.MonkeyPatch, epsilon: float) -> list[int]:
        """Sizes of the batches that the network is asked about while 40 trains act once."""
        batches = []
        for name in ("forward", "advantages"):
            original = getattr(DuelingQNetwork, name)

            def counted(network: DuelingQNetwork, observations: torch.Tensor, original: Any = original) -> Any:
                batches.append(len(observations))
                return original(network, observations)

            monkeypatch.setattr(DuelingQNetwork, name, counted)
        make_policy().act(np.zeros((40, N_FEATURES), np.float32), np.ones((40, 5), bool), epsilon)
        return batches

    def test_each_train_has_its_own_epsilon(self) -> None:
        n = 4000
        policy = make_policy()
        always(policy.q_network, 0.0, [0.0, 3.0, 1.0, 2.0, 4.0])
        epsilon = np.tile([0.0, 1.0, 0.25, 0.0], n // 4)
        actions = policy.act(np.zeros((n, N_FEATURES), np.float32), np.ones((n, 5), bool), epsilon)
        assert (actions[epsilon == 0.0] == 4).all()
        shares = np.bincount(actions[epsilon == 1.0], minlength=5) / (n // 4)
        assert shares == pytest.approx([0.2] * 5, abs=0.05)
        assert (actions[epsilon == 0.25] == 4).mean() == pytest.approx(0.75 + 0.25 / 5, abs=0.05)

    @pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
    def test_one_number_is_as_good_as_an_array_of_it(self, epsilon: float) -> None:
        batch = np.random.default_rng(0).random((40, N_FEATURES)).astype(np.float32), np.ones((40, 5), bool)
        first, second = make_policy(seed=3), make_policy(seed=3)
        assert first.act(*batch, epsilon).tolist() == second.act(*batch, np.full(40, epsilon)).tolist()
        assert first.exploration.bit_generator.state == second.exploration.bit_generator.state

    def test_share_of_exploring_trains_is_epsilon(self) -> None:
        policy, n = make_policy(), 5000
        always(policy.q_network, 0.0, [1.0, 0.0, 0.0, 0.0, 0.0])
        actions = policy.act(np.zeros((n, N_FEATURES), np.float32), np.ones((n, 5), bool), epsilon=0.5)
        assert np.mean(actions == 0) == pytest.approx(0.5 + 0.5 / 5, abs=0.03)


class TestGuide:
    """Of twelve route features the second, sixth and tenth are the detours to the left, forward and to the right."""

    OBSERVATIONS = np.zeros((400, 12), dtype=np.float32)
    OBSERVATIONS[:, [1, 5, 9]] = 0.5, 0.2, 0.1
    MASK = np.tile([False, True, True, False, True], (400, 1))

    def chosen(self, guide: float) -> np.ndarray:
        policy = make_policy(12, guide=guide, route_features=slice(0, 12))
        return np.bincount(policy.act(self.OBSERVATIONS, self.MASK, epsilon=1.0), minlength=5)

    def test_explores_the_possible_way_with_the_least_detour(self) -> None:
        assert self.chosen(1.0).tolist() == [0, 0, 400, 0, 0]  # to the right would be shorter, but is not possible

    def test_leaves_the_other_share_to_chance(self) -> None:
        assert self.chosen(0.7)[[1, 2, 4]] == pytest.approx([40, 320, 40], abs=25)
        assert self.chosen(0.0)[[1, 2, 4]] == pytest.approx([133, 133, 133], abs=35)

    def test_needs_route_features(self) -> None:
        mask = np.ones((400, 5), dtype=bool)
        actions = make_policy(guide=1.0).act(np.zeros((400, N_FEATURES), dtype=np.float32), mask, epsilon=1.0)
        assert (np.bincount(actions, minlength=5) > 40).all()


def test_new_networks_would_rather_go_than_wait() -> None:
    """Without that, waiting would be the best in two of five."""
    observations = np.random.default_rng(0).normal(size=(50, N_FEATURES)).astype(np.float32)
    mask = np.ones((50, 5), dtype=bool)
    waiting = [np.isin(make_policy(seed=seed).act(observations, mask), [0, 4]).mean() for seed in range(20)]
    assert np.mean(waiting) < 0.1


def test_evaluation_policy_plays_the_average_and_never_explores() -> None:
    policy = make_policy()
    always(policy.q_network, 0.0, [0.0, 1.0, 0.0, 0.0, 0.0])
    always(policy.average_network, 0.0, [0.0, 0.0, 0.0, 2.0, 1.0])
    mask = np.array([[True] * 5, [True, True, True, False, True]])
    evaluation, state = policy.evaluation_policy(), policy.exploration.bit_generator.state
    assert evaluation.act(np.zeros((2, N_FEATURES), np.float32), mask, 1.0).tolist() == [3, 4]
    assert policy.exploration.bit_generator.state == state
    always(policy.average_network, 0.0, [9.0, 0.0, 0.0, 0.0, 0.0])
    assert evaluation.act(np.zeros((2, N_FEATURES), np.float32), mask).tolist() == [0, 0]


def test_random_actions_are_equally_likely_among_the_possible() -> None:
    mask = np.tile([True, False, True, False, True], (6000, 1))
    counts = np.bincount(random_possible_actions(mask, np.random.default_rng(0)), minlength=5)
    assert counts[[1, 3]].tolist() == [0, 0]
    assert counts[[0, 2, 4]] / 6000 == pytest.approx([1 / 3] * 3, abs=0.03)


class TestState:
    def test_goes_on_alike_after_a_round_trip(self) -> None:
        original = make_policy(seed=1)
        for k in range(5):
            original.learn(make_batch(k))
        state = copy.deepcopy(original.state_dict())
        restored = make_policy(seed=2)
        restored.load_state_dict(state)
        observations, mask = np.ones((30, N_FEATURES), np.float32), np.ones((30, 5), bool)
        for k in range(5, 8):
            assert original.learn(make_batch(k)).equal(restored.learn(make_batch(k)))
            assert original.act(observations, mask, 0.5).tolist() == restored.act(observations, mask, 0.5).tolist()
        assert_same(original.state_dict(), restored.state_dict())

    def test_every_part_that_changes_is_in_the_state(self) -> None:
        policy = make_policy()
        before = copy.deepcopy(policy.state_dict())
        policy.learn(make_batch(0))
        policy.act(np.ones((3, N_FEATURES), np.float32), np.ones((3, 5), bool), 0.5)
        after = policy.state_dict()
        assert {"q_network", "target_network", "average_network", "optimizer", "exploration"} <= set(before)
        for part in before:
            with pytest.raises(AssertionError):
                assert_same(before[part], after[part])

    def test_learning_rate_is_the_one_given_now(self) -> None:
        restored = make_policy(learning_rate=0.25)
        restored.load_state_dict(make_policy(learning_rate=0.125).state_dict())
        assert restored.optimizer.lr == 0.25

    def test_equal_seeds_are_equal_and_different_ones_differ(self) -> None:
        first, same, other = make_policy(seed=1), make_policy(seed=1), make_policy(seed=2)
        mask = np.ones((20, 5), bool)
        actions = [p.act(np.zeros((20, N_FEATURES), np.float32), mask, 1.0).tolist() for p in (first, same, other)]
        assert_same(weights(first), weights(same))
        assert actions[0] == actions[1] != actions[2]
        assert not any(a.equal(b) for a, b in zip(weights(first), weights(other), strict=True) if a.ndim == 2)

    def test_other_sizes_are_refused(self) -> None:
        with pytest.raises(RuntimeError, match="size mismatch"):
            make_policy().load_state_dict(make_policy(N_FEATURES + 1).state_dict())


def assert_same(first: Any, second: Any) -> None:
    """Equal to the bit, through dictionaries and lists."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    elif isinstance(first, torch.Tensor):
        assert first.equal(second)
    else:
        assert first == second


def test_learns_a_corridor() -> None:
    """Six places in a row: action 3 leads on, 1 leads back; only the last place pays. 1,000 learning steps."""
    torch.manual_seed(0)
    policy, random = make_policy(6, 32, learning_rate=3e-3, tau=0.02), np.random.default_rng(0)
    places = torch.eye(6)
    possible = torch.tensor([[False, True, False, True, False]] * 6)
    for _ in range(1000):
        at, forward = random.integers(0, 5, 64), random.random(64) < 0.5
        to = np.where(forward, at + 1, np.maximum(at - 1, 0))
        arrived = torch.from_numpy(to == 5)
        policy.learn(
            Batch(
                observations=places[at],
                action_masks=possible[0].expand(64, 5),
                actions=torch.from_numpy(np.where(forward, 3, 1)),
                rewards=arrived.float(),
                discounts=0.9 * (~arrived).float(),
                next_observations=places[to],
                next_action_masks=possible[0].expand(64, 5),
                shown=torch.full((64,), -1),
            )
        )
    assert policy.act(places[:5].numpy(), possible[:5].numpy()).tolist() == [3] * 5
    with torch.no_grad():
        learned = policy.q_network(places[:5])[:, 3]
    assert learned.tolist() == pytest.approx([0.9**4, 0.9**3, 0.9**2, 0.9, 1.0], abs=0.1)


def test_number_of_actions_is_flatlands() -> None:
    from flatland.envs.rail_env_action import RailEnvActions

    assert len(RailEnvActions) == N_ACTIONS


def test_nothing_waits_for_pytorch_s_compiler() -> None:
    """Its import takes more than a second."""
    script = """
import sys
import numpy as np
from tests.test_dddqn_policy import N_FEATURES, make_batch, make_policy

policy = make_policy()
policy.act(np.zeros((3, N_FEATURES), np.float32), np.ones((3, 5), bool), 0.5)
policy.set_acting_weights(policy.acting_weights())
policy.learn(make_batch(0))
policy.load_state_dict(policy.state_dict())
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_acting_weights_are_all_that_acting_depends_on() -> None:
    first, second = make_policy(7, 8, seed=2), make_policy(7, 8, seed=3)
    random = np.random.default_rng(0)
    observations, masks = random.random((50, 7), dtype=np.float32), np.ones((50, 5), dtype=bool)
    wanted = first.act(observations, masks)
    assert (second.act(observations, masks) != wanted).any()
    second.set_acting_weights(first.acting_weights())
    np.testing.assert_array_equal(second.act(observations, masks), wanted)


class TestMarginLoss:
    def loss(self, shown: list[int], masks: torch.Tensor, margin: float = 0.8) -> float:
        """What demonstrations add to the loss where the values of the actions are 0, 3, 1, 2 and 4."""
        losses = []
        for weight in (margin, 0.0):
            policy = make_policy(N_FEATURES, margin=weight)
            always(policy.q_network, 2.0, [-2.0, 1.0, -1.0, 0.0, 2.0])
            n = len(shown)
            zeros = torch.zeros(n, N_FEATURES)
            batch = Batch(
                zeros,
                masks,
                torch.arange(n) % 5,  # whatever was taken
                torch.zeros(n),
                torch.zeros(n),
                zeros,
                torch.ones(n, 5, dtype=torch.bool),
                torch.tensor(shown),
            )
            losses.append(policy.learn(batch).item())
        return losses[0] - losses[1]

    def test_by_hand(self) -> None:
        everything = torch.ones(4, 5, dtype=torch.bool)
        # the best one lacks nothing where it is ahead by the margin; others lack the margin and what they are behind
        assert self.loss([4, 1, 0, 3], everything) == pytest.approx((0.0 + 1.8 + 4.8 + 2.8) / 4)

    def test_only_shown_ones_among_possible_actions_count(self) -> None:
        masks = torch.tensor([[True] * 5, [True, True, False, True, False]])
        assert self.loss([-1, 3], masks) == pytest.approx(1.8 / 2)

    def test_the_best_one_is_not_far_enough_ahead(self) -> None:
        assert self.loss([4], torch.ones(1, 5, dtype=torch.bool), margin=1.5) == pytest.approx(0.5)

    def test_a_pupil_learns_what_is_shown(self) -> None:
        """Nothing is ever rewarded: only the margin tells what to do."""
        policy, random = make_policy(6, 32, learning_rate=3e-3, margin=0.8), np.random.default_rng(0)
        places, shown = torch.eye(6), torch.tensor([1, 3, 2, 4, 0, 1])
        for _ in range(150):
            at = random.integers(0, 6, 32)
            policy.learn(
                Batch(
                    places[at],
                    torch.ones(32, 5, dtype=torch.bool),
                    torch.from_numpy(random.integers(0, 5, 32)),  # its own, whatever that is
                    torch.zeros(32),
                    torch.zeros(32),
                    places[at],
                    torch.ones(32, 5, dtype=torch.bool),
                    shown[at],
                )
            )
        assert policy.act(places.numpy(), np.ones((6, 5), dtype=bool)).tolist() == shown.tolist()
