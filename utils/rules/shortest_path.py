"""The move that brings each train nearest to its next stop, or its target, compiled, over ``RailState``."""

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_grid import DO_NOTHING, STOP_MOVING, nearest_move
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import DONE, HALTS, NEXT_MAP, STATE, configuration_of
from utils.system.compiled import compiled


@compiled
def _fill_actions(
    grid: np.ndarray, maps: np.ndarray, constants: np.ndarray, dynamic: np.ndarray, actions: np.ndarray
) -> None:
    for handle in range(actions.shape[0]):
        actions[handle] = DO_NOTHING
        if dynamic[STATE, handle] == DONE:
            continue
        if dynamic[HALTS, handle]:
            actions[handle] = STOP_MOVING
            continue
        row, column, direction = configuration_of(handle, constants, dynamic)
        actions[handle] = nearest_move(grid, maps, dynamic[NEXT_MAP, handle], row, column, direction)


def shortest_path_actions(state: RailState) -> NDArray[np.int64]:
    """The first move of each train's shortest path, int64 [trains]: forward, then left where ways are equally long.

    Trains off the map are given the move that they will make from their first cell, which also lets them depart.
    At their stops trains stand still. DO_NOTHING after arrival and where the target cannot be reached.
    """
    actions = np.empty(state.n_trains, dtype=np.int64)
    _fill_actions(state.grid, state.maps, state.constants, state.dynamic, actions)
    return actions
