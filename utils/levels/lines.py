"""Lines with stops on the way, and their timetables; both of the kind of the ECML 2026 competition.

A line leads from station to station, to one of the nearest each time, without great detours. It begins on one track of
its first station and ends on one track of its last. A stop between may be made on any track of the station, in the
direction of travel. Several trains run on a line, one after the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from utils.levels.rail_network import Places, RailNetwork

LARGEST_DETOUR = 1.6
"""A line with all its stops is at most so many times as long as without."""
STEPS_AT_A_STOP = 2
"""From the latest arrival at a stop to the earliest departure."""
_NEXT_STATIONS = 2  # a line goes on to one of the nearest
_TRIES = 20  # for a line with as many stops as wanted

Stops = list[Places]
"""The places (see ``RailNetwork``) of start, stops and target, those among which a train may choose together."""


@dataclass(frozen=True)
class LineLimits:
    """What lines are asked for."""

    # stations of a line, start and target included, drawn evenly. A line has fewer where that would be a detour or take
    # too long.
    least: int
    most: int
    travel_factor: float  # steps in the timetable for each cell
    longest: float  # steps of the timetable that a line may take


def sample_lines(network: RailNetwork, n_lines: int, limits: LineLimits, random: np.random.RandomState) -> list[Stops]:
    """Lines drawn at random, no two alike if there are others; every second goes back the way of the one before.

    Args:
        network: with at least one way between two stations.
        n_lines: how many.
        limits: ``longest`` is at least what ``time_to_next_station`` says.
        random: gives all random numbers.
    """
    lines: list[Stops] = []
    stations: list[int] = []
    for number in range(n_lines):
        n_waypoints = random.randint(limits.least, limits.most + 1)
        best: Stops = []
        best_is_new, best_stations = False, stations
        for attempt in range(_TRIES):
            back = stations[::-1] if number % 2 == 1 and attempt == 0 else []
            tried = back or _walk(network, n_waypoints, random)
            line = _line_through(network, tried, limits, random)
            is_new = line not in lines
            if (is_new, len(line)) > (best_is_new, len(best)) and line:
                best, best_is_new, best_stations = line, is_new, tried
            if is_new and line and (back or len(line) >= n_waypoints):
                break
        if not best:  # limits are tight
            best_stations = _to_the_next_station(network, random)
            best = _line_through(network, best_stations, limits, random)
        stations = best_stations
        lines.append(best)
    return lines


def _to_the_next_station(network: RailNetwork, random: np.random.RandomState) -> list[int]:
    """Any station and the nearest other one; ``time_to_next_station`` says how long that may take."""
    first = _any_station(network, random)
    return [first, int(network.station_moves[first].argmin())]


def _any_station(network: RailNetwork, random: np.random.RandomState) -> int:
    """One from which a way leads to another."""
    return int(random.choice(np.flatnonzero(np.isfinite(network.station_moves).any(axis=1))))


def _walk(network: RailNetwork, n_waypoints: int, random: np.random.RandomState) -> list[int]:
    """Stations one after the other, each one of the nearest in the direction of travel."""
    first = _any_station(network, random)
    stations, here = [first], np.flatnonzero(network.station_of_option == first)
    while len(stations) < n_waypoints:
        ways = network.option_moves[here].min(axis=0)
        ways[np.isin(network.station_of_option, stations)] = np.inf
        nearest: dict[int, int] = {}  # the best option of each
        for option in np.argsort(ways, kind="stable")[: np.isfinite(ways).sum()].tolist():
            nearest.setdefault(int(network.station_of_option[option]), option)
        if not nearest:
            break
        station, option = list(nearest.items())[random.randint(min(len(nearest), _NEXT_STATIONS))]
        stations.append(station)
        here = np.array([option])
    return stations


def _line_through(
    network: RailNetwork, stations: list[int], limits: LineLimits, random: np.random.RandomState
) -> Stops:
    """The shortest line through these stations; with all of them, or only the first of them, or none: empty.

    What is left out would be too great a detour, or take too long.
    """
    for n_stations in range(len(stations), 1, -1):
        pairs = [
            (start, target)
            for start in network.tracks[stations[0]]
            for target in network.tracks[stations[n_stations - 1]]
            if network.between_tracks(start, target) < math.inf
        ]
        if not pairs:
            continue
        start, target = pairs[random.randint(len(pairs))]
        between = map(network.options_of, stations[1 : n_stations - 1])
        line = _shortest([[[place] for place in start], *between, [target]], network)
        if not line:
            continue
        legs = legs_of(line, network)
        is_detour = sum(legs) > LARGEST_DETOUR * network.between_tracks(start, target)
        last_arrival = line_times(legs, limits.travel_factor)[1][-1] or 0
        if not is_detour and last_arrival <= limits.longest:
            return line
    return []


def _shortest(options: Sequence[list[Places]], network: RailNetwork) -> Stops:
    """One option for each stop, such that the way through all of them is shortest; empty where there is none.

    Places from which no way leads on are left out.
    """
    costs, before = [0.0] * len(options[0]), []
    for here, following in pairwise(options):
        ways = [[cost + network.leg(a, b) for cost, a in zip(costs, here, strict=True)] for b in following]
        costs = [min(to_option) for to_option in ways]
        before.append([to_option.index(cost) for to_option, cost in zip(ways, costs, strict=True)])
    if min(costs) == math.inf:
        return []
    choice = costs.index(min(costs))
    line = [options[-1][choice]]
    for here, came_from in zip(reversed(options[:-1]), reversed(before), strict=True):
        choice = came_from[choice]
        line.insert(0, [place for place in here[choice] if network.nearest(place, line[0]) < math.inf])
        if not line[0]:
            return []
    return line


def legs_of(line: Stops, network: RailNetwork) -> list[float]:
    """Cells from each stop of a line to the next."""
    return [network.leg(here, following) for here, following in pairwise(line)]


def line_times(
    legs: Sequence[float], travel_factor: float, first_step: int = 0
) -> tuple[list[int | None], list[int | None]]:
    """The times of a train, at start, stops and target: earliest departures and latest arrivals, None for none.

    Args:
        legs: cells from each stop to the next.
        travel_factor: steps for each cell.
        first_step: when it departs.
    """
    departures: list[int | None] = [first_step]
    arrivals: list[int | None] = [None]
    time = first_step
    for leg in legs:
        time += math.ceil(round(leg * travel_factor, 6))
        arrivals.append(time)
        time += STEPS_AT_A_STOP
        departures.append(time)
    departures[-1] = None
    return departures, arrivals


def time_to_next_station(network: RailNetwork, travel_factor: float) -> int:
    """Steps in which a train gets from any station to the nearest other one, whichever their tracks."""
    longest = 0.0
    for station, ways in enumerate(network.station_moves):
        nearest = int(ways.argmin())
        if ways[nearest] < math.inf:
            found = (network.between_tracks(a, b) for a in network.tracks[station] for b in network.tracks[nearest])
            longest = max(longest, *(way for way in found if way < math.inf))
    return math.ceil(round(longest * travel_factor, 6))


def trains_of_lines(n_trains: int, n_lines: int) -> list[int]:
    """How many trains run on each line, shared out evenly; the first lines get those that are left."""
    each, rest = divmod(n_trains, n_lines)
    return [each + (line < rest) for line in range(n_lines)]
