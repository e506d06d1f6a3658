"""The network: a dueling architecture (Wang et al. 2016, https://arxiv.org/abs/1511.06581)."""

from typing import Any

import torch
from torch import Tensor, nn

from utils.simulator.rail_grid import DO_NOTHING, N_ACTIONS, STOP_MOVING


class DuelingQNetwork(nn.Module):
    """Two hidden layers, then one stream for the state's value and one for the advantages of the actions.

    Args:
        n_features: size of an observation.
        hidden_size: width of the hidden layers.
        reluctance_to_wait: by what a new network values waiting less than going, in units of the reward for an
            arrival. Without it two trainings in three begin with trains that wait, which advantage learning makes
            firm: none departs for hundreds of episodes.
    """

    def __init__(self, n_features: int, hidden_size: int, reluctance_to_wait: float = 0.3) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(n_features, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
        )
        self.value = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))
        hidden, last = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, N_ACTIONS)
        self.advantage = nn.Sequential(hidden, nn.ReLU(), last)
        with torch.no_grad():
            last.bias[[DO_NOTHING, STOP_MOVING]] -= reluctance_to_wait

    def forward(self, observations: Tensor) -> Tensor:
        """Action values ``[batch, actions]`` of observations ``[batch, features]``.

        The mean of the advantages is taken per sample: over the whole batch, one train's value would depend on
        which other trains happen to be in it.
        """
        hidden = self.trunk(observations)
        advantages = self.advantage(hidden)
        return self.value(hidden) + advantages - advantages.mean(dim=1, keepdim=True)

    def advantages(self, observations: Tensor) -> Tensor:
        """Advantages ``[batch, actions]`` alone: enough to rank actions, at two thirds of the work."""
        return self.advantage(self.trunk(observations))


def rank_actions(network: nn.Module, observations: Tensor) -> Tensor:
    """Numbers ``[batch, actions]`` that rank the actions as their values do.

    Advantages where the network has a method ``advantages``, which is less work; else the action values themselves.
    """
    # a layer of that name is no method
    compute: Any = network.advantages if hasattr(type(network), "advantages") else network
    ranks: Tensor = compute(observations)
    return ranks


def parameters_and_buffers(network: nn.Module) -> list[Tensor]:
    """All numbers that the answers of a network depend on; buffers of other types than floats are constants."""
    return [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]


@torch.no_grad()
def polyak_update(network: nn.Module, target: nn.Module, tau: float) -> None:
    """``target = (1 - tau) * target + tau * network`` for every parameter, in one fused call.

    Buffers stay as they are: no forward pass may change them, see ``check_network``.
    """
    torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), tau)
