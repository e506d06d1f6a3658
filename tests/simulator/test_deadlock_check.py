"""``deadlocked`` on drawn maps, against another formulation of it, and against what the environment allows."""

import networkx as nx
import numpy as np
import pytest
from flatland.envs.agent_chains import MotionCheck
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.rail_envs import EAST, NORTH, SOUTH, WEST, Configuration, drawn_env, play, sparse_env
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_state import RailState

RING_OF_TWELVE = ["/--\\", "|  |", "|  |", "L--J"]
# The direction in which a train comes into each cell.
CLOCKWISE = {
    (0, 0): NORTH,
    (0, 1): EAST,
    (0, 2): EAST,
    (0, 3): EAST,
    (1, 3): SOUTH,
    (2, 3): SOUTH,
    (3, 3): SOUTH,
    (3, 2): WEST,
    (3, 1): WEST,
    (3, 0): WEST,
    (2, 0): NORTH,
    (1, 0): NORTH,
}


def placed(env: RailEnv) -> RailState:
    """All trains have entered the map where they start."""
    n = len(env.agents)
    env.step({})
    env.step(dict(enumerate(_entering_moves(env))))
    assert all(env.agents[handle].state == TrainState.MOVING for handle in range(n))
    return RailState.from_env(env)


def _entering_moves(env: RailEnv) -> list[int]:
    """Forward, or left at a switch without a way straight on."""
    moves = []
    for agent in env.agents:
        (row, column), direction = agent.initial_configuration
        exits = env.rail.get_transitions(((row, column), direction))
        moves.append(2 if sum(exits) == 1 or exits[direction] else 1)
    return moves


def trains_at(*configurations: Configuration, target: tuple[int, int]) -> list:
    return [(configuration, target) for configuration in configurations]


def test_nose_to_nose_on_plain_track_with_a_queue_behind() -> None:
    trains = trains_at(((0, 2), EAST), ((0, 3), WEST), ((0, 4), WEST), ((0, 1), EAST), ((0, 7), WEST), target=(0, 9))
    env = drawn_env(["<-------->"], trains)
    state = placed(env)
    # The last train still has an empty cell in front of it.
    np.testing.assert_array_equal(deadlocked(state), [True, True, True, True, False])
    for _ in range(3):
        env.step(dict.fromkeys(range(5), 2))
    state.update(env)
    assert deadlocked(state).all()


def test_one_cell_between_two_trains_is_no_deadlock_yet() -> None:
    env = drawn_env(["<------>"], trains_at(((0, 2), EAST), ((0, 4), WEST), target=(0, 6)))
    assert not deadlocked(placed(env)).any()


def test_a_dead_end_turns_a_train_towards_its_follower() -> None:
    env = drawn_env(["<------>"], trains_at(((0, 7), EAST), ((0, 6), EAST), target=(0, 0)))
    assert deadlocked(placed(env)).all()


SIDING = ["  /--\\  ", "<-S--Z->"]
SIDING_SWITCHES = {"S": ("WE", "WN"), "Z": ("WE", "NE")}


def test_a_train_before_a_siding_can_step_aside() -> None:
    # Nose to nose at the switch of the siding, yet the first train can take the other track, and free the rest.
    trains = trains_at(((1, 2), EAST), ((1, 3), WEST), ((1, 1), EAST), target=(1, 7))
    env = drawn_env(SIDING, trains, switches=SIDING_SWITCHES)
    state = placed(env)
    assert not deadlocked(state).any()
    env.step({0: 1, 1: 2, 2: 4})
    assert env.agents[0].current_configuration == ((0, 2), NORTH)


def test_both_tracks_of_a_siding_taken() -> None:
    trains = trains_at(((1, 2), EAST), ((1, 3), WEST), ((0, 2), WEST), target=(1, 7))
    env = drawn_env(SIDING, trains, switches=SIDING_SWITCHES)
    state = placed(env)
    np.testing.assert_array_equal(deadlocked(state), [True, True, True])


@pytest.mark.parametrize("extra_step", [0, 1])
def test_a_full_ring_can_turn_in_flatland(extra_step) -> None:
    cells = list(CLOCKWISE)
    trains = [((cell, CLOCKWISE[cell]), cells[(index + 6) % 12]) for index, cell in enumerate(cells)]
    env = drawn_env(RING_OF_TWELVE, trains)
    state = placed(env)
    for _ in range(extra_step):
        env.step(dict.fromkeys(range(12), 2))
        state.update(env)
    assert not deadlocked(state).any()
    before = [agent.current_configuration for agent in env.agents]
    env.step(dict.fromkeys(range(12), 2))
    after = [agent.current_configuration for agent in env.agents]
    assert after == before[1:] + before[:1]


