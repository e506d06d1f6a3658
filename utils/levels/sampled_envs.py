"""Environments whose lines and timetables are sampled anew for each level, on a saved map or on generated ones."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap
from flatland.envs.rewards import DefaultRewards, Rewards

from utils.levels.fast_reset import FastSparseRailGen
from utils.levels.lines import LineLimits, time_to_next_station
from utils.levels.rail_network import RailNetwork
from utils.levels.saved_levels import EnvConfigError, read_content, stamp_of
from utils.levels.stations import Stations, read_stations

LONGEST_EPISODE = 10_000  # steps, where the configuration sets no other limit
STEPS_FOR_DELAYS = 2  # an episode lasts so many times as long as until the last train should have arrived


@dataclass(frozen=True)
class Map:
    """A map ready for lines: shared by all levels that are made on it."""

    rail: RailGridTransitionMap
    level_free: frozenset[tuple[int, int]]
    network: RailNetwork


@dataclass(frozen=True)
class SavedMap:
    """The map of an environment that ``RailEnvPersister`` saved; its trains and all else do not count.

    Flatland's classes unpickle the file, and a pickle can run any code: only open files you trust.
    """

    path: Path  # the saved environment
    # a file that ``read_stations`` reads; None: they are where the saved trains start, stop and end
    stations: Path | None = None
    scene: str | None = None  # only stations of this scene are used; None for all

    def load(self) -> Map:
        """The map, read again only if a file has changed.

        Raises:
            EnvConfigError: a file cannot be used, or there are no two stations with a way between them.
        """
        return _load(self, stamp_of(self.path, "map"), self.stations and stamp_of(self.stations, "file of stations"))


@lru_cache(maxsize=8)
def _load(saved: SavedMap, *_stamps: Hashable) -> Map:
    content = read_content(saved.path)
    grid = np.array(content["grid"], dtype=np.uint16)
    where = f"the map {str(saved.path)!r}"
    if saved.stations is not None:
        stations = read_stations(saved.stations)
    else:
        stations = Stations.from_trains(content.get("agents", ()))
        if saved.scene is not None:
            raise EnvConfigError(f"{where} tells of no scenes: give its stations, a file that knows them")
        if len(stations.cells) < 2:
            raise EnvConfigError(f"{where} has no stations: give a file that knows at least two")
    for row, column in (cell for cells in stations.cells for cell in cells):
        if not (0 <= row < grid.shape[0] and 0 <= column < grid.shape[1] and grid[row, column]):
            raise EnvConfigError(
                f"the stations {str(saved.stations)!r} do not belong to {where}: there is no track in row {row}, "
                f"column {column}"
            )
    if saved.scene is not None:
        stations = stations.of_scene(saved.scene)
    network = RailNetwork.of(grid, stations)
    if not np.isfinite(network.station_moves).any():
        raise EnvConfigError(f"{where} has no way from one of the {network.n_stations} stations to another")
    rail = RailGridTransitionMap(width=grid.shape[1], height=grid.shape[0])
    rail.grid = grid
    level_free = frozenset((int(row), int(column)) for row, column in content.get("level_free_positions") or ())
    return Map(rail, level_free, network)


@dataclass(frozen=True)
class GeneratedMap:
    """Maps that flatland's ``sparse_rail_generator`` makes, a new one for each level."""

    width: int  # columns
    height: int  # rows
    n_cities: int  # how many cities, each a station, the generator tries to place; it may place fewer
    max_rail_pairs_in_city: int = 2  # pairs of parallel tracks in a city
    max_rails_between_cities: int = 2  # tracks that leave a city towards another one

    def generate(self, random: np.random.RandomState) -> Map:
        """A map that is drawn with these random numbers."""
        generator = FastSparseRailGen(
            max_num_cities=self.n_cities,
            max_rails_between_cities=self.max_rails_between_cities,
            max_rail_pairs_in_city=self.max_rail_pairs_in_city,
        )
        rail, found = generator.generate(self.width, self.height, 0, np_random=random)
        network = RailNetwork.of(np.ascontiguousarray(rail.grid), Stations.from_hints(found["agents_hints"]))
        return Map(rail, frozenset(found["level_free_positions"]), network)


@dataclass(frozen=True)
class Disruptions:
    """How often and for how long trains stand still."""

    interval: float  # steps from one to the next on average, of a train to which it can happen
    shortest: int  # steps, inclusive
    longest: int  # the same


@dataclass(frozen=True)
class SampledEnv:
    """A distribution of levels on one map, or on maps of one kind; see ``docs/environments.md``."""

    name: str  # shown in logs
    map: SavedMap | GeneratedMap  # where lines are sampled
    trains: tuple[int, int]  # least and most trains of a level, drawn evenly
    # least and most stations of a line, start and target included, see ``LineLimits``
    waypoints: tuple[int, int] = (3, 4)
    lines: int | None = None  # how many lines, at most one for each train; None: as many as there are stations
    interval: int = 30  # steps from one train of a line to the next
    travel_factor: float = 1.2  # steps in the timetable for each cell of the shortest way
    max_episode_steps: int | None = None  # None: twice the last latest arrival
    malfunctions: Disruptions | None = None  # breakdowns at any place; None for none
    # breakdowns at waypoints only, where a train has stopped; None for none
    departure_delays: Disruptions | None = None
    rewards: type[Rewards] = DefaultRewards  # made anew for each level

    @property
    def n_agents(self) -> int:
        """The most trains that a level has."""
        return self.trains[1]

    def n_lines(self, n_trains: int, network: RailNetwork) -> int:
        """How many lines the trains of a level run on."""
        return min(self.lines or network.n_stations, n_trains)

    def limits(self, n_trains: int, network: RailNetwork) -> LineLimits:
        """What lines a level with so many trains may have: the last train of each must arrive in time."""
        trains_of_a_line = math.ceil(n_trains / self.n_lines(n_trains, network))
        longest = self._last_arrival - (trains_of_a_line - 1) * self.interval
        return LineLimits(*self.waypoints, self.travel_factor, longest)

    @property
    def _last_arrival(self) -> int:
        return self.max_episode_steps or LONGEST_EPISODE // STEPS_FOR_DELAYS

    def check(self) -> None:
        """Reads the files, so that a wrong one is noticed before training starts.

        Raises:
            EnvConfigError: a file cannot be used, or more trains are asked for than departures fit into an episode.
        """
        if not isinstance(self.map, SavedMap):
            return
        network = self.map.load().network
        needed, steps = time_to_next_station(network, self.travel_factor), self._last_arrival
        n_lines = self.n_lines(self.n_agents, network)
        fitting = n_lines * max((steps - needed) // self.interval + 1, 0)
        if self.n_agents > fitting:
            raise EnvConfigError(
                f"{self.name}: {self.n_agents} trains are asked for, but only {fitting} departures fit in: there are "
                f"{n_lines} lines with a train every {self.interval} steps, the next station may be {needed} steps "
                f"away, and the last train must arrive within {steps} steps"
            )
