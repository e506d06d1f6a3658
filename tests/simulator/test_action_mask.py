"""The action mask against flatland's rails, and against what the environment does with the actions."""

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.observations import action_mask
from tests.helpers.rail_envs import EAST, FOUR_SPEEDS, ONE_SPEED, drawn_env, play, possible_moves, sparse_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.simulator.rail_state import RailState

DO_NOTHING, LEFT, FORWARD, RIGHT, STOP = range(5)


def expected_mask(env: RailEnv, handle: int, every_cell: bool) -> set[int] | None:
    """The allowed actions of one train; None for a train inside its cell, whose one action is checked by stepping."""
    agent = env.agents[handle]
    if agent.malfunction_handler.malfunction_down_counter > 0:
        return {DO_NOTHING}
    if agent.state == TrainState.READY_TO_DEPART:
        moves = possible_moves(env, agent.initial_configuration)
        return {DO_NOTHING, FORWARD if FORWARD in moves else min(moves)}
    if not agent.state.is_on_map_state():
        return {DO_NOTHING}
    if not agent.speed_counter.is_cell_exit(agent.speed_counter.max_speed):
        return None
    moves = set(possible_moves(env, agent.current_configuration))
    return moves | {STOP} if every_cell or not moves else moves


def assert_masks_equal(env: RailEnv, state: RailState) -> None:
    every_cell, switches = action_mask(state), action_mask(state, decision_points="switches")
    free, free_switches = action_mask(state, enabled=False), action_mask(state, False, "switches")
    required = env.get_info_dict()["action_required"]
    for handle, agent in enumerate(env.agents):
        for mask, unmasked, rule in ((every_cell, free, True), (switches, free_switches, False)):
            expected = expected_mask(env, handle, rule)
            if expected is None:
                assert mask[handle].sum() == 1
            else:
                assert set(np.flatnonzero(mask[handle])) == expected
            decides = mask[handle].sum() > 1
            np.testing.assert_array_equal(unmasked[handle], np.ones(5) if decides else mask[handle])
        broken = agent.malfunction_handler.malfunction_down_counter > 0
        assert (every_cell[handle].sum() > 1) == (required[handle] and not broken)


def play_by_the_mask(env: RailEnv, seed: int, decision_points: str) -> tuple[int, int]:
    """Plays random allowed actions and checks what becomes of them; returns the moves into another cell made, and
    the steps made inside cells."""
    rng = np.random.default_rng(seed)
    state = RailState.from_env(env)
    observer = Observer(get_feature_set("tree"), safe_moves=False, decision_points=decision_points)
    moves_made = steps_inside = 0
    while not env.dones["__all__"]:
        state.update(env)
        assert_masks_equal(env, state)
        _, mask = observer.observe(state)
        np.testing.assert_array_equal(mask, action_mask(state, decision_points=decision_points))
        # Trains stop now and then, not every other step.
        weights = mask * np.array([0.2, 1.0, 1.0, 1.0, 0.15])
        actions = {handle: int(rng.choice(5, p=row / row.sum())) for handle, row in enumerate(weights)}
        before = [(agent.current_configuration, agent.speed_counter.distance) for agent in env.agents]
        required = env.get_info_dict()["action_required"]
        env.step(actions)
        for handle, agent in enumerate(env.agents):
            configuration, distance = before[handle]
            broken = agent.state.is_malfunction_state()
            if configuration is None or broken:
                continue
            if not required[handle]:
                assert agent.state == TrainState.MOVING
                assert agent.current_configuration == configuration
                assert agent.speed_counter.distance > distance
                steps_inside += 1
            elif actions[handle] == STOP:
                assert agent.state == TrainState.STOPPED
                assert agent.current_configuration == configuration
            else:
                now = agent.current_configuration or agent.target_configuration
                following = possible_moves(env, configuration)[actions[handle]]
                # A move succeeds or another train is in the way; it never becomes another move.
                assert now == following or (now == configuration and agent.state == TrainState.STOPPED)
                moves_made += now == following
    return moves_made, steps_inside


@pytest.mark.parametrize("decision_points", ["every_cell", "switches"])
@pytest.mark.parametrize("p_level_free", [0.0, 1.0])
def test_actions_by_the_mask_do_what_they_say(decision_points, p_level_free) -> None:
    env = sparse_env(seed=21, n_agents=15, n_cities=3, p_level_free=p_level_free)
    moves_made, steps_inside = play_by_the_mask(env, 21, decision_points)
    assert moves_made > 100
    assert steps_inside > 100


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_agents=st.integers(1, 12),
    decision_points=st.sampled_from(["every_cell", "switches"]),
    speeds=st.sampled_from([ONE_SPEED, FOUR_SPEEDS]),
)
def test_any_level_can_be_played_by_the_mask(seed, n_agents, decision_points, speeds) -> None:
    play_by_the_mask(sparse_env(seed=seed, n_agents=n_agents, speeds=speeds), seed, decision_points)


def test_masks_hold_whatever_was_played_before() -> None:
    """Actions off the mask bring trains into states that play by the mask does not."""
    env = sparse_env(seed=23, n_agents=12)
    state = RailState.from_env(env)
    for _ in play(env, seed=23, random_share=0.6):
        state.update(env)
        assert_masks_equal(env, state)


def test_a_train_stopped_inside_its_cell_is_restarted() -> None:
    env = drawn_env(["<----->"], [(((0, 1), EAST), (0, 5))], speeds=[0.25])
    state = RailState.from_env(env)
    for action in (2, 2, 2):
        env.step({0: action})
    env.agents[0].malfunction_handler.malfunction_down_counter = 3
    for _ in range(3):
        state.update(env)
        np.testing.assert_array_equal(np.flatnonzero(action_mask(state)[0]), [DO_NOTHING])
        env.step({0: DO_NOTHING})
    state.update(env)
    assert 0 < env.agents[0].speed_counter.distance < 0.75
    np.testing.assert_array_equal(np.flatnonzero(action_mask(state)[0]), [FORWARD])
    # Doing nothing would leave it where it is.
    for action, expected in ((DO_NOTHING, TrainState.STOPPED), (FORWARD, TrainState.MOVING)):
        env.step({0: action})
        assert env.agents[0].state == expected


SYMMETRIC_SWITCH = {"Y": ("WN", "WS")}


def test_at_a_switch_without_a_way_straight_on() -> None:
    """A slow train heading for a symmetric switch: nothing but left and right keeps it going."""
    drawing = ["    /-->", "<---Y   ", "    L-->"]
    env = drawn_env(drawing, [(((1, 4), EAST), (0, 6)), (((1, 3), EAST), (0, 6))], [0.5, 0.5], SYMMETRIC_SWITCH)
    state = RailState.from_env(env)
    env.step({})
    state.update(env)
    # It departs on the switch: forward leads nowhere, left is as good as right.
    np.testing.assert_array_equal(np.flatnonzero(action_mask(state)[0]), [DO_NOTHING, LEFT])
    np.testing.assert_array_equal(np.flatnonzero(action_mask(state)[1]), [DO_NOTHING, FORWARD])
    env.step({0: LEFT})
    state.update(env)
    assert env.agents[0].state == TrainState.MOVING
    np.testing.assert_array_equal(np.flatnonzero(action_mask(state)[0]), [LEFT])
    env.step({0: LEFT})
    state.update(env)
    assert env.agents[0].state == TrainState.MOVING
    np.testing.assert_array_equal(np.flatnonzero(action_mask(state)[0]), [LEFT, RIGHT, STOP])
    env.step({0: RIGHT})
    assert env.agents[0].current_configuration == ((2, 4), 2)
