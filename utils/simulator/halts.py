"""The intermediate stops of an environment as the ``halts`` of ``rail_rewards``, with the visits that it has noted."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import Rewards
from flatland.envs.step_utils.states import TrainState
from numpy.typing import NDArray

from utils.simulator.rail_rewards import (
    EARLY_DEPARTURE_FACTOR,
    LATE_ARRIVAL_FACTOR,
    N_HALTS,
    NO_VISIT,
    NOT_HERE,
    NOT_LEFT,
    SINCE_BEFORE,
)
from utils.simulator.simulator import UnsupportedLevel

_NO_PLACE = ((-1, -1), -2)  # no train is ever there, not even one off the map

Configuration = tuple[tuple[int, int], int]


def halts_of(env: RailEnv, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[int], list[int]]:
    """The ``halts`` and, for each train, its first column in them and the one after its last.

    Args:
        env: at any step.
        weights: of its rewards, see ``rail_rewards``.

    Raises:
        UnsupportedLevel: a stop has no times, or the rewards remember the stops of an earlier episode.
    """
    columns: list[tuple[float, ...]] = []
    first, end = [], []
    for agent in env.agents:
        first.append(len(columns))
        stops = zip(  # as flatland's own loop, which does not mind lists that are too short either
            agent.waypoints[1:-1],
            agent.waypoints_latest_arrival[1:-1],
            agent.waypoints_earliest_departure[1:-1],
            strict=False,
        )
        for number, (waypoints, latest_arrival, earliest_departure) in enumerate(stops):
            if latest_arrival is None or earliest_departure is None:
                raise UnsupportedLevel(f"stop {number + 1} of train {agent.handle} has no time of arrival or departure")
            for place in _configurations_of(waypoints):
                times = latest_arrival, earliest_departure
                (row, column), direction = place
                columns.append((number, row, column, direction, *times, *_noted(env, agent, place, times, weights)))
        end.append(len(columns))
    return np.array(columns, dtype=np.float64).reshape(-1, N_HALTS).T.copy(), first, end


def _configurations_of(waypoints: list[Any]) -> list[Configuration]:
    """Where a stop can be served; a stop that no train can ever serve keeps one place all the same."""
    configurations = [Rewards._sanitize_waypoint(waypoint) for waypoint in waypoints]
    return [(position, direction) for position, direction in configurations if direction is not None] or [_NO_PLACE]


def _noted(
    env: RailEnv, agent: Any, place: Configuration, times: tuple[float, float], weights: NDArray[np.float64]
) -> tuple[float, ...]:
    """What ``halts`` hold of a train's visits to a place, from HALT_REACHED on.

    flatland pairs the first arrival with the first departure, and so on. An environment that was loaded from a file
    has forgotten all, so that a train that stands on the place has a departure to come and no arrival.
    """
    noted = env.rewards._proxy
    # not with [], which would leave an empty list behind
    arrivals = noted.arrivals.get(agent.handle, {}).get(place, [])
    departures = noted.departures.get(agent.handle, {}).get(place, [])
    served = TrainState.STOPPED in noted.states.get(agent.handle, {}).get(place, ())
    is_here = agent.current_configuration == place
    n_unpaired = len(arrivals) - len(departures) - is_here
    if n_unpaired not in (0, -1):
        raise UnsupportedLevel("the rewards remember the stops of an earlier episode: use a new environment for each")
    reached, left = NOT_HERE, NOT_LEFT
    if is_here:
        reached = arrivals[-1] if n_unpaired == 0 else SINCE_BEFORE
    elif n_unpaired == -1:
        left = departures[-1]
    return reached, served, *_best_visit(zip(arrivals, departures, strict=False), times, weights), left


def _best_visit(
    visits: Iterable[tuple[int, int]], times: tuple[float, float], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """What the cheapest visit cost for late arrival and early departure, as ``note_visits`` keeps it."""
    best = NO_VISIT, NO_VISIT
    latest_arrival, earliest_departure = times
    for arrival, departure in visits:
        late = weights[LATE_ARRIVAL_FACTOR] * min(float(latest_arrival - arrival), 0.0)
        early = weights[EARLY_DEPARTURE_FACTOR] * min(float(departure - earliest_departure), 0.0)
        if late + early > sum(best):
            best = late, early
    return best
