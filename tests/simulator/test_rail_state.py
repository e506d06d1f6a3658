"""``RailState`` against the attributes of flatland's own agents."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.step_utils.states import TrainState

from tests.helpers.rail_envs import EAST, FOUR_SPEEDS, drawn_env, play, shortest_path_action, sparse_env
from utils.simulator.rail_state import RailState, remaining_travel_time
from utils.simulator.state_arrays import N_CONSTANTS, N_DYNAMIC, OPEN_END, SPEED


def assert_equals_env(state: RailState, env) -> None:
    """Every field of the state against the environment."""
    assert state.elapsed_steps == env._elapsed_steps
    assert state.max_episode_steps == env._max_episode_steps
    np.testing.assert_array_equal(state.grid, env.rail.grid)
    np.testing.assert_array_equal(state.distance_map, env.distance_map.get())
    nowhere = ((-1, -1), -1)
    for handle, agent in enumerate(env.agents):
        position = ((state.row[handle], state.column[handle]), state.direction[handle])
        arrived = ((state.arrived_row[handle], state.arrived_column[handle]), state.arrived_direction[handle])
        initial = ((state.initial_row[handle], state.initial_column[handle]), state.initial_direction[handle])
        unit = Fraction(1, int(state.denominator[handle]))
        previous = agent.state_machine.previous_state
        assert state.state[handle] == agent.state
        assert state.previous_state[handle] == (-1 if previous is None else previous)
        assert position == (agent.current_configuration or nowhere)
        assert arrived == (agent.target_configuration or nowhere)
        assert initial == agent.initial_configuration
        assert int(state.speed[handle]) * unit == agent.speed_counter.speed
        assert int(state.max_speed[handle]) * unit == agent.speed_counter.max_speed
        assert int(state.distance_in_cell[handle]) * unit == agent.speed_counter.distance
        assert state.malfunction[handle] == agent.malfunction_handler.malfunction_down_counter
        assert state.n_malfunctions[handle] == agent.malfunction_handler.num_malfunctions
        assert state.arrival_time[handle] == (-1 if agent.arrival_time is None else agent.arrival_time)
        assert state.earliest_departure[handle] == agent.earliest_departure
        assert state.latest_arrival[handle] == min(agent.latest_arrival, OPEN_END)
        directions = {d for d in range(4) if state.target_directions[handle] & (8 >> d)}
        target = (state.target_row[handle], state.target_column[handle])
        assert {(target, d) for d in directions} == agent.targets
        assert state.has_target[target]


@pytest.mark.parametrize(
    ("random_share", "options"),
    [
        (0.5, {}),
        (0.05, {"p_level_free": 1.0, "n_cities": 3}),
        (0.2, {"line_length": 3, "n_cities": 3}),
        (0.2, {"acceleration_delta": Fraction(1, 4), "braking_delta": -Fraction(1, 6)}),
    ],
    ids=["four speeds", "level-free crossings", "intermediate stops", "slow acceleration"],
)
def test_update_follows_the_environment(random_share, options) -> None:
    env = sparse_env(seed=3, **options)
    state = RailState.from_env(env)
    assert state.constants.shape == (N_CONSTANTS, 10)
    assert state.dynamic.shape == (N_DYNAMIC, 10)
    for _ in play(env, seed=3, random_share=random_share):
        state.update(env)
        assert_equals_env(state, env)
    assert state.level_free.sum() == len(env.resource_map.level_free_positions)
    assert env._elapsed_steps > 20


def test_properties_are_views() -> None:
    state = RailState.from_env(sparse_env(seed=1, n_agents=2))
    state.speed[1] = 7
    assert state.dynamic[SPEED, 1] == 7


def test_a_saved_environment_gives_the_same_state_in_the_middle_of_an_episode(tmp_path) -> None:
    env = sparse_env(seed=5, p_level_free=1.0, n_cities=3)
    for _ in play(env, seed=5, random_share=0.3, max_steps=25):
        pass
    RailEnvPersister.save(env, tmp_path / "level.pkl")
    loaded, _ = RailEnvPersister.load_new(tmp_path / "level.pkl")
    state, again = RailState.from_env(env), RailState.from_env(loaded)
    for name in ("grid", "distance_map", "level_free", "has_target", "constants", "dynamic"):
        np.testing.assert_array_equal(getattr(state, name), getattr(again, name), err_msg=name)
    assert_equals_env(again, loaded)


def test_a_pickled_state_goes_on() -> None:
    env = sparse_env(seed=1, n_agents=4)
    state = pickle.loads(pickle.dumps(RailState.from_env(env)))
    for _ in play(env, seed=1, random_share=0.3, max_steps=20):
        pass
    state.update(env)
    assert_equals_env(state, env)


def test_an_environment_with_other_trains_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        RailState.from_env(sparse_env(seed=1, n_agents=4)).update(sparse_env(seed=1, n_agents=3))


def test_targets_in_several_cells_are_refused() -> None:
    env = sparse_env(seed=1, n_agents=2)
    env.agents[1].targets.add(((0, 0), 0))
    with pytest.raises(ValueError, match="train 1 has targets in 2 cells"):
        RailState.from_env(env)


def test_an_environment_without_an_end_is_refused() -> None:
    env = sparse_env(seed=1, n_agents=2)
    env._max_episode_steps = None
    with pytest.raises(ValueError, match="maximum number of steps"):
        RailState.from_env(env)


def test_no_latest_arrival_fits_the_table() -> None:
    env = sparse_env(seed=1, n_agents=2)
    env.agents[0].latest_arrival = 2**63 - 1
    assert RailState.from_env(env).latest_arrival[0] == OPEN_END


@pytest.mark.parametrize("speed", [*sorted(FOUR_SPEEDS), 0.4])
def test_remaining_travel_time_is_exact_for_a_train_alone(speed) -> None:
    env = sparse_env(seed=7, n_agents=1, speeds={speed: 1.0}, malfunction_rate=0.0)
    state = RailState.from_env(env)
    predicted_end = []
    while env.agents[0].state != TrainState.DONE:
        if env.agents[0].state.is_on_map_state():
            predicted_end.append(env._elapsed_steps + remaining_travel_time(state)[0])
        env.step({0: shortest_path_action(env, 0)})
        state.update(env)
    assert remaining_travel_time(state)[0] == 0.0
    assert len(predicted_end) > 10
    assert set(predicted_end) == {env.agents[0].arrival_time}


def test_remaining_travel_time_off_the_map_and_without_a_way() -> None:
    # The second train's target lies on another track.
    trains = [(((0, 1), EAST), (0, 4)), (((0, 1), EAST), (2, 4))]
    env = drawn_env(["<---->", "      ", "<---->"], trains, speeds=[0.5, 1.0])
    np.testing.assert_array_equal(remaining_travel_time(RailState.from_env(env)), [6.0, np.inf])
