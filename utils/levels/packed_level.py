"""A level that is ready for ``CompiledSimulator`` as a few kilobytes, to be sent between processes.

The distance map, nearly all of a level (288 kB for ten trains on 30 x 30 cells), is left out and computed again: that
takes a fraction of a millisecond. So are the zeros of the table of malfunctions.
"""

import pickle
import zlib

import numpy as np
from numpy.typing import NDArray

from utils.simulator.compiled_simulator import CompiledSimulator, warn_if_flatland_is_unproven
from utils.simulator.effect_steps import EffectArrays
from utils.simulator.rail_distances import distance_maps
from utils.simulator.rail_grid import exits_of, has_exit
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import TARGET_COLUMN, TARGET_DIRECTIONS, TARGET_ROW
from utils.simulator.stops import make_stops

_FASTEST = 1  # of zlib: four times smaller in 0.1 ms


class UnpackableLevelError(ValueError):
    """The level cannot be packed; the message is one sentence."""


def pack_level(simulator: CompiledSimulator) -> bytes:
    """The level of a simulator that has not been stepped.

    Raises:
        UnpackableLevelError: it has been stepped, or has malfunctions under conditions of one's own.
    """
    state = simulator.state
    if state.elapsed_steps != 0:
        raise UnpackableLevelError(f"only a level at step 0 can be packed, this one is at {state.elapsed_steps}")
    if simulator.own_conditions is not None:
        raise UnpackableLevelError("a level with conditions of one's own for its malfunctions cannot be packed")
    malfunctions = simulator.malfunctions.ravel()
    (places,) = np.nonzero(malfunctions)
    arrays = (
        state.grid,
        state.level_free,
        state.constants,
        state.dynamic,
        state.served,
        simulator.plans,
        simulator.halts,
        state.reward_weights,
        places,
        malfunctions[places],
        *state.stops[:5],
        *simulator.effects,
    )
    content = [(array.dtype.str, array.shape, array.tobytes()) for array in arrays]
    packed = pickle.dumps((state.max_episode_steps, state.goes_to_stops, state.plan_ahead, content))
    return zlib.compress(packed, _FASTEST)


def unpack_level(packed: bytes) -> CompiledSimulator:
    """The simulator that was packed, with arrays of its own."""
    warn_if_flatland_is_unproven()
    max_episode_steps, goes_to_stops, plan_ahead, content = pickle.loads(zlib.decompress(packed))
    arrays: list[NDArray] = [np.ndarray(shape, kind, written).copy() for kind, shape, written in content]
    grid, level_free, constants, dynamic, served, plans, halts, weights, places, durations = arrays[:10]
    distance_map = distance_map_of(grid, constants)
    targets = constants[[TARGET_ROW, TARGET_COLUMN, TARGET_DIRECTIONS]]
    stops = make_stops(grid, distance_map, targets, *arrays[10:15])
    state = RailState(grid, distance_map, level_free, constants, max_episode_steps, stops, weights)
    state.dynamic[:] = dynamic
    state.served[:] = served
    state.goes_to_stops = goes_to_stops
    state.plan_ahead = plan_ahead
    malfunctions = np.zeros((max_episode_steps, state.n_trains), dtype=np.int32)
    malfunctions.ravel()[places] = durations
    return CompiledSimulator(state, plans, malfunctions, halts, EffectArrays(*arrays[15:]))


def distance_map_of(grid: NDArray[np.uint16], constants: NDArray[np.int32]) -> NDArray[np.float64]:
    """flatland's distance map, float64 ``[trains, height, width, 4]``; the arrays are those of ``RailState``."""
    targets = []
    for row, column, directions in constants[[TARGET_ROW, TARGET_COLUMN, TARGET_DIRECTIONS]].T.tolist():
        cell = int(grid[row, column])
        # As flatland does, leave out directions in which no train can be there.
        arriving = (d for d in range(4) if has_exit(directions, d) and exits_of(cell, d))
        targets.append([(row, column, direction) for direction in arriving])
    return distance_maps(grid, targets)
