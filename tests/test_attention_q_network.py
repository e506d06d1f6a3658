"""What the attention network looks at, and what it does not."""

import pytest
import torch
from torch import Tensor

from reinforcement_learning.attention_q_network import AttentionQNetwork
from utils.observation.feature_sets import FeatureSet
from utils.observation.neighbours import Relation

FEATURES = FeatureSet("small", 1, max_depth=1, n_neighbours=3)


def make_network(hidden_size: int = 16, features: FeatureSet = FEATURES) -> AttentionQNetwork:
    """A network that has learned something: a new one makes nothing of neighbours."""
    torch.manual_seed(0)
    network = AttentionQNetwork(features, hidden_size)
    for attend in (network.first_round, network.last_round):
        torch.nn.init.normal_(attend.output.weight, std=0.3)
    return network


def make_observations(are_there: list[bool]) -> Tensor:
    """Eight trains; ``are_there`` says which neighbours they have."""
    torch.manual_seed(1)
    observations = torch.randn(8, FEATURES.n_features)
    for relations, own, is_there in zip(FEATURES.relations, FEATURES.neighbours, are_there, strict=True):
        observations[:, relations.start + Relation.THERE] = float(is_there)
        if not is_there:
            observations[:, relations] = observations[:, own] = 0.0
    return observations


@pytest.mark.parametrize("are_there", [[True, True, True], [True, False, False], [False, False, False]])
def test_looks_at_those_that_are_there_only(are_there: list[bool]) -> None:
    network, observations = make_network(), make_observations(are_there)
    values = network(observations)
    assert values.shape == (8, 5)
    for own, is_there in zip(FEATURES.neighbours, are_there, strict=True):
        other = observations.clone()
        other[:, own] += 1.0
        assert (network(other) == values).all(dim=1).tolist() == [not is_there] * 8


def test_goes_by_what_it_sees_of_itself_in_the_beginning_and_learns_otherwise() -> None:
    network, observations = AttentionQNetwork(FEATURES, 16), make_observations([True, True, True])
    other = observations.clone()
    other[:, FEATURES.n_own_features :] += 1.0
    assert network(other).equal(network(observations))
    network(observations).square().sum().backward()
    for attend in (network.first_round, network.last_round):
        assert attend.output.weight.grad is not None
        assert attend.output.weight.grad.any()


def test_order_of_the_neighbours_does_not_matter() -> None:
    network, observations = make_network(), make_observations([True, True, False])
    own, neighbours = observations[:, : FEATURES.n_own_features], observations[:, FEATURES.n_own_features :]
    reversed_order = neighbours.unflatten(1, (3, -1)).flip(1).flatten(1)
    torch.testing.assert_close(network(torch.cat([own, reversed_order], dim=1)), network(observations))


def test_a_value_does_not_depend_on_the_rest_of_the_batch() -> None:
    network, observations = make_network(), make_observations([True, True, False])
    for row, values in zip(observations, network(observations), strict=True):
        torch.testing.assert_close(network(row.unsqueeze(0))[0], values)


def test_advantages_rank_as_the_values_do() -> None:
    network, observations = make_network(), make_observations([True, True, True])
    assert network.advantages(observations).argsort(dim=1).equal(network(observations).argsort(dim=1))


def test_prefers_going_to_waiting_at_first() -> None:
    values = make_network(128)(torch.zeros(1, FEATURES.n_features))[0]
    assert values[1:4].mean() > values[[0, 4]].max()


@pytest.mark.parametrize("hidden_size", [1, 7, 128])
@pytest.mark.parametrize("n_neighbours", [0, 1, 8])
def test_any_width_and_any_number_of_neighbours(hidden_size: int, n_neighbours: int) -> None:
    features = FeatureSet("small", 1, max_depth=1, n_neighbours=n_neighbours)
    assert make_network(hidden_size, features)(torch.rand(2, features.n_features)).isfinite().all()
