"""Where trains will be if nothing holds them up, and where they would then be in each other's way. Compiled.

flatland's ``TreeObsForRailEnv`` means to tell this in ``dist_potential_conflict``, but looks for a list that holds
the index of a cell where it should look for the index, and never finds it. Here the feature is what flatland would
compute with the index. All else is as in flatland, ``ShortestPathPredictorForRailEnv(PREDICTED_STEPS)`` included:

- From now on each train moves at full speed along its shortest path, also off the map and in a malfunction. It
  stops at its target, and after ``PREDICTED_STEPS`` cells, the present one included. A train that has arrived, or
  that has no way to its target, stays where it is: arrived trains haunt their targets.
- The index of a cell is column x width + row. On grids that are higher than wide some cells share an index, and a
  train in one of them is seen in the others too.
- A branch is compared with the trains in the step in which the observing train would come to the cell; if there is
  no other train, in the step before; if there is none either, in the step after. Once another train is found, the
  observing train's own prediction counts like any other.
- A train is in conflict if it has arrived, or if it heads another way than the observing train and the observing
  train could leave the cell towards where the other one comes from.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import MOVE_FORWARD, MOVE_LEFT, MOVE_RIGHT, count_exits, exits_of, possible_move
from utils.simulator.rail_state import (
    DENOMINATOR,
    DONE,
    MAX_SPEED,
    STATE,
    TARGET_COLUMN,
    TARGET_ROW,
    RailState,
    configuration_of,
)
from utils.system.compiled import compiled_helper

# The classic kit's depth of prediction.
PREDICTED_STEPS = 30

# What is predicted in a cell at a step is one number: four bits for the directions of trains there (north highest),
# one bit for arrived trains, and above them the number of trains. Nothing else matters to a conflict.
_DIRECTIONS = 0b01111
_ARRIVED = 0b10000
_ONE_TRAIN = 0b100000


class Forecast(NamedTuple):
    """Memory for the predictions of all trains, for one size of grid and one number of trains.

    Attributes:
        cells: int32 [trains, PREDICTED_STEPS + 1], the index of the cell where a train is predicted, from now on.
        traffic: int32 [indices, PREDICTED_STEPS + 1], the trains predicted at an index; all zero between calls.
    """

    cells: NDArray[np.int32]
    traffic: NDArray[np.int32]

    @classmethod
    def for_state(cls, state: RailState) -> "Forecast":
        """New memory, of the sizes that the level needs."""
        n_steps = PREDICTED_STEPS + 1
        return cls(
            np.zeros((state.n_trains, n_steps), dtype=np.int32),
            np.zeros((_count_indices(*state.grid.shape), n_steps), dtype=np.int32),
        )

    def fits(self, state: RailState) -> bool:
        """Whether the memory is of the sizes that the level needs."""
        return len(self.cells) == state.n_trains and len(self.traffic) == _count_indices(*state.grid.shape)


def _count_indices(height: int, width: int) -> int:
    """One more than the largest index of a cell."""
    return (width - 1) * width + height


@compiled_helper
def index_of(width: int, row: int, column: int) -> int:
    """flatland's index of a cell, see above; it means columns x height and so is not unique on high grids."""
    return column * width + row


@compiled_helper
def _next_on_shortest_path(
    handle: int, grid: np.ndarray, distance_map: np.ndarray, row: int, column: int, direction: int
) -> tuple[int, int, int]:
    """Row, column and direction one cell on; the first of left, forward and right if several are shortest.

    Three times -1 where there is no way to the target.
    """
    # Where there is no choice the distance map, the largest array of a level, need not be read.
    if count_exits(exits_of(int(grid[row, column]), direction)) == 1:
        return possible_move(grid, row, column, direction, MOVE_FORWARD)
    shortest = np.inf
    chosen = (-1, -1, -1)
    for action in range(MOVE_LEFT, MOVE_RIGHT + 1):
        following = possible_move(grid, row, column, direction, action)
        if following[0] >= 0:
            distance = distance_map[handle, following[0], following[1], following[2]]
            if distance < shortest:
                shortest = distance
                chosen = following
    return chosen


@compiled_helper
def _predict_train(
    handle: int,
    grid: np.ndarray,
    distance_map: np.ndarray,
    constants: np.ndarray,
    dynamic: np.ndarray,
    forecast: Forecast,
) -> None:
    """Enter one train into the forecast."""
    row, column, direction = configuration_of(handle, constants, dynamic)
    arrived = dynamic[STATE, handle] == DONE
    traffic = (_ARRIVED if arrived else 0) | (8 >> direction)
    steps_per_cell = constants[DENOMINATOR, handle] // constants[MAX_SPEED, handle]
    n_cells = 1
    # From a cell with a finite distance there is a way on, and it leads to a cell with a finite distance.
    moves = not arrived and distance_map[handle, row, column, direction] < np.inf
    for step in range(PREDICTED_STEPS + 1):
        if row == constants[TARGET_ROW, handle] and column == constants[TARGET_COLUMN, handle]:
            moves = False
        if moves and step > 0 and step % steps_per_cell == 0 and n_cells < PREDICTED_STEPS:
            following = _next_on_shortest_path(handle, grid, distance_map, row, column, direction)
            moves = following[0] >= 0
            if moves:
                row, column, direction = following
                n_cells += 1
                traffic = 8 >> direction
        index = index_of(grid.shape[1], row, column)
        forecast.cells[handle, step] = index
        forecast.traffic[index, step] = (forecast.traffic[index, step] | traffic) + _ONE_TRAIN


@compiled_helper
def predict_trains(
    grid: np.ndarray, distance_map: np.ndarray, constants: np.ndarray, dynamic: np.ndarray, forecast: Forecast
) -> None:
    """Fill the forecast with all trains."""
    for handle in range(dynamic.shape[1]):
        _predict_train(handle, grid, distance_map, constants, dynamic, forecast)


@compiled_helper
def clear_forecast(forecast: Forecast) -> None:
    """Undo ``predict_trains``: cheaper than clearing the grid."""
    for handle in range(forecast.cells.shape[0]):
        for step in range(PREDICTED_STEPS + 1):
            forecast.traffic[forecast.cells[handle, step], step] = 0


@compiled_helper
def is_conflict_predicted(
    handle: int,
    row: int,
    column: int,
    direction: int,
    distance: int,
    grid: np.ndarray,
    constants: np.ndarray,
    forecast: Forecast,
) -> bool:
    """Whether a train that comes to a cell ``distance`` cells away, heading in ``direction``, meets a conflict."""
    # Rounded as in flatland, which multiplies by the inverse of the speed.
    arrival = int(distance * (1.0 / (constants[MAX_SPEED, handle] / constants[DENOMINATOR, handle])))
    if arrival > PREDICTED_STEPS or distance > PREDICTED_STEPS:
        return False
    index = index_of(grid.shape[1], row, column)
    for shift in (0, -1, 1):
        step = min(max(arrival + shift, 0), PREDICTED_STEPS)
        traffic = forecast.traffic[index, step]
        own = _ONE_TRAIN if forecast.cells[handle, step] == index else 0
        if traffic - own >= _ONE_TRAIN:
            others = traffic & _DIRECTIONS & ~(8 >> direction)
            turned_round = (others << 2) | (others >> 2)
            exits = exits_of(int(grid[row, column]), direction)
            return traffic & _ARRIVED != 0 or turned_round & exits != 0
    return False
