"""Helpers of the tests: environments whose trains have intermediate stops."""

from collections.abc import Mapping, Sequence

import numpy as np
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_trainrun_data_structures import Waypoint

from tests.helpers.rail_envs import EAST, Configuration, drawn_env, sparse_env
from tests.helpers.simulator_lockstep import add_stops, shortest_ways


def with_stops(
    env: RailEnv, stops: Mapping[int, Sequence[Sequence[Configuration]]], times: Sequence[tuple[int, int]] | None = None
) -> RailEnv:
    """Gives trains their stops, each a list of places.

    ``times`` are latest arrivals and earliest departures; else all are due at step 10 and left from step 5 on.
    """
    for handle, places_of_stops in stops.items():
        agent = env.agents[handle]
        between = [[Waypoint(*place) for place in places] for places in places_of_stops]
        latest, earliest = zip(*(times or [(10, 5)] * len(between)), strict=True)
        agent.waypoints = [agent.waypoints[0], *between, agent.waypoints[-1]]
        agent.waypoints_latest_arrival = [None, *latest, agent.latest_arrival]
        agent.waypoints_earliest_departure = [agent.earliest_departure, *earliest, None]
    return env


def line_env(
    *stops: Sequence[Configuration],
    n_trains: int = 1,
    times: Sequence[tuple[int, int]] | None = None,
    n_steps: int = 100,
) -> RailEnv:
    """Trains from the west end of a line to its east end; the first has the stops."""
    env = drawn_env(["<------->"], [(((0, 1), EAST), (0, 7))] * n_trains, max_episode_steps=n_steps)
    return with_stops(env, {0: stops}, times)


def sparse_env_with_stops(seed: int, malfunction_rate: float = 1 / 50) -> RailEnv:
    """A generated environment with stops on the shortest ways of its trains."""
    env = sparse_env(seed, malfunction_rate=malfunction_rate)
    add_stops(env, shortest_ways(env), np.random.default_rng(seed))
    return env
