"""What an episode leaves for learning: one row for each decision of a train, and for what neighbours saw then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from utils.observation.feature_sets import FeatureSet
from utils.observation.neighbours import N_RELATIONS
from utils.simulator.rail_grid import N_ACTIONS

NOTHING_FOLLOWS = 0
LOST = -1
NOT_SHOWN = -1
NO_NEIGHBOUR = 0


@dataclass(frozen=True)
class EpisodeRows:
    """Arrays with one row per decision, those of an episode one behind the other, the oldest first.

    A row's next observation is that of another row, so each is here once. What the interval up to there has brought
    is kept in parts (see ``reward_parts``): whoever learns puts them together.

    Where trains see neighbours, what a neighbour sees of itself is in a row, too: that of its own decision in that
    step, or else one that is only looked at. The rows of a step lie together.
    """

    observations: npt.NDArray[np.float32]  # [k, own features], what a train sees of itself
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
    # [k, most neighbours], by how many rows each neighbour's row lies behind this one, negative before it; NO_NEIGHBOUR
    # where there is none, and in rows that are only looked at
    neighbours: npt.NDArray[np.int32]
    relations: npt.NDArray[np.float32]  # [k, most neighbours, N_RELATIONS], see ``neighbours.Relation``

    @classmethod
    def of(cls, fields: Mapping[str, npt.NDArray[Any]], policy_of_train: npt.NDArray[np.int64]) -> "EpisodeRows":
        """Rows with the fields of a ``row_layout``."""
        k = len(policy_of_train)
        nobody = {"neighbours": np.zeros((k, 0), np.int32), "relations": np.zeros((k, 0, N_RELATIONS), np.float32)}
        return cls(**nobody | dict(fields), policy_of_train=policy_of_train)

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def n_transitions(self) -> int:
        """How many transitions begin here."""
        return int(np.count_nonzero(self.decided))

    @property
    def observes(self) -> npt.NDArray[np.bool_]:
        """At which rows a transition begins or ends, ``[k]``; others are only looked at."""
        observes = self.decided.copy()
        before = np.flatnonzero(self.next_row > 0)
        observes[before + self.next_row[before]] = True
        return observes

    def where(self, chosen: npt.NDArray[np.bool_]) -> "EpisodeRows":
        """Some of them; next rows are the same decisions as before.

        The rows that those look at come with them, to be looked at only.
        """
        index = np.arange(len(self))[:, np.newaxis]
        needed = chosen.copy()
        needed[(index + self.neighbours)[chosen]] = True  # NO_NEIGHBOUR is the row itself
        place = np.cumsum(needed) - 1
        here = np.flatnonzero(needed)
        ahead = self.next_row[here]
        there = here + np.maximum(ahead, 0)
        kept = np.where(chosen[there], place[there] - place[here], LOST)
        rows = {name: array[here] for name, array in vars(self).items()}
        rows["next_row"] = np.where(ahead > 0, kept, ahead).astype(np.int32)
        rows["decided"] &= chosen[here]
        looked_at = place[index[here] + rows["neighbours"]] - place[here][:, np.newaxis]
        rows["neighbours"] = np.where(chosen[here][:, np.newaxis], looked_at, NO_NEIGHBOUR).astype(np.int32)
        rows["relations"][~chosen[here]] = 0.0
        return EpisodeRows(**rows)

    def of_policy(self, policy: int) -> "EpisodeRows":
        """Those of the trains that one policy has driven, with what they look at."""
        own = self.policy_of_train == policy
        observes = self.observes
        return self if own[observes].all() else self.where(own & observes)

    def by_policy(self, n_policies: int) -> "dict[int, EpisodeRows]":
        """What each of the first policies may learn from; only policies for which there is something."""
        present = np.unique(self.policy_of_train[self.decided]).tolist()
        return {p: self.of_policy(p) for p in present if p < n_policies}

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


def row_layout(n_features: int, n_neighbours: int = 0) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of each field of a row, but for the number of the policy; ``n_features`` are a train's own."""
    layout: dict[str, tuple[tuple[int, ...], Any]] = {
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
    if n_neighbours:
        layout["neighbours"] = (n_neighbours,), np.int32
        layout["relations"] = (n_neighbours, N_RELATIONS), np.float32
    return layout


def layout_of(feature_set: FeatureSet) -> dict[str, tuple[tuple[int, ...], Any]]:
    """The ``row_layout`` of observations of a feature set."""
    return row_layout(feature_set.n_own_features, feature_set.n_neighbours)


class RowSink(Protocol):
    """Takes the rows of finished episodes; a replay buffer is one."""

    def add(self, rows: EpisodeRows) -> None:
        """Takes over the rows of whole episodes, or of all trains in them that one policy has driven."""
        ...
