"""The network and the update of its target."""

import copy

import pytest
import torch

from reinforcement_learning.dueling_q_network import DuelingQNetwork, clip_gradients, polyak_update


def make_network(seed: int = 0) -> DuelingQNetwork:
    torch.manual_seed(seed)
    return DuelingQNetwork(n_features=7, hidden_size=8)


def test_a_value_does_not_depend_on_the_rest_of_the_batch() -> None:
    network, observations = make_network(), torch.randn(20, 7)
    together = network(observations)
    assert together.shape == (20, 5)
    for i in range(20):
        torch.testing.assert_close(network(observations[i : i + 1])[0], together[i])


def test_mean_of_the_action_values_is_the_state_value() -> None:
    network, observations = make_network(), torch.randn(20, 7)
    torch.testing.assert_close(
        network(observations).mean(dim=1, keepdim=True), network.value(network.trunk(observations))
    )


def test_advantages_rank_as_the_values_do() -> None:
    network, observations = make_network(), torch.randn(50, 7)
    assert network.advantages(observations).argsort(dim=1).equal(network(observations).argsort(dim=1))


def test_polyak_update_is_exact_and_touches_the_target_only() -> None:
    network, target = make_network(1), make_network(2)
    before, source = copy.deepcopy(target), copy.deepcopy(network)
    polyak_update(tuple(network.parameters()), tuple(target.parameters()), tau=0.25)
    parameters = zip(target.parameters(), before.parameters(), network.parameters(), source.parameters(), strict=True)
    for new, old, online, online_before in parameters:
        torch.testing.assert_close(new, 0.75 * old + 0.25 * online)
        assert online.equal(online_before)
        assert not new.equal(old)


def test_polyak_update_with_tau_1_copies() -> None:
    network, target = make_network(1), make_network(2)
    polyak_update(tuple(network.parameters()), tuple(target.parameters()), tau=1.0)
    assert all(a.equal(b) for a, b in zip(network.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize("max_norm", [0.01, 1e6])
def test_gradients_are_clipped_as_pytorch_does(max_norm: float) -> None:
    ours, theirs = make_network(1), make_network(1)
    for network in (ours, theirs):
        network(torch.linspace(-1.0, 1.0, 70).reshape(10, 7)).square().sum().backward()
        next(network.parameters()).grad = None  # one that has had no part in it
    clip_gradients(tuple(ours.parameters()), max_norm)
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert pairs[0][0].grad is None
    for own, wanted in pairs[1:]:
        torch.testing.assert_close(own.grad, wanted.grad)
