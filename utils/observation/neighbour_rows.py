"""Observations with neighbours, as the rows that they are made of, and how they are put together. Compiled.

The observation of a train is ``[own features | for each neighbour: N_RELATIONS relations, its own features]``, with
zeros where there is no neighbour. What a train sees of itself is seen by others too, so whoever keeps observations
keeps the parts: each row of own features once, and for each observation the numbers of the neighbours' rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.observation.neighbours import N_RELATIONS
from utils.simulator.rail_state import RailState
from utils.system.compiled import compiled, compiled_helper


@dataclass(frozen=True)
class NeighbourRows:
    """The parts of the observations of a level."""

    own: NDArray[np.float32]  # [trains, own features]
    # [trains, most neighbours], rows of ``own``, the soonest met first; -1 where there is none
    neighbours: NDArray[np.int64]
    relations: NDArray[np.float32]  # [trains, most neighbours, N_RELATIONS], see ``neighbours.Relation``
    # [trains], whether a row of ``own`` is of now: it is that of a train that observes, or of a neighbour of one
    is_observed: NDArray[np.bool_]

    @classmethod
    def for_state(cls, state: RailState, n_own_features: int, n_neighbours: int) -> "NeighbourRows":
        """New memory, of the size that the level needs."""
        return cls(
            own=np.zeros((state.n_trains, n_own_features), dtype=np.float32),
            neighbours=np.full((state.n_trains, n_neighbours), -1, dtype=np.int64),
            relations=np.zeros((state.n_trains, n_neighbours, N_RELATIONS), dtype=np.float32),
            is_observed=np.zeros(state.n_trains, dtype=np.bool_),
        )


@compiled_helper
def _copy(values: np.ndarray, target: np.ndarray) -> None:
    """Half the time of an assignment of arrays, for which numba looks whether they overlap."""
    for index in range(values.shape[0]):
        target[index] = values[index]


@compiled_helper
def _assemble(row: int, own: np.ndarray, looked_at: np.ndarray, relations: np.ndarray, observation: np.ndarray) -> None:
    n_own = own.shape[1]
    _copy(own[row], observation)
    begin = n_own
    for k in range(looked_at.shape[0]):
        _copy(relations[row, k], observation[begin:])
        begin += N_RELATIONS
        if looked_at[k] >= 0:
            _copy(own[looked_at[k]], observation[begin:])
        else:
            for index in range(begin, begin + n_own):
                observation[index] = 0.0
        begin += n_own


@compiled
def assemble_level(
    observes: np.ndarray, own: np.ndarray, neighbours: np.ndarray, relations: np.ndarray, observations: np.ndarray
) -> None:
    """Fill ``observations``, float32 [trains, features], from the parts of a level, see ``NeighbourRows``.

    The rows of trains that do not observe, by ``observes``, bool [trains], are left as they are.
    """
    for handle in range(observations.shape[0]):
        if observes[handle]:
            _assemble(handle, own, neighbours[handle], relations, observations[handle])


@compiled
def assemble(
    rows: np.ndarray, own: np.ndarray, neighbours: np.ndarray, relations: np.ndarray, observations: np.ndarray
) -> None:
    """Fill ``observations``, float32 [batch, features], with those of ``rows``, int64 [batch], of parts in a ring.

    Args:
        own: float32 [kept, own features].
        neighbours: int32 [kept, most neighbours], by how many rows of the ring each neighbour's row lies behind the
            row itself; negative before it, 0 where there is none.
        relations: float32 [kept, most neighbours, N_RELATIONS].
    """
    looked_at = np.empty(neighbours.shape[1], dtype=np.int64)
    for index in range(rows.shape[0]):
        row = rows[index]
        for k in range(looked_at.shape[0]):
            looked_at[k] = (row + neighbours[row, k]) % own.shape[0] if neighbours[row, k] != 0 else -1
        _assemble(row, own, looked_at, relations, observations[index])
