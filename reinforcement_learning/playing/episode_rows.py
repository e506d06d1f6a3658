"""What an episode leaves for learning: one row for each decision of a train."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from utils.simulator.rail_grid import N_ACTIONS

NOTHING_FOLLOWS = 0
LOST = -1
NOT_SHOWN = -1


@dataclass(frozen=True)
class EpisodeRows:
    """Arrays with one row per decision, those of an episode one behind the other, the oldest first.

    A row's next observation is that of another row, so each is here once. What the interval up to there has brought
    is kept in parts (see ``reward_parts``): whoever learns puts them together.
    """

    observations: npt.NDArray[np.float32]  # [k, features]
    action_masks: npt.NDArray[np.bool_]  # [k, 5]
    actions: npt.NDArray[np.int8]  # [k], taken
    shown: npt.NDArray[np.int8]  # [k], what a plan would have done there; NOT_SHOWN where nobody has asked it
    decided: npt.NDArray[np.bool_]  # [k], whether a transition begins here; others are only looked at from elsewhere
    # [k], by how many rows the same train's next decision lies behind this one; NOTHING_FOLLOWS where its task ends
    # before that, LOST where there is one that is not among the rows
    next_row: npt.NDArray[np.int32]
    n_steps: npt.NDArray[np.int32]  # [k], up to the next decision, or to the end of the train's task
    reward_parts: npt.NDArray[np.float32]  # [k, 2, 3], of the train itself and of all others; see ``reward_parts``
    part_steps: npt.NDArray[np.float32]  # [k, 2, 3], steps from the decision to the reward
    potentials: npt.NDArray[np.float32]  # [k, 2, 2], of the train itself and of all others; at the decision, after all
    policy_of_train: npt.NDArray[np.int64]  # [k], the number of the policy that drives the train

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def n_transitions(self) -> int:
        """How many transitions begin here."""
        return int(np.count_nonzero(self.decided))

    def where(self, chosen: npt.NDArray[np.bool_]) -> "EpisodeRows":
        """Some of them; next rows are the same decisions as before."""
        place = np.cumsum(chosen) - 1
        here = np.flatnonzero(chosen)
        ahead = self.next_row[here]
        there = here + np.maximum(ahead, 0)
        kept = np.where(chosen[there], place[there] - place[here], LOST)
        rows = {name: array[here] for name, array in vars(self).items()}
        rows["next_row"] = np.where(ahead > 0, kept, ahead).astype(np.int32)
        return EpisodeRows(**rows)

    def of_policy(self, policy: int) -> "EpisodeRows":
        """Those of the trains that one policy has driven."""
        own = self.policy_of_train == policy
        return self if own.all() else self.where(own)

    def cut(self, n_transitions: int, n_step: int) -> "tuple[EpisodeRows, EpisodeRows]":
        """The first transitions, and the others.

        Of the others' rows those come with the first, too, at which their transitions end: up to ``n_step`` decisions
        later. No transition begins there.
        """
        index = np.arange(len(self))
        first = index < np.searchsorted(np.cumsum(self.decided), n_transitions, side="left") + 1
        needed = first.copy()
        for _ in range(n_step):
            sources = np.flatnonzero(needed)
            before = len(sources)
            ahead = self.next_row[sources]
            needed[(sources + ahead)[ahead > 0]] = True
            if np.count_nonzero(needed) == before:
                break
        return replace(self, decided=self.decided & first).where(needed), self.where(~first)


def joined(parts: Sequence[EpisodeRows]) -> EpisodeRows:
    """The rows of several, one behind the other."""
    return EpisodeRows(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in EpisodeRows.__dataclass_fields__}
    )


def row_layout(n_features: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of each field of a row, but for the number of the policy."""
    return {
        "observations": ((n_features,), np.float32),
        "action_masks": ((N_ACTIONS,), np.bool_),
        "actions": ((), np.int8),
        "shown": ((), np.int8),
        "decided": ((), np.bool_),
        "next_row": ((), np.int32),
        "n_steps": ((), np.int32),
        "reward_parts": ((2, 3), np.float32),
        "part_steps": ((2, 3), np.float32),
        "potentials": ((2, 2), np.float32),
    }


class RowSink(Protocol):
    """Takes the rows of finished episodes; a replay buffer is one."""

    def add(self, rows: EpisodeRows) -> None:
        """Takes over the rows of whole episodes, or of all trains in them that one policy has driven."""
        ...
