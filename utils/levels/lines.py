"""Lines that trains run on, with stops on the way, and their timetables; both of the kind of the ECML 2026 competition.

A line begins on a track of one station and ends on a track of another. Its stops are at stations that are no great
detour; a stop may be made on any track of the station, in the direction of travel. Several trains run on a line, one
after the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from utils.levels.rail_network import RailNetwork

LARGEST_DETOUR = 1.6
"""A line with all its stops is at most so many times as long as without."""
STEPS_AT_A_STOP = 2
"""From the latest arrival at a stop to the earliest departure."""
_TRIES = 20  # for a line with as many stops as wanted

Stops = list[list[int]]
"""The places (see ``RailNetwork``) of start, stops and target, those among which a train may choose together."""


def sample_lines(
    network: RailNetwork, n_lines: int, n_waypoints: tuple[int, int], random: np.random.RandomState
) -> list[Stops]:
    """Lines between stations drawn at random; every second one goes back the way of the one before, where it can.

    Args:
        network: with at least one way between two stations.
        n_lines: how many.
        n_waypoints: least and most stations of a line, start and target included; a line has fewer than the least
            where too few stations are near its way.
        random: gives all random numbers.
    """
    pairs = np.argwhere(np.isfinite(network.station_moves))
    lines: list[Stops] = []
    start, target = 0, 0
    for number in range(n_lines):
        n_stops = random.randint(n_waypoints[0], n_waypoints[1] + 1) - 2
        best: Stops = []
        for attempt in range(_TRIES):
            if number % 2 == 1 and attempt == 0 and np.isfinite(network.station_moves[target, start]):
                start, target = target, start
            else:
                start, target = pairs[random.randint(len(pairs))]
            line = _line_between(network, int(start), int(target), n_stops, random)
            if len(line) > len(best):
                best, ends = line, (start, target)
            if len(best) == n_stops + 2:
                break
        start, target = ends
        lines.append(best)
    return lines


def _line_between(network: RailNetwork, start: int, target: int, n_stops: int, random: np.random.RandomState) -> Stops:
    """A line from one station to another with at most so many stops."""
    first, last = _ends(network, start, target, random)
    to_target = network.station_moves[:, target]
    from_start = network.station_moves[start]
    direct = min(network.leg([place], last) for place in first)
    near = np.flatnonzero(from_start + to_target <= LARGEST_DETOUR * from_start[target])
    chosen = random.permutation(near)[:n_stops].tolist()
    while True:
        on_the_way = sorted(chosen, key=lambda station: (from_start[station], station))
        line = _shortest([[[place] for place in first], *map(network.options, on_the_way), [last]], network)
        if line and sum(legs_of(line, network)) <= LARGEST_DETOUR * direct:
            return line
        chosen.pop()  # with none left it is the direct way


def _ends(network: RailNetwork, start: int, target: int, random: np.random.RandomState) -> tuple[list[int], list[int]]:
    """A track to start on and a track to end on, a way between them: the places of each."""
    starts, targets = (np.flatnonzero(network.station_of == station) for station in (start, target))
    joined = np.argwhere(np.isfinite(network.moves[np.ix_(starts, targets)]))
    places = (starts[joined[:, 0]], targets[joined[:, 1]])
    cells = np.unique(np.hstack([network.places[place, :2] for place in places]), axis=0)
    first_row, first_column, last_row, last_column = cells[random.randint(len(cells))].tolist()
    last = network.on_cell((last_row, last_column))
    first = network.on_cell((first_row, first_column))
    return [place for place in first if math.isfinite(network.leg([place], last))], last


def _shortest(options: Sequence[list[list[int]]], network: RailNetwork) -> Stops:
    """One option for each stop, such that the way through all of them is shortest; empty where there is none.

    Places from which no way leads on are left out.
    """
    costs, before = [0.0] * len(options[0]), []
    for here, following in pairwise(options):
        legs = np.array([[network.leg(a, b) for b in following] for a in here]) + np.array(costs)[:, None]
        before.append(legs.argmin(axis=0))
        costs = legs.min(axis=0).tolist()
    if not math.isfinite(min(costs)):
        return []
    choice = int(np.argmin(costs))
    line = [options[-1][choice]]
    for here, came_from in zip(reversed(options[:-1]), reversed(before), strict=True):
        choice = int(came_from[choice])
        line.insert(0, [place for place in here[choice] if math.isfinite(network.leg([place], line[0]))])
        if not line[0]:
            return []
    return line


def legs_of(line: Stops, network: RailNetwork) -> list[float]:
    """Cells from each stop of a line to the next."""
    return [network.leg(here, following) for here, following in pairwise(line)]


@dataclass(frozen=True)
class LineTimes:
    """The times of a train that departs at step 0, None where there is none.

    Attributes:
        departures: earliest departure from start and stops; None for the target.
        arrivals: latest arrival at stops and target; None for the start.
    """

    departures: tuple[int | None, ...]
    arrivals: tuple[int | None, ...]

    @classmethod
    def of(cls, legs: Sequence[float], travel_factor: float) -> "LineTimes":
        """The times on a line whose legs take ``travel_factor`` steps for each cell."""
        departures: list[int | None] = [0]
        arrivals: list[int | None] = [None]
        time = 0
        for leg in legs:
            time += math.ceil(round(leg * travel_factor, 6))
            arrivals.append(time)
            time += STEPS_AT_A_STOP
            departures.append(time)
        departures[-1] = None
        return cls(tuple(departures), tuple(arrivals))

    def after(self, steps: int) -> tuple[list[int | None], list[int | None]]:
        """Departures and arrivals of a train that departs later."""
        departures, arrivals = (
            [None if time is None else time + steps for time in times] for times in (self.departures, self.arrivals)
        )
        return departures, arrivals


def longest_time(network: RailNetwork, most_waypoints: int, travel_factor: float) -> int:
    """Steps that no line takes more of, from departure to latest arrival."""
    n_legs = most_waypoints - 1
    return math.ceil(LARGEST_DETOUR * network.longest_way * travel_factor) + n_legs + (n_legs - 1) * STEPS_AT_A_STOP


def trains_of_lines(n_trains: int, n_lines: int) -> list[int]:
    """How many trains run on each line, shared out evenly; the first lines get those that are left."""
    each, rest = divmod(n_trains, n_lines)
    return [each + (line < rest) for line in range(n_lines)]
