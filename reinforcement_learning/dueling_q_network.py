"""The network: a dueling architecture (Wang et al. 2016, https://arxiv.org/abs/1511.06581)."""

import torch
from torch import Tensor, nn

from utils.simulator.rail_grid import N_ACTIONS


class DuelingQNetwork(nn.Module):
    """Two hidden layers, then one stream for the state's value and one for the advantages of the actions."""

    def __init__(self, n_features: int, hidden_size: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(n_features, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
        )
        self.value = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))
        self.advantage = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, N_ACTIONS)
        )

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


@torch.no_grad()
def polyak_update(network: nn.Module, target: nn.Module, tau: float) -> None:
    """``target = (1 - tau) * target + tau * network`` for every parameter, in one fused call."""
    torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), tau)
