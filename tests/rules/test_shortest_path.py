"""Shortest paths lead where flatland's own distances fall fastest."""

import numpy as np
import pytest
from flatland.envs.step_utils.states import TrainState

from tests.helpers.rail_envs import play, shortest_path_action, sparse_env
from utils.rules.shortest_path import shortest_path_actions
from utils.simulator.rail_state import RailState


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_a_search_by_flatland_forward_first(seed: int) -> None:
    env = sparse_env(seed, n_agents=12, n_cities=3)
    state = RailState.from_env(env)
    seen = set()
    for _ in play(env, seed, random_share=0.3):
        state.update(env)
        wanted = [
            0 if agent.state == TrainState.DONE else shortest_path_action(env, agent.handle, order=(2, 1, 3))
            for agent in env.agents
        ]
        assert shortest_path_actions(state).tolist() == wanted
        seen |= set(wanted)
    assert seen == {0, 1, 2, 3}


def test_nothing_leads_to_a_target_out_of_reach() -> None:
    state = RailState.from_env(sparse_env(1, n_agents=3))
    state.maps.fill(np.inf)
    assert shortest_path_actions(state).tolist() == [0, 0, 0]
