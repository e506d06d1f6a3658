"""Makes the levels of ``SampledEnv``: the parts that flatland's ``RailEnv`` asks for one after the other."""

from functools import partial
from typing import Any

import numpy as np
from flatland.envs.agent_utils import EnvAgent
from flatland.envs.grid.distance_map import DistanceMap
from flatland.envs.malfunction_effects_generators import IntermediateStopMalfunctionEffectsGenerator
from flatland.envs.malfunction_generators import MalfunctionParameters, ParamMalfunctionGen
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_grid_transition_map import RailGridTransitionMap
from flatland.envs.rail_trainrun_data_structures import Waypoint
from flatland.envs.timetable_utils import Line, Timetable

from utils.levels.fast_reset import FastDistanceMap
from utils.levels.level_snapshot import NoObservations
from utils.levels.lines import Stops, legs_of, line_times, sample_lines, trains_of_lines
from utils.levels.rail_network import RailNetwork
from utils.levels.sampled_envs import STEPS_FOR_DELAYS, Disruptions, SampledEnv, SavedMap

_NO_MALFUNCTIONS = Disruptions(np.inf, 20, 50)  # flatland asks for durations all the same


def make_sampled_level(config: SampledEnv, seed: int) -> RailEnv:
    """A fresh ``RailEnv``, already reset; all of it is a function of configuration and seed.

    Raises:
        EnvConfigError: a file of a saved map has become unusable.
    """
    malfunctions, delays = config.malfunctions or _NO_MALFUNCTIONS, config.departure_delays
    source = config.map.load().rail if isinstance(config.map, SavedMap) else config.map
    env = RailEnv(
        width=source.width,
        height=source.height,
        # unlike closures these can be pickled
        rail_generator=partial(_generate_map, config),
        line_generator=partial(_generate_lines, config),
        timetable_generator=partial(_generate_timetable, config),
        number_of_agents=config.n_agents,
        malfunction_generator=ParamMalfunctionGen(
            MalfunctionParameters(1 / malfunctions.interval, malfunctions.shortest, malfunctions.longest)
        ),
        effects_generator=delays
        and IntermediateStopMalfunctionEffectsGenerator(1 / delays.interval, delays.shortest, delays.longest),
        obs_builder_object=NoObservations(),
        random_seed=seed,
        rewards=config.rewards(),
    )
    env.distance_map = FastDistanceMap([], env.height, env.width)
    env.reset(True, True, random_seed=seed)
    env.number_of_agents = len(env.agents)
    return env


def _generate_map(
    config: SampledEnv, width: int, height: int, num_agents: int, num_resets: int, np_random: np.random.RandomState
) -> tuple[RailGridTransitionMap, dict[str, Any]]:
    """Map and hints, as flatland's rail generators give them; with them goes the map's network, for the two below."""
    found = config.map.load() if isinstance(config.map, SavedMap) else config.map.generate(np_random)
    hints = {"agents_hints": {"network": found.network}, "level_free_positions": set(found.level_free)}
    return found.rail, hints


def _generate_lines(
    config: SampledEnv,
    rail: RailGridTransitionMap,
    num_agents: int,
    hints: dict[str, Any],
    num_resets: int,
    np_random: np.random.RandomState,
) -> Line:
    """Draws how many trains there are, the lines, and which train runs on which; all at speed 1.

    Trains of one line follow each other, the first departs first.
    """
    network: RailNetwork = hints["network"]
    least, most = config.trains
    n_trains = np_random.randint(least, most + 1)
    n_lines, limits = config.n_lines(n_trains, network), config.limits(n_trains, network)
    lines = sample_lines(network, n_lines, limits, np_random)
    waypoints = [
        _waypoints(line, network)
        for line, n in zip(lines, trains_of_lines(n_trains, len(lines)), strict=True)
        for _ in range(n)
    ]
    return Line(dict(enumerate(waypoints)), [1.0] * n_trains)


def _waypoints(line: Stops, network: RailNetwork) -> list[list[Waypoint]]:
    found = ([network.places[place] for place in stop] for stop in line)
    return [[Waypoint((row, column), direction) for row, column, direction in stop] for stop in found]


def _generate_timetable(
    config: SampledEnv,
    agents: list[EnvAgent],
    distance_map: DistanceMap,
    agents_hints: dict[str, Any],
    np_random: np.random.RandomState,
) -> Timetable:
    """The times of all trains, and how long the episode may last.

    The first train of each line departs at step 0, the others at intervals.
    """
    network: RailNetwork = agents_hints["network"]
    departures, arrivals = [], []
    first = 0
    for n_trains in trains_of_lines(len(agents), config.n_lines(len(agents), network)):
        line = [[_place(network, waypoint) for waypoint in stop] for stop in agents[first].waypoints]
        legs = legs_of(line, network)
        for train in range(n_trains):
            own_departures, own_arrivals = line_times(legs, config.travel_factor, train * config.interval)
            departures.append(own_departures)
            arrivals.append(own_arrivals)
        first += n_trains
    last = max(own_arrivals[-1] or 0 for own_arrivals in arrivals)
    return Timetable(departures, arrivals, config.max_episode_steps or STEPS_FOR_DELAYS * last)


def _place(network: RailNetwork, waypoint: Waypoint) -> int:
    return network.place_of[(*waypoint.position, int(waypoint.direction))]
