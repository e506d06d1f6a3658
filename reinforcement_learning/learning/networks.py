"""The network of a policy: the kit's own, or one of the user's that ``--network package.module:callable`` names.

A user's callable gets what the trains observe and the number of actions, and makes a ``torch.nn.Module``::

    class Linear(torch.nn.Module):
        def __init__(self, feature_set: FeatureSet, n_actions: int) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(feature_set.n_features, n_actions)

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            return self.layer(observations)

An attribute ``n_neighbours`` of the callable says how many neighbours of a train it looks at; ``FeatureSet`` tells
where they stand in an observation.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from reinforcement_learning.attention_q_network import AttentionQNetwork
from reinforcement_learning.dueling_q_network import (
    DuelingQNetwork,
    NetworkError,
    action_values,
    network_errors,
    parameters_and_buffers,
    rank_actions,
)
from reinforcement_learning.settings.config import ATTENTION, DUELING, NETWORKS, ConfigError, TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError, extension_errors, find_callable
from utils.observation.feature_sets import FeatureSet
from utils.simulator.rail_grid import N_ACTIONS
from utils.system.seeds import Stream, seed_sequence
from utils.system.users_code import RAISED_BY_USERS_CODE, describe


def network_names(config: TrainingConfig) -> list[str]:
    """The names of the networks: one for all policies, or one for each."""
    return config.network.split(",")


def make_network(config: TrainingConfig, feature_set: FeatureSet, index: int) -> nn.Module:
    """The network of policy ``index`` as it is in the beginning; the caller's random state stays as it is.

    Raises:
        ConfigError: there is no network of that name, or it cannot be made.
    """
    on_board: dict[str, Callable[[FeatureSet, int], nn.Module]] = {
        DUELING: lambda features, _: DuelingQNetwork(features.n_own_features, config.hidden_size),
        ATTENTION: lambda features, _: AttentionQNetwork(features, config.hidden_size),
    }
    names = network_names(config)
    name = names[index] if len(names) > 1 else names[0]
    try:
        make = find_callable(name, "network", on_board)
        with torch.random.fork_rng(devices=[]), extension_errors(f"the network {name!r} cannot be made"):
            torch.manual_seed(int(seed_sequence(config.seed, Stream.NETWORK, index).generate_state(1)[0]))
            return make(feature_set, N_ACTIONS)
    except ExtensionError as error:
        raise ConfigError(f"--network: {error}") from error


def check_networks(config: TrainingConfig, feature_set: FeatureSet) -> None:
    """Tells before training what is wrong with networks of the user's own.

    Raises:
        ConfigError: there is no such network, or it is not what :func:`check_network` asks for.
    """
    names = network_names(config)
    for name in dict.fromkeys(names):
        if name not in NETWORKS:
            network = make_network(config, feature_set, names.index(name))
            check_network(network, name, feature_set)
            another = make_network(replace(config, seed=config.seed + 1), feature_set, names.index(name))
            _check_that_all_is_stored(network, another, name, feature_set)


def check_network(network: Any, name: str, feature_set: FeatureSet) -> None:
    """Whether a policy can play and learn with a network.

    It must be a module with float32 parameters whose values ``[batch, actions]`` of observations ``[batch, features]``
    are finite and have a gradient. The values of an observation must depend on nothing but the parameters: not on the
    other observations of the batch, not on chance and not on earlier calls. Otherwise the target network, the averaged
    one and the processes that play would differ from the one that learns, and no training could be resumed exactly.

    Raises:
        ConfigError: it is something else; the sentence says what.
    """
    if not isinstance(network, nn.Module):
        raise _refused(name, f"is a {type(network).__name__}, but must be a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise _refused(name, "has no parameters to learn: its layers must be attributes, or in an nn.ModuleList")
    if any(nn.parameter.is_lazy(parameter) for parameter in network.parameters()):
        raise _refused(name, "has layers of unknown size (lazy ones), but must give all sizes when it is made")
    for tensor in parameters_and_buffers(network):
        if tensor.dtype != torch.float32:
            raise _refused(name, f"has parameters of type {tensor.dtype}, but all must be torch.float32")
    with torch.random.fork_rng(devices=[]):
        observations = 2.0 * torch.rand(2, feature_set.n_features) - 1.0
        before = copy.deepcopy(list(network.buffers())), torch.random.get_rng_state()
        values = _values(action_values, network, name, observations)
        _values(rank_actions, network, name, observations)
        after = list(network.buffers()), torch.random.get_rng_state()
        if not before[1].equal(after[1]):
            raise _refused(name, "draws random numbers while it computes: set the share of dropout layers to 0")
        if not all(earlier.equal(later) for earlier, later in zip(before[0], after[0], strict=True)):
            raise _refused(name, "changes its buffers while it computes, as batch normalization does: use LayerNorm")
        alone = _values(action_values, network, name, observations[:1])
    if not torch.allclose(alone, values[:1], rtol=1e-3, atol=1e-4):
        raise _refused(name, "mixes the observations of a batch: the first axis is the batch (batch_first=True)")


def _check_that_all_is_stored(network: nn.Module, another: nn.Module, name: str, feature_set: FeatureSet) -> None:
    """Whether ``another`` network, which was made with other random numbers, gives the same with the same state."""
    try:
        another.load_state_dict(network.state_dict())
    except RAISED_BY_USERS_CODE as error:  # whatever a user's code raises
        raise _refused(name, f"cannot take over what another one has learned ({describe(error)})") from error
    observations = torch.linspace(-1.0, 1.0, 2 * feature_set.n_features).reshape(2, -1)
    with torch.no_grad():
        same = torch.allclose(action_values(network, observations), action_values(another, observations), atol=1e-4)
    if not same:
        raise _refused(name, "has layers or numbers that are not stored: make them attributes, or use an nn.ModuleList")


def _values(
    compute: Callable[[nn.Module, Tensor], Tensor], network: nn.Module, name: str, observations: Tensor
) -> Tensor:
    try:
        with network_errors(network, observations):
            copy.deepcopy(network)  # there will be copies of it
        values = compute(network, observations)
        if not values.isfinite().all():
            raise _refused(name, "gives values that are not finite")
        if not values.requires_grad:
            raise _refused(name, "gives values without a gradient, so it could not learn")
        with network_errors(network, observations):
            values.sum().backward()
    except NetworkError as error:
        raise _refused(name, error.what) from error
    return values


def _refused(name: str, what: str) -> ConfigError:
    return ConfigError(f"--network: the network {name!r} {what}.")