def test_a_ring_of_three_can_turn_in_flatland_but_a_swap_cannot() -> None:
    """MotionCheck lets rings of three and more resources through, not of two."""
    for n, allowed in ((2, False), (3, True), (4, True)):
        motion_check = MotionCheck()
        for handle in range(n):
            motion_check.add_agent(handle, (0, handle), (0, (handle + 1) % n))
        motion_check.find_conflicts()
        assert [motion_check.check_motion(handle, (0, handle)) for handle in range(n)] == [allowed] * n


def test_a_full_ring_with_one_train_the_wrong_way_is_stuck() -> None:
    cells = list(CLOCKWISE)
    trains = [((cell, CLOCKWISE[cell]), cells[(index + 6) % 12]) for index, cell in enumerate(cells)]
    trains[4] = ((cells[4], NORTH), cells[10])
    env = drawn_env(RING_OF_TWELVE, trains)
    state = placed(env)
    assert deadlocked(state).all()
    env.step(dict.fromkeys(range(12), 2))
    assert all(agent.state == TrainState.STOPPED for agent in env.agents)


@pytest.mark.parametrize("level_free", [False, True])
def test_level_free_crossings_hold_a_train_on_each_axis(level_free) -> None:
    drawing = ["   |   ", "   |   ", "<--+-->", "   |   ", "   |   "]
    # Two trains nose to nose before and on the crossing; a third comes from the other axis.
    trains = trains_at(((2, 2), EAST), ((2, 3), WEST), ((1, 3), SOUTH), target=(2, 6))
    env = drawn_env(drawing, trains, level_free={(2, 3)} if level_free else None)
    state = placed(env)
    np.testing.assert_array_equal(deadlocked(state), [True, True, not level_free])
    env.step({0: 2, 1: 2, 2: 2})
    assert (env.agents[2].current_configuration == ((2, 3), SOUTH)) == level_free


def deadlocked_by_networkx(env: RailEnv) -> list[bool]:
    """The definition, from flatland's objects and networkx's simple cycles."""
    on_map = [h for h, agent in enumerate(env.agents) if agent.current_configuration is not None]
    holder = {env.resource_map.get_resource(env.agents[h].current_configuration): h for h in on_map}
    graph = nx.DiGraph()
    graph.add_nodes_from(on_map)
    free = set()
    for h in on_map:
        for following in env.rail.get_successor_configurations(env.agents[h].current_configuration):
            resource = env.resource_map.get_resource(following)
            if resource in holder:
                graph.add_edge(h, holder[resource])
            else:
                free.add(h)
    for cycle in nx.simple_cycles(graph):
        if len(cycle) > 2:
            free.update(cycle)
    for h in list(free):
        free |= nx.ancestors(graph, h)
    return [h in on_map and h not in free for h in range(len(env.agents))]


def assert_deadlocks_last(env: RailEnv, seed: int, random_share: float) -> int:
    """Plays an episode: deadlocks equal the definition's and no deadlocked train ever moves; returns how many."""
    state = RailState.from_env(env)
    stuck: dict[int, Configuration] = {}
    for _ in play(env, seed, random_share):
        state.update(env)
        found = deadlocked(state)
        assert found.tolist() == deadlocked_by_networkx(env)
        for handle, configuration in stuck.items():
            assert found[handle]
            assert env.agents[handle].current_configuration == configuration
        stuck = {int(handle): env.agents[handle].current_configuration for handle in np.flatnonzero(found)}
        assert not state.occupant.any()
    return len(stuck)


@pytest.mark.parametrize("p_level_free", [0.0, 1.0])
def test_deadlocked_trains_never_move_again(p_level_free) -> None:
    env = sparse_env(seed=31, n_agents=25, n_cities=3, p_level_free=p_level_free)
    assert assert_deadlocks_last(env, 31, random_share=0.1) > 2


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), n_agents=st.integers(1, 25), random_share=st.floats(0, 0.5))
def test_deadlocks_last_on_any_level(seed, n_agents, random_share) -> None:
    assert_deadlocks_last(sparse_env(seed=seed, n_agents=n_agents), seed, random_share)


def test_arrived_trains_that_stay_block_the_way_but_are_not_deadlocked() -> None:
    trains = [(((0, 2), EAST), (0, 3)), (((0, 1), EAST), (0, 6))]
    env = drawn_env(["<------>"], trains)
    env.remove_agents_at_target = False
    for actions in ({}, {0: 2, 1: 2}, {0: 2, 1: 2}):
        env.step(actions)
    assert env.agents[0].state == TrainState.DONE
    np.testing.assert_array_equal(deadlocked(RailState.from_env(env)), [False, True])
