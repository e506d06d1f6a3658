"""What ``ways_out``, ``exit_order`` and ``move_judgement`` know about the trains of one level, as a few tables.

The tables are few because numba hands over every array of a tuple in about ten numbers, and compiles code for each of
them wherever one function calls another.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.safe_moves.train_sets import words_for
from utils.simulator import rail_keys
from utils.simulator.rail_keys import N_ONWARD, lay_tracks
from utils.simulator.rail_state import RailState
from utils.system.compiled import compiled, compiled_helper

NO_WAY = -1
OFF_MAP = -1

# Rows of ``trains``.
(
    TARGET,  # cell
    ARRIVES_IN,  # four bits, north lowest: the directions in which it may arrive there
    AT,  # the key of the train's configuration, or OFF_MAP
    PLACE,  # where in its known way it is
    END,  # the length of its known way; 0 if none is known
    STANDS,  # 1 if it is in the way of a search; the others are taken to have left. Between calls: the stuck ones
    STUCK,  # 1 if it is on the map and cannot leave
    MOVED,  # 1 if it is of the party and has moved; all 0 between calls
    FAILED,  # 1 if it is of the party and there was no way past those that stand
    HAS_NOT_LEFT,  # 1 if it is of the party and has not left yet; all 0 between calls
    LAST_MOVE,  # the number of its last move
    # These are lists of trains.
    BY_RANK,  # N_LEAVING of them, in the order in which they leave
    PARTY,  # N_PARTY of them; see exit_order
    STANDING,  # N_STANDING of them: those of the party that a search has to do with, also those that have moved
    ARRIVALS,  # N_ARRIVALS of them: those that reach their targets in the step that is being put together
    _N_SINGLE_ROWS,
) = range(16)
# And four rows each, one for each direction, of which these are the first.
ASKED = _N_SINGLE_ROWS  # the key of a move that was unsafe when it was asked for last, or NO_WAY
ASKED_AT = ASKED + 4  # N_MOVES when a move was asked for last
OUTCOME = ASKED_AT + 4  # 4 x its key + what comes of it, true as long as N_MOVES is the same
_N_TRAIN_ROWS = OUTCOME + 4

# Places in ``counts``.
N_LEAVING, N_STUCK, N_PARTY, N_STANDING, N_MOVES, N_SEARCHES, N_ARRIVALS, _N_COUNTS = range(8)

# Columns of ``places``, of which there is a row for each configuration: the search goes from row to row.
(
    AT_RESOURCE,  # see rail_grid.resource_of
    ONWARD,  # the key of the configuration that comes next, NO_WAY, or if there is a choice SEVERAL - its fork
    BACKWARD,  # the key of the configuration that comes before, NO_WAY, or if there are more SEVERAL - its merge
    VISITED,  # the last search that came by
    ORIGIN,  # from where the last search came
    VISITED_BACK,  # the last search that came by on its way back from the target
    PENDING,  # a list of configurations to look at, as places in ``forks``
    PENDING_BACK,  # a list of configurations to look at on the way back from the target, as keys
    _N_PLACE_COLUMNS,
) = range(9)
SEVERAL = -2

# What comes of a move; see ``move_judgement.judge_move``.
UNSAFE, ARRIVES, KEEPS_ORDER, CHANGES_ORDER = range(4)

# A cut in ``found``: the key of the configuration that is cut off, the number of places, and the places.
CUT_FROM, N_CUT_PLACES, CUT_PLACES = range(3)
N_CUTS = 16  # remembered for each train
CUT_SIZE = 32

# A way in ``found``: how many configurations, and their keys.
N_WAY_KEYS, WAY_KEYS = range(2)
N_WAYS = 4  # remembered for each train
_LONGEST_WAY = 2048

# In ``sets``, after the four directions.
WAITS_FOR, MET_BACK, NEW_MEMBERS, _N_SETS = range(4, 8)


@compiled_helper
def key_of(cells: np.ndarray, row: int, column: int, direction: int) -> int:
    """The number of a configuration."""
    return 4 * cells[row, column] + direction


@compiled_helper
def _link(key: int, side: int, other: int, places: np.ndarray, forks: np.ndarray, n_forks: int) -> int:
    """Add a neighbour to ``ONWARD`` or ``BACKWARD`` of a configuration; returns how many forks there are then."""
    known = places[key, side]
    if known == NO_WAY:
        places[key, side] = other
        return n_forks
    if known >= 0:
        forks[n_forks, 0] = known
        known = SEVERAL - n_forks
        places[key, side] = known
        n_forks += 1
    place = 1
    while forks[SEVERAL - known, place] != NO_WAY:
        place += 1
    forks[SEVERAL - known, place] = other
    return n_forks


@compiled
def _link_all(tracks: np.ndarray, side: int, places: np.ndarray, forks: np.ndarray, n_forks: int) -> int:
    """Fill one of ``ONWARD`` and ``BACKWARD``; returns how many forks there are then."""
    for key in range(tracks.shape[0]):
        for n in range(N_ONWARD):
            following = tracks[key, n]
            if following < 0:
                break
            first, second = (key, following) if side == ONWARD else (following, key)
            n_forks = _link(first, side, second, places, forks, n_forks)
    return n_forks


def _distances_behind(forks: NDArray[np.int32], cells: NDArray[np.int32], state: RailState) -> NDArray[np.float64]:
    """The distance map, float64 [trains, 4 x forks], where one choice at a fork leads."""
    (cells_of_map,) = np.nonzero(cells.ravel() >= 0)
    keys_of_map = 4 * cells_of_map[forks // 4] + forks % 4  # of any configuration where there is no choice
    return np.take(state.distance_map.reshape(state.n_trains, -1), keys_of_map.ravel(), axis=1)


class ExitTables(NamedTuple):
    """Where the trains of one level are, on which ways and in which order they can leave, and memory for the search.

    A configuration is written as its *key*, see ``rail_keys``. Rows, columns and places have their names above.
    """

    cells: NDArray[np.int32]  # [height, width], the numbers of the cells, -1 where there are no rails
    maps: NDArray[np.float64]  # those of the ``RailState``, not copied
    # [forks + merges, 4], the keys of where a choice leads, and of from where trains come together; the rest of a row
    # is NO_WAY. See ``SEVERAL``.
    forks: NDArray[np.int32]
    fork_distances: NDArray[np.float64]  # [trains, 4 x forks], the distance map for where choices lead
    trains: NDArray[np.int64]  # [rows, trains]
    counts: NDArray[np.int64]  # [counts]
    occupant: NDArray[np.int32]  # [2 x cells], handle + 1 of the train that stands there; see ``rail_grid.resource_of``
    places: NDArray[np.int32]  # [configurations, columns]
    keys: NDArray[np.int32]  # [trains, configurations], the known way of each train, which may have begun before it
    crossing: NDArray[np.int64]  # [cells, words], the trains, a bit each, whose known way leads on through a cell
    # [trains, sets, words], sets of trains: by direction, those whose positions made the train's move unsafe (see
    # ``ASKED``); ``WAITS_FOR``, those that the last search for the train has met, unless it has found a way;
    # ``MET_BACK``, those that it has met on its way back from the target; ``NEW_MEMBERS``, memory of ``gather``.
    sets: NDArray[np.int64]
    # [trains, size], what earlier searches have found. First ``N_CUTS`` cuts: as long as other trains stand at all
    # places of a cut there is no way. Then ``N_WAYS`` ways.
    found: NDArray[np.int32]

    @classmethod
    def for_state(cls, state: RailState) -> "ExitTables":
        """An empty map of that level."""
        cells, tracks = lay_tracks(state)
        n_trains, n_cells, n_words = state.n_trains, len(tracks) // 4, words_for(state.n_trains)
        places = np.zeros((len(tracks), _N_PLACE_COLUMNS), dtype=np.int32)
        places[:, AT_RESOURCE] = tracks[:, rail_keys.RESOURCE]
        places[:, [ONWARD, BACKWARD]] = NO_WAY
        forks = np.full((8 * n_cells, 4), NO_WAY, dtype=np.int32)
        n_forks = _link_all(tracks, ONWARD, places, forks, 0)
        n_all = _link_all(tracks, BACKWARD, places, forks, n_forks)
        trains = np.zeros((_N_TRAIN_ROWS, n_trains), dtype=np.int64)
        trains[TARGET] = cells[state.target_row, state.target_column]
        arrives = state.distance_map[np.arange(n_trains), state.target_row, state.target_column] == 0
        trains[ARRIVES_IN] = arrives @ (1 << np.arange(4))
        trains[AT] = OFF_MAP
        trains[ASKED : ASKED + 4] = trains[OUTCOME : OUTCOME + 4] = NO_WAY
        way_size = WAY_KEYS + min(4 * n_cells, _LONGEST_WAY)
        found = np.empty((n_trains, N_CUTS * CUT_SIZE + N_WAYS * way_size), dtype=np.int32)
        found[:, CUT_FROM : N_CUTS * CUT_SIZE : CUT_SIZE] = NO_WAY
        found[:, N_CUTS * CUT_SIZE + N_WAY_KEYS :: way_size] = 0
        return cls(
            cells=cells,
            maps=state.maps,
            forks=forks[:n_all],
            fork_distances=_distances_behind(forks[:n_forks], cells, state),
            trains=trains,
            counts=np.zeros(_N_COUNTS, dtype=np.int64),
            occupant=np.zeros(2 * n_cells, dtype=np.int32),
            places=places,
            # a search comes through a configuration once; what no way is long enough to use costs no memory
            keys=np.empty((n_trains, 4 * n_cells), dtype=np.int32),
            crossing=np.zeros((n_cells, n_words), dtype=np.int64),
            found=found,
            sets=np.zeros((n_trains, _N_SETS, n_words), dtype=np.int64),
        )


@compiled_helper
def put_train(handle: int, key: int, exits: ExitTables) -> None:
    """Let a train stand at a free place, or nowhere; where it was before must have been freed."""
    exits.trains[AT, handle] = key
    if key != OFF_MAP:
        exits.occupant[exits.places[key, AT_RESOURCE]] = handle + 1


@compiled_helper
def take_train(handle: int, exits: ExitTables) -> None:
    """Free the place where a train stands, if it is on the map."""
    key = exits.trains[AT, handle]
    if key != OFF_MAP:
        exits.occupant[exits.places[key, AT_RESOURCE]] = 0


@compiled_helper
def holder_of(key: int, occupant: np.ndarray, places: np.ndarray) -> int:
    """The train at the place of a configuration, or -1."""
    return occupant[places[key, AT_RESOURCE]] - 1


@compiled_helper
def in_the_way(handle: int, key: int, occupant: np.ndarray, places: np.ndarray, trains: np.ndarray) -> int:
    """Another train that stands at the place of a configuration, or -1."""
    holder = holder_of(key, occupant, places)
    return holder if holder >= 0 and holder != handle and trains[STANDS, holder] == 1 else -1
