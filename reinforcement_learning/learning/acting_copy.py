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

from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.dueling_q_network import set_weights, weights_of


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
    """The weights that a policy acts with.

    At each :meth:`renew` those of the call before are taken, which have arrived meanwhile, and those of now are sent.
    So learning and playing go on side by side, and which weights are played with does not depend on who is faster.

    Args:
        policy: acts with the copy from now on.
    """

    def __init__(self, policy: DDDQNPolicy) -> None:
        self._policy = policy
        self._network = copy.deepcopy(policy.q_network).cpu().requires_grad_(False)
        self._stream = torch.cuda.Stream(policy.device) if policy.device.type == "cuda" else None
        self._on_the_way: _Copy | None = None
        policy.act_with(self._network)
        self.begin_again()

    @property
    def newest(self) -> tuple[int, npt.NDArray[np.float32]]:
        """Learning steps, and the weights of that moment that are acted with; the same object until the next ones."""
        return self._newest

    def begin_again(self) -> None:
        """Takes the weights of now, and waits for them."""
        self._on_the_way = None
        self._use(self._send())

    def renew(self) -> None:
        """Takes the weights that were sent at the last call, and sends those of now."""
        if self._on_the_way is not None:
            self._use(self._on_the_way)
        self._on_the_way = self._send()

    def state_dict(self) -> list[dict[str, Any]]:
        """The weights that are acted with, and those that come next."""
        return [each.state_dict() for each in (self._in_use, self._on_the_way) if each is not None]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> None:
        """Goes on with what :meth:`state_dict` gave; where that is nothing, with the weights of now.

        Raises:
            ValueError: it is of another network.
        """
        self.begin_again()
        copies = [_Copy(each["learning_steps"], each["weights"]) for each in state]
        if any(each.weights.shape != self._in_use.weights.shape for each in copies):
            raise ValueError("The weights to act with are of another network.")
        if copies:
            self._use(copies[0])
            self._on_the_way = copies[1] if len(copies) > 1 else None

    def _use(self, sent: _Copy) -> None:
        set_weights(self._network, sent.wait())
        self._in_use = sent
        self._newest = sent.learning_steps, sent.weights.numpy()

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
