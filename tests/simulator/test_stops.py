"""The intermediate stops in ``RailState`` and the simulators: where they are, how far, which are served."""

import pickle

import numpy as np
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import PunctualityRewards
from flatland.envs.step_utils.states import TrainState

from tests.helpers.rail_envs import EAST, WEST, drawn_env, sparse_env
from tests.helpers.simulator_lockstep import choose_actions, play_both
from tests.helpers.stops import line_env, sparse_env_with_stops, with_stops
from utils.levels.packed_level import pack_level, unpack_level
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import OPEN_END

FORWARD, STOP = 2, 4


def served_in_a_row(env: RailEnv) -> list[int]:
    """For each train, as flatland's rewards know it."""
    found = []
    for agent in env.agents:
        states = env.rewards._proxy.states.get(agent.handle, {})
        served = [
            any(TrainState.STOPPED in states.get((w.position, w.direction), ()) for w in stop)
            for stop in agent.waypoints[1:-1]
        ]
        found.append((*served, False).index(False))
    return found


def test_arrays() -> None:
    twice = [((0, 3), EAST), ((0, 4), EAST)]
    env = line_env(twice, [((0, 6), EAST)], twice[::-1], n_trains=2)
    env.agents[0].waypoints_latest_arrival[2] = env.agents[0].waypoints_earliest_departure[2] = None
    stops = RailState.from_env(env).stops
    assert stops.places.tolist() == [[0, 3, EAST], [0, 4, EAST], [0, 6, EAST], [0, 4, EAST], [0, 3, EAST]]
    assert stops.first_place.tolist() == [0, 2, 3, 5]
    assert stops.latest_arrival.tolist() == [10, OPEN_END, 10]
    assert stops.earliest_departure.tolist() == [5, 0, 5]
    assert stops.first_stop.tolist() == [0, 3, 3]
    assert stops.map_of_stop.tolist() == [0, 1, 0]
    assert stops.distances.shape == (2, 1, 9, 4)
    assert stops.distances[0, 0, 1:6, EAST].tolist() == [2, 1, 0, 0, np.inf]  # beyond it would come to its target


def test_levels_without_stops() -> None:
    stops = RailState.from_env(sparse_env(1)).stops
    assert stops.first_stop.tolist() == [0] * 11
    assert stops.distances.shape == (0, 30, 30, 4)


def test_places_where_no_train_can_be_are_left_out() -> None:
    env = line_env([((0, 3), None)], [((0, 30), EAST), ((0, 5), EAST)])
    stops = RailState.from_env(env).stops
    assert stops.first_place.tolist() == [0, 0, 1]
    assert np.isinf(stops.distances[stops.map_of_stop[0]]).all()


def test_the_next_stop_is_the_first_that_is_not_served() -> None:
    env = line_env([((0, 2), EAST)], [((0, 4), EAST)], [((0, 6), EAST)])
    state, simulator = RailState.from_env(env), CompiledSimulator.from_env(env)
    seen = []
    # it runs through the first stop, serves the second, and turns round at the end to serve none of the others
    for action in (FORWARD, FORWARD, FORWARD, FORWARD, FORWARD, STOP, FORWARD):
        env.step({0: action})
        state.update(env)
        simulator.step([action])
        assert simulator.state.next_stop.tolist() == state.next_stop.tolist()
        seen.append((int(state.column[0]), int(state.next_stop[0]), state.served.tolist()))
    assert seen[-1] == (5, 0, [False, True, False])
    again = line_env([((0, 1), EAST)], [((0, 1), EAST)], [((0, 2), EAST)])
    state = RailState.from_env(again)
    for action, next_stop in ((FORWARD, 0), (FORWARD, 0), (STOP, 2), (FORWARD, 2), (STOP, 3)):
        again.step({0: action})
        state.update(again)
        assert state.next_stop.tolist() == [next_stop]


@pytest.mark.parametrize("seed", range(4))
def test_both_simulators_know_what_flatland_has_noted(seed) -> None:
    env = sparse_env_with_stops(seed)
    rng = np.random.default_rng(seed)
    state = RailState.from_env(env)
    while not env.dones["__all__"]:
        env.step(dict(enumerate(choose_actions(env, rng, 0.1, halting=0.6).tolist())))
        state.update(env)
        assert state.next_stop.tolist() == served_in_a_row(env)
        if env._elapsed_steps == 40:
            np.testing.assert_array_equal(RailState.from_env(env).dynamic, state.dynamic)
    assert state.next_stop.any()
    assert play_both(sparse_env_with_stops(seed), 0.1, seed, halting=0.6).state.next_stop.any()


@pytest.mark.parametrize(("action", "is_served"), [(STOP, 1), (FORWARD, 0)])
def test_from_a_file_a_train_serves_the_stop_at_which_it_stands_in_one_more_step(tmp_path, action, is_served) -> None:
    env = line_env([((0, 1), EAST)])
    for halting in (FORWARD, FORWARD, STOP):
        env.step({0: halting})
    RailEnvPersister.save(env, tmp_path / "level.pkl")
    loaded, _ = RailEnvPersister.load_new(tmp_path / "level.pkl")
    state = RailState.from_env(loaded)
    assert (state.next_stop[0], state.halts[0]) == (0, 1)
    loaded.step({0: action})
    state.update(loaded)
    assert state.next_stop.tolist() == served_in_a_row(loaded) == [is_served]


def test_rewards_that_note_nothing() -> None:
    env = line_env([((0, 1), EAST)])
    env.rewards = PunctualityRewards()
    state = RailState.from_env(env)
    for action in (FORWARD, FORWARD, STOP):
        env.step({0: action})
        state.update(env)
    assert state.next_stop.tolist() == [1]
    assert RailState.from_env(env).next_stop.tolist() == [1]


def test_stops_travel() -> None:
    env = sparse_env_with_stops(5)
    simulator = CompiledSimulator.from_env(env)
    simulator.state.served[0] = True
    simulator.state.goes_to_stops = False
    for again in (unpack_level(pack_level(simulator)), pickle.loads(pickle.dumps(simulator))):
        for name, one, other in zip(
            simulator.state.stops._fields, simulator.state.stops, again.state.stops, strict=True
        ):
            np.testing.assert_array_equal(one, other, err_msg=name)
        np.testing.assert_array_equal(simulator.state.served, again.state.served)
        assert not again.state.goes_to_stops
    assert len(simulator.state.stops.places) > 0


def test_a_stop_against_the_direction_of_travel_is_behind_the_dead_end() -> None:
    env = with_stops(drawn_env(["<------->"], [(((0, 3), EAST), (0, 1))]), {0: [[((0, 5), WEST)]]})
    stops = RailState.from_env(env).stops
    assert stops.distances[0, 0, 3:9, EAST].tolist() == [8, 7, 6, 5, 4, 3]
    assert (stops.cells_after.tolist(), stops.stops_after.tolist()) == ([4], [0])
