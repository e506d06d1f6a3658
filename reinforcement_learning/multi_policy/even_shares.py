"""The same amount of experience for every policy: what some have collected more than others waits."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from reinforcement_learning.learning.saved_replay_buffer import row_layout, what_is_wrong
from reinforcement_learning.playing.transitions import Transitions

MOST_WAITING = 2048
"""Transitions of a policy that wait for those of others. Policies of one skill collect as many in the long run."""


class EvenShares:
    """Transitions of several policies, handed out in equal numbers.

    Episodes of one policy may be longer, or leave its trains more choices, than those of another. Its newer
    transitions then wait until the others have as many. Of more than ``MOST_WAITING`` the oldest are dropped: a policy
    that goes on collecting more would fill any memory.

    Args:
        n_policies: how many share.
    """

    def __init__(self, n_policies: int) -> None:
        self._waiting: list[deque[Transitions]] = [deque() for _ in range(n_policies)]

    def add(self, policy: int, transitions: Transitions) -> None:
        """Takes over transitions of a policy."""
        self._waiting[policy].append(transitions)

    def take(self) -> list[list[Transitions]]:
        """What each policy may learn from now, the oldest first: of every policy the same number."""
        n_each = min(map(_count, self._waiting))
        shares = [_first(waiting, n_each) for waiting in self._waiting]
        for waiting in self._waiting:
            _first(waiting, _count(waiting) - MOST_WAITING)
        return shares

    def state_dict(self) -> list[dict[str, torch.Tensor]]:
        """What waits, in tensors: policy by policy, field by field."""
        fields = row_layout(0)
        return [
            {
                name: torch.from_numpy(np.concatenate([getattr(part, name) for part in waiting]))
                for name in (fields if waiting else ())
            }
            for waiting in self._waiting
        ]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]], n_features: int) -> None:
        """Takes over a state.

        Raises:
            ValueError: it is of other policies, or holds what no learner can use.
        """
        layout = row_layout(n_features)
        for policy, (waiting, of_policy) in enumerate(zip(self._waiting, state, strict=True)):
            waiting.clear()
            if not of_policy:
                continue
            rows = {name: of_policy[name].numpy() for name in layout}
            n = len(rows["actions"])
            found = {name: (array.shape, array.dtype) for name, array in rows.items()}
            wanted = {name: ((n, *shape), np.dtype(dtype)) for name, (shape, dtype) in layout.items()}
            if found != wanted or what_is_wrong(rows):
                raise ValueError(f"what waits of policy {policy} is damaged")
            waiting.append(Transitions(**rows, policy_of_train=np.full(n, policy)))


def _count(waiting: deque[Transitions]) -> int:
    return sum(map(len, waiting))


def _first(waiting: deque[Transitions], n: int) -> list[Transitions]:
    """Takes the first ``n`` transitions away."""
    taken = []
    while n > 0:
        part = waiting.popleft()
        if len(part) > n:
            waiting.appendleft(part[n:])
            part = part[:n]
        taken.append(part)
        n -= len(part)
    return taken
