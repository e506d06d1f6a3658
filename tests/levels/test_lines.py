"""Lines and their timetables: every train can keep to its own, whichever track it stops on."""

import math
from itertools import pairwise

import numpy as np
import pytest

from tests.helpers.rail_envs import EAST, WEST, drawn_env
from utils.levels import lines as lines_module
from utils.levels.lines import (
    LARGEST_DETOUR,
    LineLimits,
    Stops,
    legs_of,
    line_times,
    sample_lines,
    time_to_next_station,
    trains_of_lines,
)
from utils.levels.rail_network import RailNetwork
from utils.levels.sampled_envs import GeneratedMap
from utils.levels.stations import Stations

NO_LIMITS = LineLimits(3, 4, 1.2, math.inf)


@pytest.fixture(scope="module")
def network() -> RailNetwork:
    return GeneratedMap(40, 30, 8, max_rail_pairs_in_city=1).generate(np.random.RandomState(1)).network


def stations_of(line: Stops, network: RailNetwork) -> list[int]:
    station_of = {place: number for number, tracks in enumerate(network.tracks) for t in tracks for place in t}
    found = [{station_of[place] for place in stop} for stop in line]
    assert all(len(stations) == 1 for stations in found)
    return [stations.pop() for stations in found]


def straight(*cells: tuple[int, int]) -> RailNetwork:
    """A straight track with a station on each of these cells."""
    env = drawn_env(["<---------->"], [(((0, 4), EAST), (0, 10))])
    return RailNetwork.of(np.ascontiguousarray(env.rail.grid), Stations(tuple((cell,) for cell in cells)))


class TestNetwork:
    def test_ways_on_a_straight_track(self) -> None:
        network = straight((0, 2), (0, 5))
        assert network.places == [(0, 2, EAST), (0, 2, WEST), (0, 5, EAST), (0, 5, WEST)]
        # at a dead end a train turns: it goes on in the next cell, the other way
        assert network.moves[0] == [0, 18, 3, 15]
        assert network.moves[1][2] == 7
        assert network.station_moves.tolist() == [[math.inf, 3], [3, math.inf]]
        assert network.leg([0, 1], [2]) == 7
        assert network.between_tracks([0, 1], [2]) == 3

    def test_options_are_asked_like_their_places(self, network: RailNetwork) -> None:
        for a, b in np.ndindex(network.option_moves.shape):
            assert network.option_moves[a, b] == network.leg(network.options[a], network.options[b])

    def test_where_no_way_leads(self) -> None:
        env = drawn_env(["<---->", "<---->"], [(((0, 2), EAST), (0, 4))])
        stations = Stations((((0, 1),), ((1, 1),)))
        network = RailNetwork.of(np.ascontiguousarray(env.rail.grid), stations)
        assert np.isinf(network.station_moves).all()
        assert network.leg([0, 1], [2, 3]) == math.inf


class TestLines:
    def test_as_many_as_asked_and_the_same_for_a_seed(self, network: RailNetwork) -> None:
        first, second, other = (sample_lines(network, 7, NO_LIMITS, np.random.RandomState(s)) for s in (0, 0, 1))
        assert len(first) == 7
        assert first == second != other

    def test_start_and_target_on_one_track_and_stops_in_one_direction(self, network: RailNetwork) -> None:
        for line in sample_lines(network, 30, NO_LIMITS, np.random.RandomState(0)):
            assert 2 <= len(line) <= 4
            stations = stations_of(line, network)
            assert len(set(stations)) == len(stations)
            assert len(line[0]) == 1
            assert len({network.places[place][:2] for place in line[-1]}) == 1
            for stop in line[:-1]:
                assert len({network.places[place][2] for place in stop}) == 1

    def test_a_way_leads_on_from_every_track(self, network: RailNetwork) -> None:
        for line in sample_lines(network, 30, NO_LIMITS, np.random.RandomState(0)):
            for here, following in pairwise(line):
                assert all(network.nearest(place, following) < math.inf for place in here)

    def test_no_great_detours(self, network: RailNetwork) -> None:
        for line in sample_lines(network, 30, NO_LIMITS, np.random.RandomState(0)):
            start = next(track for tracks in network.tracks for track in tracks if line[0][0] in track)
            assert sum(legs_of(line, network)) <= LARGEST_DETOUR * network.between_tracks(start, line[-1])

    def test_most_have_stops_and_every_second_goes_back(self, network: RailNetwork) -> None:
        lines = sample_lines(network, 40, NO_LIMITS, np.random.RandomState(0))
        assert np.mean([len(line) >= 3 for line in lines]) > 0.8
        ways = [stations_of(line, network) for line in lines]
        back = [one == other[::-1] for one, other in zip(ways[::2], ways[1::2], strict=True)]
        assert np.mean(back) > 0.5

    def test_none_takes_longer_than_allowed(self, network: RailNetwork) -> None:
        longest = time_to_next_station(network, 1.5)
        lines = sample_lines(network, 40, LineLimits(4, 5, 1.5, longest), np.random.RandomState(0))
        assert all(lines)
        assert max(line_times(legs_of(line, network), 1.5)[1][-1] for line in lines) <= longest

    def test_a_line_to_the_next_station_always_fits(
        self, network: RailNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lines_module, "_TRIES", 0)
        longest = time_to_next_station(network, 1.2)
        lines = sample_lines(network, 100, LineLimits(3, 4, 1.2, longest), np.random.RandomState(0))
        assert {len(line) for line in lines} == {2}
        assert max(line_times(legs_of(line, network), 1.2)[1][-1] for line in lines) == longest

    def test_no_two_are_alike(self, network: RailNetwork) -> None:
        lines = sample_lines(network, 60, LineLimits(2, 2, 1.2, math.inf), np.random.RandomState(0))
        assert all(line not in lines[:number] for number, line in enumerate(lines))

    def test_two_stations(self) -> None:
        lines = sample_lines(straight((0, 2), (0, 8)), 3, NO_LIMITS, np.random.RandomState(0))
        assert [len(line) for line in lines] == [2, 2, 2]


class TestTimes:
    def test_travel_and_stops(self) -> None:
        departures, arrivals = line_times([35, 57, 38, 6], 1.2)  # a line of the competition
        assert departures == [0, 44, 115, 163, None]
        assert arrivals == [None, 42, 113, 161, 171]

    def test_later_trains(self) -> None:
        assert line_times([10, 20], 1.0, 30) == ([30, 42, None], [None, 40, 62])

    def test_numbers_that_floats_do_not_hold(self) -> None:
        assert line_times([50], 1.1)[1][-1] == 55  # 50 * 1.1 is a little more

    def test_trains_are_shared_out(self) -> None:
        assert trains_of_lines(7, 3) == [3, 2, 2]
        assert trains_of_lines(6, 3) == [2, 2, 2]
