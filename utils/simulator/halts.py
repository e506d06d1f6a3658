"""The intermediate stops of an environment as ``Stops``, and what its rewards have noted of visits to them."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_trainrun_data_structures import Waypoint
from flatland.envs.rewards import BaseDefaultRewards
from numpy.typing import NDArray

from utils.simulator.flatland_versions import CHOSEN_STOPS_COST, configuration_of_waypoint
from utils.simulator.rail_rewards import (
    HALT_LEFT,
    HALT_REACHED,
    N_HALTS,
    NOT_HERE,
    NOT_LEFT,
    NOT_VISITED,
    SINCE_BEFORE,
    end_visit,
)
from utils.simulator.state_arrays import OPEN_END, STOPPED, TARGET_COLUMN, TARGET_DIRECTIONS, TARGET_ROW
from utils.simulator.stops import Stops, make_stops
from utils.simulator.unsupported_level import UnsupportedLevel

Configuration = tuple[tuple[int, int], int]


def stops_of(
    env: RailEnv, grid: NDArray[np.uint16], distance_map: NDArray[np.float64], constants: NDArray[np.int32]
) -> Stops:
    """The stops of an environment, at any step; the arrays are those of ``RailState``."""
    places: list[tuple[int, int, int]] = []
    first_place, first_stop, latest, earliest = [0], [0], [], []
    for agent in env.agents:
        for waypoints, latest_arrival, earliest_departure in _stops_of_train(agent):
            places += _places_of(waypoints, grid.shape)
            first_place.append(len(places))
            latest.append(OPEN_END if latest_arrival is None else min(latest_arrival, OPEN_END))
            earliest.append(0 if earliest_departure is None else min(earliest_departure, OPEN_END))
        first_stop.append(len(latest))
    numbers = (np.array(values, dtype=np.int32) for values in (first_place, latest, earliest, first_stop))
    targets = constants[[TARGET_ROW, TARGET_COLUMN, TARGET_DIRECTIONS]]
    return make_stops(grid, distance_map, targets, np.array(places, dtype=np.int32).reshape(-1, 3), *numbers)


def _stops_of_train(agent: Any) -> list[tuple[Any, ...]]:
    """Waypoints, latest arrival and earliest departure of each stop."""
    times = agent.waypoints_latest_arrival, agent.waypoints_earliest_departure
    # as flatland's own loop, which does not mind lists that are too short either
    return list(zip(*(of_each[1:-1] for of_each in (agent.waypoints, *times)), strict=False))


def _places_of(waypoints: Iterable[Any], shape: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Rows, columns and directions in which a stop can be served, without those that no train can ever be in."""
    places = []
    for (row, column), direction in map(configuration_of_waypoint, waypoints):
        if direction is not None and 0 <= direction < 4 and 0 <= row < shape[0] and 0 <= column < shape[1]:
            places.append((int(row), int(column), int(direction)))
    return places


def are_stops_worth_it(env: RailEnv) -> bool:
    """Whether serving a stop costs a train less than passing by; under flatland-rl 4.2.6 a standstill may cost more."""
    rewards = getattr(env.rewards, "_proxy", env.rewards)
    if not CHOSEN_STOPS_COST or not isinstance(rewards, BaseDefaultRewards):
        return True
    return bool(rewards.collision_factor < rewards.intermediate_not_served_penalty)


def served_places(env: RailEnv, stops: Stops) -> NDArray[np.bool_]:
    """In which of ``stops.places``, bool [n_places], their trains have stopped, as far as the rewards have noted it.

    An environment that was loaded from a file has forgotten what happened before, even that a train stands at a stop
    now. Rewards other than ``DefaultRewards`` may note nothing: there the trains that stand now count.
    """
    served = np.zeros(len(stops.places), dtype=np.bool_)
    noted = getattr(env.rewards, "_proxy", env.rewards)
    for handle, place, configuration in _places_by_train(stops):
        if isinstance(noted, BaseDefaultRewards):
            states = noted.states.get(handle, {})
            # flatland-rl 4.2.6 notes waypoints
            served[place] = any(STOPPED in states.get(key, ()) for key in (configuration, Waypoint(*configuration)))
        else:
            agent = env.agents[handle]
            served[place] = agent.state == STOPPED and agent.current_configuration == configuration
    return served


def _places_by_train(stops: Stops) -> Iterable[tuple[int, int, Configuration]]:
    """Handle, place and configuration of each place."""
    for handle, stops_of_train in enumerate(pairwise(stops.first_stop.tolist())):
        begin, end = stops.first_place[list(stops_of_train)].tolist()
        for place in range(begin, end):
            row, column, direction = stops.places[place].tolist()
            yield handle, place, ((row, column), direction)


def halts_of(env: RailEnv, stops: Stops, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ``halts`` of ``rail_rewards``.

    Args:
        env: at any step.
        stops: its stops.
        weights: of its rewards, see ``rail_rewards``.

    Raises:
        UnsupportedLevel: a stop has no times, or the rewards remember the stops of an earlier episode.
    """
    for agent in env.agents:
        for number, (_, latest_arrival, earliest_departure) in enumerate(_stops_of_train(agent), 1):
            if latest_arrival is None or earliest_departure is None:
                raise UnsupportedLevel(f"stop {number} of train {agent.handle} has no time of arrival or departure")
    halts = np.full((N_HALTS, len(stops.places)), NOT_VISITED)
    halts[HALT_REACHED] = NOT_HERE
    halts[HALT_LEFT] = NOT_LEFT
    stop_of_place = np.repeat(np.arange(len(stops.latest_arrival)), np.diff(stops.first_place))
    for handle, place, configuration in _places_by_train(stops):
        _note(env, env.agents[handle], configuration, stop_of_place[place], place, stops, halts, weights)
    return halts


def _note(
    env: RailEnv,
    agent: Any,
    configuration: Configuration,
    stop: int,
    place: int,
    stops: Stops,
    halts: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> None:
    """Fills ``halts`` with a train's visits to a place.

    flatland pairs the first arrival with the first departure, and so on. An environment that was loaded from a file
    has forgotten all, so that a train that stands on the place has a departure to come and no arrival.
    """
    noted = env.rewards._proxy
    # not with [], which would leave an empty list behind
    arrivals = noted.arrivals.get(agent.handle, {}).get(configuration, [])
    departures = noted.departures.get(agent.handle, {}).get(configuration, [])
    is_here = agent.current_configuration == configuration
    n_unpaired = len(arrivals) - len(departures) - is_here
    if n_unpaired not in (0, -1):
        raise UnsupportedLevel("the rewards remember the stops of an earlier episode: use a new environment for each")
    for arrival, departure in zip(arrivals, departures, strict=False):
        halts[HALT_REACHED, place] = arrival
        end_visit(place, stop, departure, stops, halts, weights)
    halts[HALT_REACHED, place] = NOT_HERE
    if is_here:
        halts[HALT_REACHED, place] = arrivals[-1] if n_unpaired == 0 else SINCE_BEFORE
    elif n_unpaired == -1:
        halts[HALT_LEFT, place] = departures[-1]
