"""Helpers of the tests: policies that are small, and do nothing but what a test asks for."""

from typing import Any

import torch

from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.dueling_q_network import DuelingQNetwork


def make_policy(
    n_features: int = 6, hidden_size: int = 16, seed: int = 0, index: int = 0, **options: Any
) -> DDDQNPolicy:
    """A policy of a dueling network; extras of the algorithm are off unless they are asked for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * seed + index)
        network = DuelingQNetwork(n_features, hidden_size)
    settings: dict[str, Any] = {
        "learning_rate": 5e-4,
        "tau": 1e-3,
        "advantage_learning": 0.0,
        "averaging_steps": 1,
        "max_grad_norm": 10.0,
        "guide": 0.0,
        "route_features": None,
    }
    return DDDQNPolicy(network, **{**settings, **options}, seed=seed, index=index)
