"""A level that is ready for ``CompiledSimulator`` as a few kilobytes, to be sent between processes.

The distance map, nearly all of a level (288 kB for ten trains on 30 x 30 cells), is left out and computed again: that
takes a fraction of a millisecond. So are the zeros of the table of malfunctions.
"""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.simulator.compiled_simulator import CompiledSimulator, warn_if_flatland_is_unproven
from utils.simulator.effect_steps import (
    N_CONDITION_ROWS,
    N_EFFECT_ROWS,
    N_GENERATOR_ROWS,
    N_PLACE_ROWS,
    EffectArrays,
)
from utils.simulator.mersenne_twister import N_POSITIONS, N_WORDS
from utils.simulator.rail_distances import distances_to
from utils.simulator.rail_grid import exits_of
from utils.simulator.rail_rewards import N_HALTS, N_WEIGHTS
from utils.simulator.rail_state import (
    N_CONSTANTS,
    N_DYNAMIC,
    TARGET_COLUMN,
    TARGET_DIRECTIONS,
    TARGET_ROW,
    RailState,
)
from utils.simulator.rail_step import N_PLANS
from utils.simulator.stops import make_stops

_HEADER = struct.Struct("<13i")  # the sizes of the level: see ``_layout``
_FASTEST = 1  # of zlib: four times smaller in 0.1 ms


class UnpackableLevelError(ValueError):
    """The level cannot be packed; the message is one sentence."""


def pack_level(simulator: CompiledSimulator) -> bytes:
    """The level of a simulator that has not been stepped.

    Raises:
        UnpackableLevelError: it has been stepped, it has malfunctions under conditions of one's own, or its distance
            map is not the one that its map and targets give.
    """
    state = simulator.state
    if state.elapsed_steps != 0:
        raise UnpackableLevelError(f"only a level at step 0 can be packed, this one is at {state.elapsed_steps}")
    if simulator.own_conditions is not None:
        raise UnpackableLevelError("a level with conditions of one's own for its malfunctions cannot be packed")
    if not np.array_equal(state.distance_map, distance_map_of(state.grid, state.constants)):
        raise UnpackableLevelError("the distance map of the level is not the one that its map and targets give")
    (places,) = np.nonzero(simulator.malfunctions.ravel())
    effects, stops = simulator.effects, state.stops
    tables = simulator.halts, effects.effects, effects.conditions, effects.places, effects.generators
    n_columns = (table.shape[1] for table in tables)
    sizes = (
        state.n_trains,
        *state.grid.shape,
        state.max_episode_steps,
        len(stops.latest_arrival),
        len(places),
        *n_columns,
        len(effects.keys),
        len(state.plan_ahead),
    )
    # the type is told: what mypy infers for it depends on the order in which it meets the modules
    arrays: tuple[NDArray[Any], ...] = (
        state.constants,
        state.dynamic,
        simulator.plans,
        simulator.halts,
        simulator.weights,
        places,
        simulator.malfunctions.ravel()[places],
        state.grid,
        np.packbits(state.level_free),
        stops.places,
        stops.first_place,
        stops.latest_arrival,
        stops.earliest_departure,
        stops.first_stop,
        state.served,
        *effects,
        np.frombuffer(state.plan_ahead, np.uint8),
    )
    parts = [_HEADER.pack(*sizes)]
    for array, (kind, _) in zip(arrays, _layout(*sizes), strict=True):
        parts.append(array.astype(kind).tobytes())
    return zlib.compress(b"".join(parts), _FASTEST)


def unpack_level(packed: bytes) -> CompiledSimulator:
    """The simulator that was packed, with arrays of its own."""
    warn_if_flatland_is_unproven()
    content = zlib.decompress(packed)
    sizes = _HEADER.unpack_from(content)
    return _simulator(_arrays(content, *sizes), *sizes)


