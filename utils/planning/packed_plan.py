"""What was planned for a level, as bytes, for another process that has the same level in the same state.

Of the tables only what planning has changed is there; the rest, by far the most, follows from the level.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from utils.planning.plan_tables import AFTER, NO_VISIT, NOBODY, TRAIN, PlanTables

_HEADER = struct.Struct("<i")  # how many visits follow


def pack_tables(tables: PlanTables, random: NDArray[np.int64]) -> bytes:
    """What ``unpack_tables`` needs.

    Args:
        tables: with plans.
        random: int64 [1], where the random numbers of the search stand.
    """
    visits = tables.visits
    (changed,) = np.nonzero((visits[:, TRAIN] != NOBODY) | (visits[:, AFTER] != NO_VISIT))
    parts = changed.astype("<i4"), visits[changed].astype("<i4")
    arrays = *parts, tables.trains.astype("<i8"), tables.counts.astype("<i8"), tables.own_costs.astype("<f8")
    return b"".join([_HEADER.pack(len(changed)), *(array.tobytes() for array in (*arrays, random.astype("<i8")))])


def unpack_tables(packed: bytes, tables: PlanTables, random: NDArray[np.int64]) -> None:
    """Puts the plans into tables without any, and into ``random`` where its numbers stood."""
    (n_changed,) = _HEADER.unpack_from(packed)
    changed, offset = np.frombuffer(packed, "<i4", n_changed, _HEADER.size), _HEADER.size + 4 * n_changed
    rows = np.empty((n_changed, tables.visits.shape[1]), dtype=np.int32)
    for array in (rows, tables.trains, tables.counts, tables.own_costs, random):
        stored = np.frombuffer(packed, array.dtype.newbyteorder("<"), array.size, offset)
        array[:] = stored.reshape(array.shape)
        offset += stored.nbytes
    tables.visits[changed] = rows
