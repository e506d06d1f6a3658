"""Trains that take the way with the least detour serve their stops, and never come to a deadlock for that."""

import pytest

from reinforcement_learning.scoring.heuristics import LeastDetour, ShortestPath
from tests.helpers.rail_envs import EAST, drawn_env, sparse_env
from tests.helpers.simulator_lockstep import shortest_ways
from tests.helpers.stops import sparse_env_with_stops, with_stops
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.state_arrays import DONE


def play(simulator: FlatlandSimulator, rule) -> RailState:
    over = False
    while not over:
        _, over = simulator.step(rule.act(simulator))
    return simulator.state


@pytest.mark.parametrize("rule", [LeastDetour, ShortestPath])
def test_a_stop_beside_the_shortest_way_is_served(rule) -> None:
    drawing = ["     /--\\   ", "     |  |   ", "<----Y--A-->"]
    switches = {"Y": ("EW", "NW"), "A": ("EW", "NE")}
    env = with_stops(drawn_env(drawing, [(((2, 1), EAST), (2, 10))], switches=switches), {0: [[((0, 6), EAST)]]})
    simulator = FlatlandSimulator(env)
    state = play(simulator, rule())
    assert state.next_stop[0] == 1
    assert state.state[0] == DONE
    assert env.agents[0].arrival_time == 2 + 9 + 4 + 1


def test_a_train_alone_serves_all_stops_on_its_way() -> None:
    n_served = 0
    for seed in range(6):
        env = sparse_env(seed, n_agents=1, malfunction_rate=0.0)
        (way,) = shortest_ways(env)
        places = [[way[len(way) // 3]], [way[2 * len(way) // 3]]]
        simulator = FlatlandSimulator(with_stops(env, {0: places}, times=[(500, 0)] * 2))
        to_serve = simulator.state.stops_to_serve[0]
        state = play(simulator, LeastDetour())
        assert state.state[0] == DONE
        assert state.next_stop[0] == to_serve
        n_served += state.next_stop[0]
    assert n_served > 8


@pytest.mark.parametrize("seed", range(4))
def test_trains_that_serve_stops_come_to_no_deadlock(seed) -> None:
    env = sparse_env_with_stops(seed, malfunction_rate=0.0)
    state = play(FlatlandSimulator(env), LeastDetour())
    assert not deadlocked(state).any()
    assert state.next_stop.any()
