"""The same amount of experience for every policy: what some have collected more than others waits."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from reinforcement_learning.learning.saved_replay_buffer import what_is_wrong
from reinforcement_learning.playing.episode_rows import EpisodeRows, joined, layout_of
from utils.observation.feature_sets import FeatureSet

MOST_WAITING = 2048
"""Transitions of a policy that wait for those of others. Policies of one skill collect as many in the long run."""


class EvenShares:
    """Transitions of several policies, handed out in equal numbers.

    Episodes of one policy may be longer, or leave its trains more choices, than those of another. Its newer
    transitions then wait until the others have as many. Of more than ``MOST_WAITING`` the oldest are dropped: a policy
    that goes on collecting more would fill any memory.

    Args:
        n_step: decisions from where a transition begins to where it ends, at most.
    """

    def __init__(self, n_policies: int, n_step: int) -> None:
        self._n_step = n_step
        self._waiting: list[deque[EpisodeRows]] = [deque() for _ in range(n_policies)]

    def add(self, policy: int, rows: EpisodeRows) -> None:
        """Takes over rows of a policy."""
        self._waiting[policy].append(rows)

    def take(self) -> list[list[EpisodeRows]]:
        """What each policy may learn from now, the oldest first: of every policy the same number."""
        n_each = min(map(_count, self._waiting))
        shares = [self._first(waiting, n_each) for waiting in self._waiting]
        for waiting in self._waiting:
            self._first(waiting, _count(waiting) - MOST_WAITING)
        return shares

    def _first(self, waiting: deque[EpisodeRows], n: int) -> list[EpisodeRows]:
        """Takes the first ``n`` transitions away."""
        taken = []
        while n > 0:
            part = waiting.popleft()
            if part.n_transitions > n:
                part, rest = part.cut(n, self._n_step)
                waiting.appendleft(rest)
            taken.append(part)
            n -= part.n_transitions
        return taken

    def state_dict(self) -> list[dict[str, torch.Tensor]]:
        """What waits, in tensors: policy by policy, field by field."""
        return [
            {
                name: torch.from_numpy(array)
                for name, array in vars(joined(waiting)).items()
                if name != "policy_of_train" and 0 not in array.shape[1:]
            }
            if waiting
            else {}
            for waiting in self._waiting
        ]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]], feature_set: FeatureSet) -> None:
        """Takes over a state.

        Raises:
            ValueError: it is of other policies, or holds what no learner can use.
        """
        layout = layout_of(feature_set)
        for policy, (waiting, of_policy) in enumerate(zip(self._waiting, state, strict=True)):
            waiting.clear()
            if not of_policy or "demonstrated" in of_policy:  # of a version whose replay buffers cannot be read, too
                continue
            rows = {name: of_policy[name].numpy() for name in layout}
            n = len(rows["actions"])
            found = {name: (array.shape, array.dtype) for name, array in rows.items()}
            wanted = {name: ((n, *shape), np.dtype(dtype)) for name, (shape, dtype) in layout.items()}
            if found != wanted or what_is_wrong(rows):
                raise ValueError(f"what waits of policy {policy} is damaged")
            waiting.append(EpisodeRows.of(rows, np.full(n, policy)))


def _count(waiting: deque[EpisodeRows]) -> int:
    return sum(part.n_transitions for part in waiting)
