"""Parts of flatland that make the same levels, bit for bit, in less time; ``make_rail_env_fast`` puts them in.

Most of a reset in flatland-rl 4.3.0 goes into five places that are replaced here, for one environment at a time:

- the search for where track is laid between cities, see ``track_search``;
- the search for cells whose track fits no neighbour, and their repair, which handle single bits with numpy arrays;
- the search whether a train can come to its target;
- the distance map, which walks Python dictionaries;
- the timetable, which makes a second distance map for the same trains and targets.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from flatland.core.grid.grid4_astar import a_star
from flatland.core.grid.grid_utils import IntVector2D
from flatland.envs import grid4_generators_utils
from flatland.envs.agent_utils import EnvAgent
from flatland.envs.grid.distance_map import DistanceMap
from flatland.envs.line_generators import SparseLineGen
from flatland.envs.rail_generators import SparseRailGen
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap
from flatland.envs.timetable_generators import timetable_generator
from flatland.envs.timetable_utils import Timetable

from utils.levels.track_repair import neighbours_fit, repair
from utils.levels.track_search import find_track
from utils.simulator.rail_distances import distance_maps, distances_to


class FastSparseRailGen(SparseRailGen):
    """``SparseRailGen`` with compiled searches: for where track is laid, and for the cells to repair."""

    def _connect_cities(
        self, city_positions: Any, connection_points: Any, city_cells: set[IntVector2D], rail_trans: Any, grid_map: Any
    ) -> list[list[IntVector2D]]:
        forbidden = np.zeros(grid_map.grid.shape, dtype=np.bool_)
        forbidden[tuple(np.array([*city_cells]).T)] = True

        def find(of_map: Any, start: IntVector2D, end: IntVector2D, *args: Any, **options: Any) -> list[IntVector2D]:
            if of_map is not grid_map:  # in another thread
                return a_star(of_map, start, end, *args, **options)
            cells = find_track(grid_map.grid, forbidden, *start, *end).tolist()
            as_row, as_column = map(type, start)  # the level keeps the cells; they are numpy's integers or Python's
            return [start, *((as_row(row), as_column(column)) for row, column in cells[1:])] if cells else []

        grid4_generators_utils.a_star = find
        try:
            return super()._connect_cities(city_positions, connection_points, city_cells, rail_trans, grid_map)
        finally:
            grid4_generators_utils.a_star = a_star

    def _fix_transitions(
        self,
        city_cells: set[IntVector2D],
        inter_city_lines: list[IntVector2D],
        grid_map: RailGridTransitionMap,
        vector_field: np.ndarray,
        np_random: np.random.RandomState,
    ) -> None:
        cells = np.array([*city_cells, *inter_city_lines], dtype=np.int64).reshape(-1, 2)
        is_valid = np.isin(grid_map.grid[tuple(cells.T)], [*grid_map.transitions.transitions_all])
        to_fix = cells[~(is_valid & neighbours_fit(grid_map.grid, cells))].tolist()
        # The preferred directions are read before any repair, as a list of the same length.
        for (row, column), direction in zip(to_fix, [int(vector_field[*cell]) for cell in to_fix], strict=True):
            repair(grid_map, row, column, direction, np_random)
        grid_map._reset_cache()  # what flatland has kept of the cells is out of date


class FastSparseLineGen(SparseLineGen):
    """``SparseLineGen`` with a compiled search for whether a train can come to its target."""

    @staticmethod
    def decide_orientation(
        rail: RailGridTransitionMap,
        start: tuple[IntVector2D, int],
        target: tuple[IntVector2D, int],
        possible_orientations: list[int],
        np_random: np.random.RandomState,
    ) -> int:
        """As in flatland: one of the orientations, drawn from those that lead to the target."""
        end = np.array([(0, *target[0], direction) for direction in range(4)], dtype=np.int64)
        moves = distances_to(rail.grid, end)
        reachable = SimpleNamespace(check_path_exists=lambda cell, way, _: np.isfinite(moves[(*cell, way)]))
        return SparseLineGen.decide_orientation(reachable, start, target, possible_orientations, np_random)


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
