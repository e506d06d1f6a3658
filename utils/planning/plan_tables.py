"""What a plan in space and time knows about one level, as a few tables over ``RailState``.

A *resource* is what one train at a time may hold: a cell, or one axis of a level-free crossing. A *visit* says that a
train holds a resource from the step in which it enters until the step in which it leaves. The visits of a resource are
a list in the order of time, those of a train another one. Between two visits of a resource lies a *safe interval*
(Phillips and Likhachev 2011); it has the number of the visit before it. Each resource has a visit of nobody that begins
its list, so that the interval before the first train has a number too.

A visit that is taken out of its list keeps its neighbours, so that it can be put back when all that was done to the
list since then has been undone, in the reverse order ("dancing links", Knuth 2000).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.planning.plan_legs import EARLIEST, END_OF_PLACES, FIRST_PLACE, TO_GO_ROW, UNREACHABLE, legs_of
from utils.simulator.rail_keys import CANNOT_STOP, lay_tracks
from utils.simulator.rail_rewards import COLLISION_FACTOR
from utils.simulator.rail_state import RailState
from utils.system.compiled import compiled_helper

NEVER = 2**29  # a step that no episode comes to
MOST_STEPS = 2**17  # steps for which plans look ahead
NOBODY = -1
NO_VISIT = -1

# Columns of ``visits``.
(
    TRAIN,
    KEY,  # rail key
    ENTER,  # step
    LEAVE,  # step; NEVER while it is not planned
    NEXT,  # the train's next visit; of an unused visit, the next unused one
    BEFORE,  # the visit before it in the list of its resource
    AFTER,  # the one after it
    LEG_AFTER,  # the train's leg when it leaves: it serves the stops here that lie at the end of earlier legs
    _N_VISIT_COLUMNS,
) = range(9)

# Rows of ``trains``.
(
    START,  # rail key where it enters the map
    FIRST_LEG,  # column of ``legs``
    N_LEGS,
    LEG,  # the one that it is on, of its own
    UNITS,  # of a cell: its length, see ``RailState``
    UNITS_A_STEP,  # its speed
    DUE,  # the step of its latest arrival
    DISTANCE,  # units that it has run in its cell
    STANDS_STILL,  # 1 if it does not move, or is off the map
    READY,  # the earliest step in which it can enter its next cell, or the map, if it serves no stop before
    HAS_ARRIVED,  # 1 from its arrival on
    AT_VISIT,  # the visit that it is at; NO_VISIT off the map
    FIRST,  # its first visit to come; NO_VISIT if it has no plan
    PLANNED_ARRIVAL,  # the step of its planned arrival; NEVER if it has no plan
    MOVES,  # whether it enters its next cell in a step: see ``order_keeping``
    # Scratch memory of a search.
    OLD_FIRST,
    OLD_ARRIVAL,
    OLD_LEG_AFTER,
    PLAYED_AT,
    PLAYED_FIRST,
    PLAYED_READY,
    PLAYED_CELLS,
    IS_CHOSEN,  # the number of the round that chose it last
    _N_TRAIN_ROWS,
) = range(24)

# Places in ``counts``.
(
    FIRST_UNUSED,  # visit
    N_PATH_SEARCHES,
    N_EXPANSIONS,  # of path searches, since the level began
    MAX_EXPANSIONS,  # at which a path search gives up
    N_ROUNDS,
    LAST_STEP,  # of the episode
    HEADWAY,  # steps for which a cell is empty between two trains
    MAY_WAIT,  # 1 if the way that is searched may wait on the map
    N_CELLS,  # rail cells
    STRIDE,  # rows of ``search`` for each leg
    _N_COUNTS,
) = range(11)

# Columns of ``search``, of which there is a row for each leg, safe interval and direction.
STAMP, TIME, CELLS, PARENT, AT_KEY, _N_SEARCH_COLUMNS = range(6)

ID_BITS = 24  # of a row of ``search``


class PlanTables(NamedTuple):
    """See the module; the names of rows, columns and places stand around."""

    tracks: NDArray[np.int32]  # [keys, 5], see ``rail_keys``
    to_go: NDArray[np.int32]  # this one, ``legs`` and ``places``: see ``plan_legs``
    legs: NDArray[np.int32]
    places: NDArray[np.int32]
    visits: NDArray[np.int32]  # [visits, 8]; the first ones, one for each resource, are those of nobody
    trains: NDArray[np.int64]  # [rows, trains]
    search: NDArray[np.int32]  # [most legs of a train x 4 x visits, 5]
    heap: NDArray[np.int64]  # [4 x visits]
    costs: NDArray[np.float64]  # [trains, last step + 1], what an arrival in each step costs; see ``plan_costs``
    own_costs: NDArray[np.float64]  # [2, trains], what it costs not to depart at all, and what a train's plan costs now
    shared_costs: NDArray[np.float64]  # [7], see ``plan_costs``
    chosen: NDArray[np.int64]  # [2, trains], lists of trains
    counts: NDArray[np.int64]  # [10]


# Rows of ``own_costs``.
CANCELLED, PLANNED = range(2)

# Places in ``shared_costs``.
(
    NOT_REACHED,  # the least that a train costs that is on its way at the end of the episode
    NOT_COMPLETED,  # what comes on top of it
    NOT_SERVED,  # a stop
    LATE_AT_STOP,  # a step
    EARLY_AT_STOP,
    WAIT,  # on the map, for a train of one cell a step; 0 where a train may stop as it likes
    MOST_LOST,  # a train costs no more, NOT_COMPLETED aside
    N_SHARED_COSTS,
) = range(8)


@compiled_helper
def link(visit: int, before: int, visits: np.ndarray) -> None:
    """Put a visit into the list of a resource, behind another one."""
    visits[visit, BEFORE] = before
    visits[visit, AFTER] = visits[before, AFTER]
    relink(visit, visits)


@compiled_helper
def unlink(visit: int, visits: np.ndarray) -> None:
    """Take a visit out of the list of its resource."""
    before, after = visits[visit, BEFORE], visits[visit, AFTER]
    visits[before, AFTER] = after
    if after != NO_VISIT:
        visits[after, BEFORE] = before


@compiled_helper
def relink(visit: int, visits: np.ndarray) -> None:
    """Put a visit back where it was taken out of a list that is now again as it was then."""
    before, after = visits[visit, BEFORE], visits[visit, AFTER]
    visits[before, AFTER] = visit
    if after != NO_VISIT:
        visits[after, BEFORE] = visit


@compiled_helper
def new_visit(visits: np.ndarray, counts: np.ndarray) -> int:
    """An unused visit, NO_VISIT if there are no more."""
    visit = counts[FIRST_UNUSED]
    if visit != NO_VISIT:
        counts[FIRST_UNUSED] = visits[visit, NEXT]
    return visit


@compiled_helper
def free_visit(visit: int, visits: np.ndarray, counts: np.ndarray) -> None:
    """Give back a visit that is in no list any more."""
    visits[visit, NEXT] = counts[FIRST_UNUSED]
    counts[FIRST_UNUSED] = visit


@compiled_helper
def remove_path(train: int, tables: PlanTables) -> None:
    """Take the visits to come of a train out of their lists.

    A train on the map holds its cell from now on.
    """
    visits, trains = tables.visits, tables.trains
    visit = trains[FIRST, train]
    while visit != NO_VISIT:
        unlink(visit, visits)
        visit = visits[visit, NEXT]
    if trains[AT_VISIT, train] != NO_VISIT:
        visits[trains[AT_VISIT, train], LEAVE] = NEVER
        visits[trains[AT_VISIT, train], NEXT] = NO_VISIT
        visits[trains[AT_VISIT, train], LEG_AFTER] = trains[LEG, train]
    trains[FIRST, train] = NO_VISIT
    trains[PLANNED_ARRIVAL, train] = NEVER


@compiled_helper
def take_out_path(train: int, tables: PlanTables) -> None:
    """``remove_path``, for ``put_back_path``."""
    trains, at = tables.trains, tables.trains[AT_VISIT, train]
    trains[OLD_FIRST, train], trains[OLD_ARRIVAL, train] = trains[FIRST, train], trains[PLANNED_ARRIVAL, train]
    if at != NO_VISIT:
        trains[OLD_LEG_AFTER, train] = tables.visits[at, LEG_AFTER]
    remove_path(train, tables)


@compiled_helper
def put_back_path(train: int, tables: PlanTables) -> None:
    """Undo ``take_out_path``, when all that was done since then has been undone."""
    visits, trains, first = tables.visits, tables.trains, tables.trains[OLD_FIRST, train]
    # The order must be reversed: turn the chain of visits round, and back again.
    last, visit = NO_VISIT, first
    while visit != NO_VISIT:
        following = visits[visit, NEXT]
        visits[visit, NEXT] = last
        last, visit = visit, following
    following = NO_VISIT
    while last != NO_VISIT:
        relink(last, visits)
        visit = visits[last, NEXT]
        visits[last, NEXT] = following
        following, last = last, visit
    if trains[AT_VISIT, train] != NO_VISIT and first != NO_VISIT:
        visits[trains[AT_VISIT, train], LEAVE] = visits[first, ENTER]
        visits[trains[AT_VISIT, train], NEXT] = first
        visits[trains[AT_VISIT, train], LEG_AFTER] = trains[OLD_LEG_AFTER, train]
    trains[FIRST, train], trains[PLANNED_ARRIVAL, train] = first, trains[OLD_ARRIVAL, train]


@compiled_helper
def free_path(first: int, tables: PlanTables) -> None:
    """Give back the visits from one on, which are in no list any more."""
    while first != NO_VISIT:
        following = tables.visits[first, NEXT]
        free_visit(first, tables.visits, tables.counts)
        first = following


@compiled_helper
def drop_path(train: int, tables: PlanTables) -> None:
    """``remove_path`` for good."""
    first = tables.trains[FIRST, train]
    remove_path(train, tables)
    free_path(first, tables)


@compiled_helper
def steps_to_run(n_cells: int, train: int, trains: np.ndarray) -> int:
    """Steps in motion until a train has entered the ``n_cells``-th cell after its present one.

    What it runs too far in one step counts in the next cell, so cells differ by a step where the speed is no whole
    part of a cell. Waiting at the end of a cell changes nothing of this.
    """
    if n_cells == 0:
        return 0
    units = n_cells * trains[UNITS, train] - trains[DISTANCE, train]
    return (units + trains[UNITS_A_STEP, train] - 1) // trains[UNITS_A_STEP, train]


@compiled_helper
def ends_at(key: int, leg: int, train: int, tables: PlanTables) -> bool:
    """Whether a train can serve the stop at the end of a leg at a rail key; the last leg has none."""
    column = tables.trains[FIRST_LEG, train] + leg
    for place in range(tables.legs[FIRST_PLACE, column], tables.legs[END_OF_PLACES, column]):
        if tables.places[place] == key:
            return True
    return False


@compiled_helper
def earliest_to_leave(ready: int, leg: int, leg_after: int, train: int, tables: PlanTables) -> int:
    """The step from which a train may go on from where it comes from one leg to another one.

    Args:
        ready: the step from which it could go on without a stop. Each stop takes one step more.
    """
    for column in range(tables.trains[FIRST_LEG, train] + leg, tables.trains[FIRST_LEG, train] + leg_after):
        ready = max(ready + 1, tables.legs[EARLIEST, column])
    return ready


def cells_from_start(tables: PlanTables) -> NDArray[np.int32]:
    """Cells of the way of each train from where it enters the map by its stops to its target, int32 [trains]."""
    trains = tables.trains
    return tables.to_go[tables.legs[TO_GO_ROW, trains[FIRST_LEG] + trains[LEG]], trains[START]]


def tables_of(state: RailState) -> tuple[PlanTables, NDArray[np.int32]]:
    """Tables of a level without any plan, and the numbers of its rail cells.

    Raises:
        ValueError: the level is larger than plans can be.
    """
    cells, tracks = lay_tracks(state)
    n_cells, n_trains = len(tracks) // 4, state.n_trains
    legs = legs_of(state, cells, tracks[:, CANNOT_STOP] == 1)
    trains = np.zeros((_N_TRAIN_ROWS, n_trains), dtype=np.int64)
    trains[START] = 4 * cells[state.initial_row, state.initial_column] + state.initial_direction
    trains[FIRST_LEG], trains[N_LEGS] = legs.first_leg, legs.n_legs
    trains[UNITS], trains[UNITS_A_STEP], trains[DUE] = state.denominator, state.max_speed, state.latest_arrival
    trains[[AT_VISIT, FIRST]] = NO_VISIT
    trains[PLANNED_ARRIVAL] = NEVER
    visits = _unused_visits(n_cells, legs.to_go[legs.legs[TO_GO_ROW, legs.first_leg], trains[START]])
    counts = np.zeros(_N_COUNTS, dtype=np.int64)
    counts[FIRST_UNUSED], counts[LAST_STEP], counts[N_CELLS] = 2 * n_cells, state.max_episode_steps, n_cells
    counts[MAY_WAIT] = 1
    counts[HEADWAY] = 1 if state.reward_weights[COLLISION_FACTOR] > 0 else 0
    counts[STRIDE] = 4 * len(visits)
    n_rows = int(counts[STRIDE] * legs.n_legs.max(initial=1))
    if n_rows >= 2**ID_BITS or 2 * state.max_episode_steps >= MOST_STEPS:
        raise ValueError("the level is too large to be planned")
    tables = PlanTables(
        tracks=tracks,
        to_go=legs.to_go,
        legs=legs.legs,
        places=legs.places,
        visits=visits,
        trains=trains,
        search=np.zeros((n_rows, _N_SEARCH_COLUMNS), dtype=np.int32),
        heap=np.empty(4 * len(visits), dtype=np.int64),
        costs=np.zeros((n_trains, state.max_episode_steps + 1)),
        own_costs=np.zeros((2, n_trains)),
        shared_costs=np.zeros(N_SHARED_COSTS),
        chosen=np.zeros((2, n_trains), dtype=np.int64),
        counts=counts,
    )
    return tables, cells


def _unused_visits(n_cells: int, ways: NDArray[np.int32]) -> NDArray[np.int32]:
    """``visits`` without any train; ``ways``: int32 [trains], cells of the shortest way of each train."""
    reachable = ways[ways < UNREACHABLE]
    n_visits = 2 * n_cells + 2 * int(reachable.sum()) + 100 * len(ways) + 2000
    visits = np.full((n_visits, _N_VISIT_COLUMNS), NO_VISIT, dtype=np.int32)
    visits[:, TRAIN] = NOBODY
    visits[:, NEXT] = np.arange(1, n_visits + 1)
    visits[-1, NEXT] = NO_VISIT
    visits[: 2 * n_cells, NEXT] = NO_VISIT
    visits[: 2 * n_cells, [ENTER, LEAVE]] = -NEVER
    return visits
