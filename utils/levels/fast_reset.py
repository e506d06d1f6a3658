"""Parts of flatland that make the same levels, bit for bit, in less time; ``make_rail_env_fast`` puts them in.

Most of a reset in flatland-rl 4.3.0 goes into three places that are replaced here, for one environment at a time
and without touching flatland's classes:

- the search for cells whose track fits no neighbour, which handles single bits with numpy arrays;
- the distance map, which walks Python dictionaries;
- the timetable, which makes a second distance map for the same trains and targets.
"""

from typing import Any

import numpy as np
from flatland.core.grid.grid_utils import IntVector2D
from flatland.envs.agent_utils import EnvAgent
from flatland.envs.grid.distance_map import DistanceMap
from flatland.envs.rail_generators import SparseRailGen
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap
from flatland.envs.timetable_generators import timetable_generator
from flatland.envs.timetable_utils import Timetable

from utils.simulator.rail_distances import distance_maps
from utils.simulator.rail_grid import COLUMN_STEP, ROW_STEP, exits_of, has_exit, is_inside
from utils.system.compiled import compiled, compiled_helper


class FastSparseRailGen(SparseRailGen):
    """``SparseRailGen`` with a compiled search for the cells to repair; the repair itself is flatland's."""

    def _fix_transitions(
        self,
        city_cells: set[IntVector2D],
        inter_city_lines: list[IntVector2D],
        grid_map: RailGridTransitionMap,
        vector_field: np.ndarray,
        np_random: np.random.RandomState,
    ) -> None:
        cells = np.array([*city_cells, *inter_city_lines], dtype=np.int64).reshape(-1, 2)
        is_valid = np.array([grid_map.transitions.is_valid(grid_map.grid[row, column]) for row, column in cells])
        grid = np.ascontiguousarray(grid_map.grid)
        to_fix = cells[~(is_valid & neighbours_fit(grid, cells))]
        # The preferred directions are read before any repair, as a list of the same length.
        for cell, direction in zip(to_fix, [vector_field[row, column] for row, column in to_fix], strict=True):
            SparseRailGen.fix_transitions(grid_map, (cell[0], cell[1]), np.int64(direction), np_random)


@compiled
def neighbours_fit(grid: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Whether track leads on wherever each cell leads to; what ``cell_neighbours_valid`` finds, without its cache.

    Args:
        grid: uint16 ``[height, width]``.
        cells: int64 ``[cells, 2]``, rows and columns.

    Returns:
        bool ``[cells]``.
    """
    fits = np.empty(cells.shape[0], dtype=np.bool_)
    for i in range(cells.shape[0]):
        fits[i] = True
        row, column = cells[i]
        cell = grid[row, column]
        for direction in range(4):
            next_row, next_column = row + ROW_STEP[direction], column + COLUMN_STEP[direction]
            inside = is_inside(grid.shape[0], grid.shape[1], next_row, next_column)
            if has_exit(_all_exits(cell), direction):
                # Track must go on into a neighbour that accepts this direction.
                if not inside or exits_of(grid[next_row, next_column], direction) == 0:
                    fits[i] = False
            # An empty cell must have no neighbour that leads into it.
            elif cell == 0 and inside and has_exit(_all_exits(grid[next_row, next_column]), (direction + 2) % 4):
                fits[i] = False
    return fits


@compiled_helper
def _all_exits(cell: int) -> int:
    """The directions in which a cell can be left, from wherever it is entered; four bits."""
    return exits_of(cell, 0) | exits_of(cell, 1) | exits_of(cell, 2) | exits_of(cell, 3)


class FastDistanceMap(DistanceMap):
    """``DistanceMap`` with a compiled search; of 4.2.6, too, whose helpers have other names."""

    def _compute(self, agents: list[EnvAgent], rail: RailGridTransitionMap) -> None:
        self.agents_previous_computation = self.agents
        targets = [filter(rail.is_valid_configuration, agent.targets) for agent in agents]
        places = [[(*position, int(direction)) for position, direction in of_train] for of_train in targets]
        self.distance_map = distance_maps(np.ascontiguousarray(rail.grid, dtype=np.uint16), places)


def fast_timetable(
    agents: list[EnvAgent],
    distance_map: DistanceMap,
    agents_hints: dict[str, Any] | None,
    np_random: np.random.RandomState,
) -> Timetable:
    """flatland's ``timetable_generator`` for trains without intermediate stops, with the same random draws.

    It needs only the lengths of the shortest paths, in cells, and the distance map has them. Constants and the
    order of the operations (on fractions and floats) are flatland's.
    """
    if any(len(agent.waypoints) != 2 for agent in agents):
        return timetable_generator(agents, distance_map, agents_hints, np_random)
    n_cities = len(agents_hints["city_positions"]) if agents_hints else 2
    size = distance_map.rail.width + distance_map.rail.height + len(agents) / n_cities
    moves = moves_to_targets(agents, distance_map)
    # in cells, both ends counted; 0 without a path; whole numbers, which flatland divides by fractions
    path_lengths = np.where(np.isfinite(moves), moves + 1, 0).astype(np.int64)
    path_times = path_lengths / np.array([agent.speed_counter.speed for agent in agents])
    mean_delay = np.mean(path_times) * 0.2
    max_episode_steps = min(int(np.ceil(np.max(path_times) * 1.5) + mean_delay), int(int(4 * 2 * size) * 3.0))
    last_arrival = max_episode_steps - int(max_episode_steps * 0.05)

    departures, arrivals = [], []
    for agent, path_time in zip(agents, path_times, strict=True):
        travel_time = int(np.ceil((path_time * 1.3) + mean_delay))
        departure = np_random.randint(0, max(last_arrival - travel_time, 1))
        agent.earliest_departure, agent.latest_arrival = departure, departure + travel_time
        departures.append([departure, None])
        arrivals.append([None, departure + travel_time])
    return Timetable(earliest_departures=departures, latest_arrivals=arrivals, max_episode_steps=max_episode_steps)


def moves_to_targets(agents: list[EnvAgent], distance_map: DistanceMap) -> np.ndarray:
    """Moves from where each train starts to its target, float64 ``[trains]``; infinite where no way leads there."""
    starts = [(*agent.initial_configuration[0], int(agent.initial_configuration[1])) for agent in agents]
    return distance_map.get()[(np.arange(len(agents)), *np.array(starts).T)]
