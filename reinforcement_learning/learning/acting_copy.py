"""What a policy plays with whose learning is on a GPU: a copy of its network on the CPU, some learning steps old.

Trains that play are too few at a time for a GPU to be faster, and to ask it for actions would mean to wait for all
learning steps that it has still to do.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reinforcement_learning.dddqn_policy import DDDQNPolicy, GreedyPolicy
from reinforcement_learning.dueling_q_network import set_weights, weights_of
from reinforcement_learning.playing.policy import ActionMasks, Actions, Epsilon, Observations


@dataclass(frozen=True)
class _Copy:
    """Weights on their way to the CPU, or there."""

    learning_steps: int  # after which they were like this
    weights: Tensor  # float32 [parameters], on the CPU
    arrived: torch.cuda.Event | None = None  # None: they are there

    def wait(self) -> Tensor:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.weights

    def state_dict(self) -> dict[str, Any]:
        return {"learning_steps": self.learning_steps, "weights": self.wait()}


class ActingCopy:
    """Plays greedily with the copy.

    At each :meth:`renew` the weights of now are sent, and those of the call before become due, which have arrived
    meanwhile. So learning and playing go on side by side, and which weights are played with does not depend on who is
    faster. Only playing waits, and only for weights that are due.

    Args:
        policy: acts with the copy from now on.
    """

    _in_use: _Copy
    _due: _Copy | None
    _on_the_way: _Copy | None

    def __init__(self, policy: DDDQNPolicy) -> None:
        self._policy = policy
        self._network = copy.deepcopy(policy.q_network).cpu().requires_grad_(False)
        self._greedy = GreedyPolicy(self._network, torch.device("cpu"))
        self._stream = torch.cuda.Stream(policy.device) if policy.device.type == "cuda" else None
        self.begin_again()
        policy.act_by(self)

    def act(self, observations: Observations, action_mask: ActionMasks, epsilon: Epsilon = 0.0) -> Actions:
        """The best possible actions ``[batch]``, see :class:`~.dddqn_policy.GreedyPolicy`."""
        self._take_what_is_due()
        return self._greedy.act(observations, action_mask, epsilon)

    @property
    def newest(self) -> tuple[int, npt.NDArray[np.float32]]:
        """Learning steps, and the weights of that moment that are acted with; the same object until the next ones."""
        self._take_what_is_due()
        return self._newest

    def begin_again(self) -> None:
        """Acts with the weights of now."""
        self._due = self._send()
        self._on_the_way = None

    def renew(self) -> None:
        """Acts from now on with the weights that were sent at the last call, and sends those of now; never waits."""
        self._due = self._on_the_way or self._due
        self._on_the_way = self._send()

    def state_dict(self) -> list[dict[str, Any]]:
        """The weights that are acted with, and those that come next."""
        self._take_what_is_due()
        return [each.state_dict() for each in (self._in_use, self._on_the_way) if each is not None]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> None:
        """Goes on with what :meth:`state_dict` gave; where that is nothing, with the weights of now.

        Raises:
            ValueError: it is of another network.
        """
        self.begin_again()
        copies = [_Copy(each["learning_steps"], each["weights"]) for each in state]
        if any(each.weights.shape != self.newest[1].shape for each in copies):
            raise ValueError("The weights to act with are of another network.")
        if copies:
            self._due = copies[0]
            self._on_the_way = copies[1] if len(copies) > 1 else None

    def _take_what_is_due(self) -> None:
        if self._due is not None:
            set_weights(self._network, self._due.wait())
            self._in_use = self._due
            self._newest = self._due.learning_steps, self._due.weights.numpy()
            self._due = None

    def _send(self) -> _Copy:
        """Nobody waits: the weights of now are put together between two learning steps, and go while the next is on."""
        weights = weights_of(self._policy.q_network)
        if self._stream is None:
            return _Copy(self._policy.learning_steps, weights)
        on_host = torch.empty(weights.shape, pin_memory=True)
        arrived = torch.cuda.Event()
        self._stream.wait_stream(torch.cuda.current_stream(self._policy.device))
        with torch.cuda.stream(self._stream):
            on_host.copy_(weights, non_blocking=True)
            arrived.record(self._stream)
        weights.record_stream(self._stream)  # its memory is not given to others before
        return _Copy(self._policy.learning_steps, on_host, arrived)
