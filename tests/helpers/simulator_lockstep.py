"""Helpers of the tests: the compiled simulator and flatland-rl played side by side."""

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_trainrun_data_structures import Waypoint

from tests.helpers.rail_envs import action_of, possible_moves, shortest_path_action
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_state import RailState

FIELDS = (
    "state",
    "previous_state",
    "row",
    "column",
    "direction",
    "speed",
    "distance_in_cell",
    "malfunction",
    "n_malfunctions",
    "arrival_time",
    "arrived_row",
    "arrived_column",
    "arrived_direction",
    "next_stop",
    "next_map",
    "stops_to_serve",
    "halts",
)


def assert_equal_trains(field: str, step: int, ours: np.ndarray, flatlands: np.ndarray) -> None:
    """Fails with the first train in which two arrays [trains] differ."""
    different = np.flatnonzero(ours != flatlands)
    if len(different):
        train = different[0]
        pytest.fail(f"{field} of train {train} after step {step}: {ours[train]}, in flatland {flatlands[train]}")


def assert_equal_step(simulator: CompiledSimulator, expected: RailState, env: RailEnv) -> None:
    """Compares all that shows after a step; ``expected`` is updated."""
    expected.update(env)
    step, handles = env._elapsed_steps, range(len(env.agents))
    assert simulator.state.elapsed_steps == step
    for field in FIELDS:
        assert_equal_trains(field, step, getattr(simulator.state, field), getattr(expected, field))
    assert_equal_trains("reward", step, simulator.rewards, np.array([float(env.rewards_dict[i]) for i in handles]))
    assert simulator.done == env.dones["__all__"], f"the end of the episode after step {step}"


def choose_actions(env: RailEnv, rng: np.random.Generator, random_share: float, halting: float = 0.0) -> np.ndarray:
    """Actions [trains]: along the shortest path, forward if there is none, but for a share that is random.

    At its waypoints a train stops with the probability ``halting``.
    """
    actions = np.array([shortest_path_action(env, handle) or 2 for handle in range(len(env.agents))])
    is_random = rng.random(len(actions)) < random_share
    actions[is_random] = rng.integers(0, 5, size=is_random.sum())
    if halting > 0:
        for agent in env.agents:
            if agent.current_configuration in {(w.position, w.direction) for stop in agent.waypoints for w in stop}:
                actions[agent.handle] = 4 if rng.random() < halting else actions[agent.handle]
    return actions


def play_both(env: RailEnv, random_share: float, seed: int = 0, halting: float = 0.0) -> CompiledSimulator:
    """Plays an episode in both simulators with the same actions, comparing them after each step."""
    simulator = CompiledSimulator.from_env(env)
    expected = RailState.from_env(env)
    rng = np.random.default_rng(seed)
    while not simulator.done:
        actions = choose_actions(env, rng, random_share, halting)
        simulator.step(actions)
        env.step(dict(enumerate(actions.tolist())))
        assert_equal_step(simulator, expected, env)
    return simulator


def shortest_ways(env: RailEnv) -> list[list]:
    """The configurations that each train goes through on its shortest way, without the last."""
    distances = env.distance_map.get()
    ways = []
    for agent in env.agents:
        way, here = [], agent.initial_configuration
        while 0 < distances[(agent.handle, *here[0], here[1])] < np.inf:
            way.append(here)
            moves = possible_moves(env, here) or {2: env.rail.apply_action_independent(action_of(2), here)[0]}
            here = min(moves.values(), key=lambda there: distances[(agent.handle, *there[0], there[1])])
        ways.append(way)
    return ways


def add_stops(env: RailEnv, seen: list[list], rng: np.random.Generator) -> None:
    """Gives each train up to three stops, with several places to halt, where it will come by as was ``seen``."""
    for agent, configurations in zip(env.agents, seen, strict=True):
        stops, latest, earliest = [], [], []
        for _ in range(rng.integers(0, 4) if configurations else 0):
            places = [configurations[i] for i in rng.integers(0, len(configurations), size=rng.integers(1, 5))]
            stops.append([Waypoint(position, direction) for position, direction in places])
            begin, end = sorted(rng.integers(0, env._max_episode_steps, size=2).tolist())
            latest.append(begin)
            earliest.append(end)
        agent.waypoints = [agent.waypoints[0], *stops, agent.waypoints[-1]]
        agent.waypoints_latest_arrival = [None, *latest, agent.latest_arrival]
        agent.waypoints_earliest_departure = [agent.earliest_departure, *earliest, None]
