"""What trains see in the steps with decisions: each row of own features once, whoever looks at it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.episode_rows import NO_NEIGHBOUR
from utils.observation.neighbour_rows import NeighbourRows
from utils.observation.neighbours import N_RELATIONS

Integers = npt.NDArray[np.integer]


class Seen(NamedTuple):
    """What trains of a level see in a step."""

    trains: Integers  # [k], in rising order
    own: npt.NDArray[np.float32]  # [k, own features]
    neighbours: Integers  # [k, most neighbours], trains; negative where there is none
    relations: npt.NDArray[np.float32]  # [k, most neighbours, N_RELATIONS]

    @classmethod
    def copied(cls, rows: NeighbourRows) -> "Seen":
        """A copy of what an observer has seen last."""
        trains = np.flatnonzero(rows.is_observed)
        return cls(trains, rows.own[trains], rows.neighbours[trains], rows.relations[trains])


class SeenByDeciding(NamedTuple):
    """What is seen of all steps of an episode in which trains decide, and which of it they look at."""

    at: Integers  # [decisions], the row of each
    trains: Integers  # [k]
    own: npt.NDArray[np.float32]  # [k, own features]
    neighbours: npt.NDArray[np.int32]  # [k, most neighbours], see ``EpisodeRows``
    relations: npt.NDArray[np.float32]  # [k, most neighbours, N_RELATIONS]

    @classmethod
    def alone(cls, trains: Integers, observations: npt.NDArray[np.float32]) -> "SeenByDeciding":
        """Trains that see no others."""
        k = len(trains)
        nobody, nothing = np.zeros((k, 0), np.int32), np.zeros((k, 0, N_RELATIONS), np.float32)
        return cls(np.arange(k), trains, observations, nobody, nothing)


def seen_by_deciding(seen: Sequence[Seen], deciding: Sequence[Integers]) -> SeenByDeciding:
    """Puts together the rows of deciding trains and of those that they look at, step by step.

    Args:
        seen: of each step with decisions.
        deciding: the trains that decide in it, in rising order; all of them are among those that see.
    """
    trains, own, neighbours, relations = (np.concatenate(arrays) for arrays in zip(*seen, strict=True))
    n_trains = int(trains.max()) + 1
    keys = np.repeat(np.arange(len(seen)), [len(each.trains) for each in seen]) * n_trains + trains
    step = np.repeat(np.arange(len(seen)), [len(each) for each in deciding])
    rows = np.searchsorted(keys, step * n_trains + np.concatenate(deciding))
    there = neighbours[rows] >= 0  # [decisions, most neighbours]
    looked_at = np.searchsorted(keys, (step * n_trains)[:, np.newaxis] + np.where(there, neighbours[rows], 0))
    needed = np.zeros(len(keys), dtype=bool)
    needed[rows] = needed[looked_at[there]] = True
    place = np.cumsum(needed) - 1
    at, n = place[rows], np.count_nonzero(needed)
    ahead = np.where(there, place[np.where(there, looked_at, 0)] - at[:, np.newaxis], NO_NEIGHBOUR)
    return SeenByDeciding(
        at,
        trains[needed],
        own[needed],
        spread(ahead.astype(np.int32), at, n, NO_NEIGHBOUR),
        spread(relations[rows], at, n),
    )


def spread(values: npt.NDArray[Any], at: Integers, n: int, otherwise: Any = 0) -> npt.NDArray[Any]:
    """An array of ``n`` rows with ``values`` at some of them, in rising order."""
    if len(at) == n:
        return values
    array = np.full((n, *values.shape[1:]), otherwise, dtype=values.dtype)
    array[at] = values
    return array
