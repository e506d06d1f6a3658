"""Where trains go next and where they stand still, on their way by their stops."""

import numpy as np
import pytest

from tests.helpers.observations import action_mask
from tests.helpers.rail_envs import EAST, SOUTH, WEST, drawn_env
from tests.helpers.stops import line_env, with_stops
from utils.simulator import halts
from utils.simulator.rail_grid import MOVE_FORWARD, STOP_MOVING
from utils.simulator.rail_state import RailState, remaining_travel_time
from utils.simulator.state_arrays import DONE


def drive(env, state: RailState) -> list[tuple[int, int]]:
    """Drives the first train forward, unless the mask says stop; column and state after each step."""
    seen = []
    while not env.dones["__all__"]:
        env.step({0: STOP_MOVING if (action_mask(state)[0] == (np.arange(5) == STOP_MOVING)).all() else MOVE_FORWARD})
        state.update(env)
        seen.append((int(state.column[0]), int(state.state[0])))
    return seen


def test_a_train_stands_at_its_stops_until_it_may_depart() -> None:
    env = line_env([((0, 3), EAST)], [((0, 5), EAST)], times=[(10, 9), (20, 0)])
    state = RailState.from_env(env)
    columns = [column for column, _ in drive(env, state)]
    # ready, 1, 2, 3 and there until it leaves in step 9; then a step at 5
    assert columns == [-1, 1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 6, -1]
    assert state.next_stop[0] == 2
    assert env.rewards_dict[0] == 0


def test_a_train_that_would_be_late_at_its_target_does_not_wait() -> None:
    env = line_env([((0, 3), EAST)], times=[(10, 50)])
    env.agents[0].latest_arrival = 11
    columns = [column for column, _ in drive(env, RailState.from_env(env))]
    assert columns == [-1, 1, 2, 3, 3, 3, 3, 4, 5, 6, -1]


def test_remaining_time_counts_the_stops() -> None:
    env = line_env([((0, 3), EAST)], [((0, 5), EAST)], times=[(10, 0), (20, 0)])
    state = RailState.from_env(env)
    assert remaining_travel_time(state)[0] == 6 + 2
    left = []
    while not env.dones["__all__"]:
        env.step({0: STOP_MOVING if state.halts[0] else MOVE_FORWARD})
        state.update(env)
        left.append(int(remaining_travel_time(state)[0]))
    assert left == [8, 8, 7, 6, 5, 4, 3, 2, 1, 0]  # with each step, those at the stops too


def test_a_stop_that_cannot_be_reached_any_more_is_given_up() -> None:
    env = line_env([((0, 3), EAST)], [((0, 5), EAST)])
    state = RailState.from_env(env)
    for _ in range(5):  # runs through the first
        env.step({0: MOVE_FORWARD})
        state.update(env)
    assert (state.column[0], state.next_stop[0], state.stops_to_serve[0]) == (4, 0, 1)
    assert state.next_map[0] == 1 + state.stops.map_of_stop[1]


@pytest.mark.parametrize(("n_steps", "goes_to", "n_stops"), [(8, 0, 2), (7, 1, 1), (6, None, 0), (5, 0, 2)])
def test_stops_are_given_up_for_which_there_is_no_time(n_steps, goes_to, n_stops) -> None:
    env = line_env([((0, 3), EAST)], [((0, 5), EAST)], n_steps=n_steps)
    state = RailState.from_env(env)
    assert state.stops_to_serve[0] == n_stops
    assert state.next_map[0] == (0 if goes_to is None else 1 + state.stops.map_of_stop[goes_to])


def test_no_way_leads_through_the_target() -> None:
    # The short way to the stop is by the target, the other one round the ring.
    ring = ["/-----\\", "|     |", "Y-----A", "|     |", "L-----J"]
    env = drawn_env(ring, [(((2, 5), WEST), (2, 2))], switches={"Y": ("NS", "SE"), "A": ("NS", "NW")})
    with_stops(env, {0: [[((3, 0), SOUTH)]]})
    state = RailState.from_env(env)
    assert state.stops.distances[0, 2, 5, WEST] == np.inf
    assert state.next_map[0] == 0


def test_a_place_where_a_stop_is_taken_for_a_collision_is_of_no_use() -> None:
    drawing = ["/-Y-\\", "| | |", "L-A-J"]
    switches = {"Y": ("SW", "SE"), "A": ("NW", "NE")}
    env = drawn_env(drawing, [(((1, 2), 0), (2, 1))], switches=switches)
    with_stops(env, {0: [[((0, 2), 0)]]})
    state = RailState.from_env(env)
    assert np.isinf(state.stops.distances).all()
    assert not state.halts[0]


def test_at_a_stop_the_mask_allows_nothing_else() -> None:
    env = line_env([((0, 1), EAST)])
    state = RailState.from_env(env)
    for _ in range(2):
        env.step({0: MOVE_FORWARD})
        state.update(env)
    for decision_points in ("every_cell", "switches"):
        assert np.flatnonzero(action_mask(state, decision_points=decision_points)[0]).tolist() == [STOP_MOVING]
    assert action_mask(state, enabled=False)[0].all()


def test_where_stops_cost_more_than_they_are_worth_trains_pass_by(monkeypatch) -> None:
    env = line_env([((0, 3), EAST)])
    env.rewards._proxy.collision_factor = 250.0
    assert RailState.from_env(env).goes_to_stops
    monkeypatch.setattr(halts, "CHOSEN_STOPS_COST", True)
    state = RailState.from_env(env)
    assert not state.goes_to_stops
    assert [column for column, _ in drive(env, state)] == [-1, 1, 2, 3, 4, 5, 6, -1]
    assert state.state[0] == DONE
