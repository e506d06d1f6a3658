"""Frozen older copies of the policies, which drive a train now and then: partners that nobody learns from.

A policy that only ever plays with its newest self may forget how to play with others.
"""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from reinforcement_learning.dddqn_policy import DDDQNPolicy, GreedyPolicy
from reinforcement_learning.dueling_q_network import weights_of
from reinforcement_learning.multi_policy.mapping import PolicyOfTrain
from utils.system.seeds import Stream, generator

COPIES_KEPT = 4  # of each policy, the newest


class PastSelves:
    """The copies. They are policies whose numbers follow those of the policies that learn.

    Copy c of policy p has the number ``(1 + c) * n_policies + p``. The oldest gives way to a new one; a train that it
    is driving at that moment goes on with the new one.

    Args:
        probability: share of the trains that older copies drive.
        snapshot_every: finished episodes from one copy to the next.

    Attributes:
        n_taken: how many times copies were taken.
        policies: the copies that there are.
    """

    def __init__(self, probability: float, snapshot_every: int, seed: int) -> None:
        self._probability, self._snapshot_every, self._seed = probability, snapshot_every, seed
        self.n_taken = 0
        self.policies: list[GreedyPolicy] = []

    def replace_some(self, episode: int, policy_of_train: PolicyOfTrain, n_policies: int) -> PolicyOfTrain:
        """Puts an older copy of its policy in the place of some policies of a training episode."""
        n_copies = len(self.policies) // n_policies
        if self._probability == 0.0 or n_copies == 0:
            return policy_of_train
        random = generator(self._seed, Stream.PAST_SELVES, episode)
        replaced = random.random(len(policy_of_train)) < self._probability
        copies = random.integers(n_copies, size=len(policy_of_train))
        return np.where(replaced, (1 + copies) * n_policies + policy_of_train, policy_of_train)

    def is_due(self, episode: int) -> bool:
        """Whether copies are to be taken after so many finished episodes."""
        return self._probability > 0.0 and episode // self._snapshot_every > self.n_taken

    def take(self, policies: list[DDDQNPolicy]) -> None:
        """Copies what the policies would play in an evaluation."""
        copies = [_frozen(policy.average_network) for policy in policies]
        first = self.n_taken % COPIES_KEPT * len(policies)
        self.policies[first : first + len(policies)] = copies
        self.n_taken += 1

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """The weights of each copy in one array, for processes that play."""
        return [weights_of(policy.network).numpy() for policy in self.policies]

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"n_taken": self.n_taken, "networks": [policy.network.state_dict() for policy in self.policies]}

    def load_state_dict(self, state: dict[str, Any], policies: list[DDDQNPolicy]) -> None:
        """Takes over a state."""
        self.n_taken = state["n_taken"]
        self.policies.clear()
        for i, weights in enumerate(state["networks"]):
            past_self = _frozen(policies[i % len(policies)].average_network)
            past_self.network.load_state_dict(weights)
            self.policies.append(past_self)


def _frozen(network: nn.Module) -> GreedyPolicy:
    """Plays with a copy of a network, on the CPU as all that play in this process."""
    return GreedyPolicy(copy.deepcopy(network).cpu(), torch.device("cpu"))