def _layout(
    n_trains: int,
    height: int,
    width: int,
    _max_episode_steps: int,
    n_stops: int,
    n_malfunctions: int,
    n_places: int,
    n_effects: int,
    n_conditions: int,
    n_effect_places: int,
    n_generators: int,
    n_streams: int,
    n_ahead: int,
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Types and shapes of the arrays behind the header, little-endian, in this order."""
    return (
        ("<i4", (N_CONSTANTS, n_trains)),
        ("<i4", (N_DYNAMIC, n_trains)),
        ("<i4", (N_PLANS, n_trains)),
        ("<f8", (N_HALTS, n_places)),
        ("<f8", (N_WEIGHTS,)),
        ("<i4", (n_malfunctions,)),  # places in the table of malfunctions
        ("<i4", (n_malfunctions,)),  # what stands there
        ("<u2", (height, width)),  # the grid
        ("u1", ((height * width + 7) // 8,)),  # level-free cells, a bit each
        # those of ``Stops`` and what was served
        ("<i4", (n_places, 3)),
        ("<i4", (n_stops + 1,)),
        ("<i4", (n_stops,)),
        ("<i4", (n_stops,)),
        ("<i4", (n_trains + 1,)),
        ("u1", (n_places,)),
        # the fields of ``EffectArrays``
        ("<f8", (N_EFFECT_ROWS, n_effects)),
        ("<f8", (N_CONDITION_ROWS, n_conditions)),
        ("<i4", (2, n_conditions, n_trains)),
        ("<i4", (N_PLACE_ROWS, n_effect_places)),
        ("<f8", (N_GENERATOR_ROWS, n_generators)),
        ("<u4", (n_streams, N_WORDS)),
        ("<i8", (n_streams, N_POSITIONS)),
        ("u1", (n_ahead,)),  # a plan
    )


def _arrays(content: bytes, *sizes: int) -> list[NDArray]:
    """Copies of the arrays behind the header."""
    arrays = []
    offset = _HEADER.size
    for kind, shape in _layout(*sizes):
        count = int(np.prod(shape))
        array = np.frombuffer(content, kind, count, offset) if count else np.empty(0, kind)
        offset += array.nbytes
        arrays.append(array.reshape(shape).astype(array.dtype.newbyteorder("=")))
    return arrays


def _simulator(
    arrays: list[NDArray],
    n_trains: int,
    height: int,
    width: int,
    max_episode_steps: int,
    *_other_sizes: int,
) -> CompiledSimulator:
    constants, dynamic, plans, halts, weights, places, durations, grid, level_free_bits = arrays[:9]
    stop_arrays, served, effects, plan_ahead = arrays[9:14], arrays[14], arrays[15:-1], arrays[-1]
    has_target = np.zeros(grid.shape, dtype=np.bool_)
    has_target[constants[TARGET_ROW], constants[TARGET_COLUMN]] = True
    level_free = np.unpackbits(level_free_bits, count=grid.size).astype(np.bool_).reshape(height, width)
    distance_map = distance_map_of(grid, constants)
    stops = make_stops(grid, distance_map, constants[[TARGET_ROW, TARGET_COLUMN, TARGET_DIRECTIONS]], *stop_arrays)
    state = RailState(grid, distance_map, level_free, has_target, constants, max_episode_steps, stops)
    state.dynamic[:] = dynamic
    state.served[:] = served
    state.plan_ahead = plan_ahead.tobytes()
    malfunctions = np.zeros((max_episode_steps, n_trains), dtype=np.int32)
    malfunctions.ravel()[places] = durations
    return CompiledSimulator(state, plans, malfunctions, halts, weights, EffectArrays(*effects))


def distance_map_of(grid: NDArray[np.uint16], constants: NDArray[np.int32]) -> NDArray[np.float64]:
    """flatland's distance map.

    Args:
        grid: ``[height, width]``.
        constants: ``[N_CONSTANTS, trains]``, see ``RailState``.

    Returns:
        ``[trains, height, width, 4]``.
    """
    distances = np.empty((constants.shape[1], *grid.shape, 4))
    first_with: dict[tuple[int, int, int], int] = {}
    targets = zip(*constants[[TARGET_ROW, TARGET_COLUMN, TARGET_DIRECTIONS]].tolist(), strict=True)
    for train, (row, column, directions) in enumerate(targets):
        same = first_with.setdefault((row, column, directions), train)
        if same < train:
            distances[train] = distances[same]
            continue
        cell = int(grid[row, column])
        # As flatland does, leave out directions in which no train can be there.
        arriving = [
            direction for direction in range(4) if directions >> (3 - direction) & 1 and exits_of(cell, direction)
        ]
        rows = [(row, column, direction) for direction in arriving]
        distances[train] = distances_to(grid, np.array(rows, dtype=np.int64).reshape(-1, 3))
    return distances
