"""What ``ways_out``, ``exit_order`` and ``move_judgement`` know about the trains of one level, as a few tables.

The tables are few because numba hands over every array of a tuple in about ten numbers, and compiles code for each of
them wherever one function calls another.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.rail_state import RailState
from utils.train_sets import words_for

NO_WAY = -1
OFF_MAP = -1

# Rows of ``trains``.
(
    TARGET,  # cell
    AT,  # the key of the train's configuration, or OFF_MAP
    PLACE,  # where in its known way it is
    END,  # the length of its known way; 0 if none is known
    STANDS,  # 1 if it is in the way of a search; the others are taken to have left. Between calls: the stuck ones
    STUCK,  # 1 if it is on the map and cannot leave
    MOVED,  # 1 if it is of the party and has moved; all 0 between calls
    FAILED,  # 1 if it is of the party and there was no way past those that stand
    WAITING,  # 1 if it is of the party and has not left yet; all 0 between calls
    LAST_MOVE,  # the number of its last move
    ASKED,  # and the next three, by direction: the key of a move that was unsafe when it was asked for last, or NO_WAY
    ASKED_AT,  # and the next three: N_MOVES then
    # These are lists of trains.
    BY_RANK,  # N_LEAVING of them, in the order in which they leave
    PARTY,  # N_PARTY of them; see exit_order
    STANDING,  # N_STANDING of them: those of the party that a search has to do with, also those that have moved
) = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 18, 19, 20)
_N_TRAIN_ROWS = 21

# Places in ``counts``.
N_LEAVING, N_STUCK, N_PARTY, N_STANDING, N_MOVES, N_SEARCHES = range(6)
_N_COUNTS = 6

# Rows of ``places``, of which there is one for each configuration.
(
    RESOURCE,  # see rail_grid.resource_of
    VISITED,  # the last search that came by
    ORIGIN,  # from where the last search came
    PENDING,  # a list of configurations to look at
) = range(4)
_N_PLACE_ROWS = 4

WAITS_FOR = 4  # in ``sets``, after the four directions


class ExitTables(NamedTuple):
    """Where the trains of one level are, on which ways and in which order they can leave, and memory for the search.

    A configuration is written as one number, its *key*: 4 x cell + direction.

    Attributes:
        grid, distance_map: those of the ``RailState``, not copied.
        trains: int64 [rows, trains], see above.
        counts: int64 [counts], see above.
        occupant: int32 [2 x cells], handle + 1 of the train that stands there; see ``rail_grid.resource_of``.
        places: int32 [rows, configurations], see above.
        keys: int32 [trains, configurations], the known way of each train, which may have begun before it.
        crossing: int64 [cells, words], the trains, a bit each, whose known way leads on through a cell.
        sets: int64 [trains, 5, words], sets of trains: by direction, those whose positions made the train's move
            unsafe (see ``ASKED``); ``WAITS_FOR``, those that the last search for the train has met.
    """

    grid: NDArray[np.uint16]
    distance_map: NDArray[np.float64]
    trains: NDArray[np.int64]
    counts: NDArray[np.int64]
    occupant: NDArray[np.int32]
    places: NDArray[np.int32]
    keys: NDArray[np.int32]
    crossing: NDArray[np.int64]
    sets: NDArray[np.int64]

    @classmethod
    def for_state(cls, state: RailState) -> "ExitTables":
        """An empty map of that level."""
        n_trains, n_cells, n_words = state.n_trains, state.grid.size, words_for(state.n_trains)
        trains = np.zeros((_N_TRAIN_ROWS, n_trains), dtype=np.int64)
        trains[TARGET] = state.target_row * state.grid.shape[1] + state.target_column
        trains[AT] = OFF_MAP
        trains[ASKED : ASKED + 4] = NO_WAY
        places = np.zeros((_N_PLACE_ROWS, n_cells, 4), dtype=np.int32)
        places[RESOURCE] = 2 * np.arange(n_cells)[:, None]
        places[RESOURCE] += state.level_free.reshape(-1, 1) * (np.arange(4, dtype=np.int32) % 2)
        return cls(
            grid=state.grid,
            distance_map=state.distance_map,
            trains=trains,
            counts=np.zeros(_N_COUNTS, dtype=np.int64),
            occupant=np.zeros(2 * n_cells, dtype=np.int32),
            places=places.reshape(_N_PLACE_ROWS, -1),
            # a search comes through a configuration once; what no way is long enough to use costs no memory
            keys=np.empty((n_trains, 4 * n_cells), dtype=np.int32),
            crossing=np.zeros((n_cells, n_words), dtype=np.int64),
            sets=np.zeros((n_trains, WAITS_FOR + 1, n_words), dtype=np.int64),
        )
