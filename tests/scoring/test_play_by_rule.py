"""Levels played by rules, and by each train alone, give what a plain loop over flatland-rl gives."""

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState

from reinforcement_learning.scoring.heuristics import ShortestPath
from reinforcement_learning.scoring.play_by_rule import play_by_rule, play_each_train_alone
from tests.helpers.rail_envs import shortest_path_action
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.simulator.simulator import FlatlandSimulator


def forward_first(env: RailEnv, handle: int) -> int:
    """The shortest path's move by flatland alone; forward where another way is as short."""
    return shortest_path_action(env, handle, order=(2, 1, 3))


@pytest.mark.parametrize(("config", "seed"), [("Test_0", 1003), ("Benchmarks_Test_00", 5)])
def test_a_rule_plays_as_in_a_plain_environment(config: str, seed: int) -> None:
    env, total, steps, on_map = make_rail_env(ENV_CONFIGS[config], seed), 0.0, 0, set()
    done = {"__all__": False}
    while not done["__all__"]:
        on_map |= {agent.handle for agent in env.agents if agent.current_configuration is not None}
        actions = {agent.handle: forward_first(env, agent.handle) for agent in env.agents}
        _, rewards, done, _ = env.step(actions)
        total, steps = total + sum(rewards.values()), steps + 1
    played = play_by_rule(FlatlandSimulator(make_rail_env(ENV_CONFIGS[config], seed)), ShortestPath())
    n_trains = len(env.agents)
    assert played.score == pytest.approx(total / (env._max_episode_steps * n_trains))
    assert played.completion == np.mean([agent.state == TrainState.DONE for agent in env.agents]) > 0
    assert played.never_departed == pytest.approx(1 - len(on_map) / n_trains)
    assert (played.n_steps, played.n_decisions) == (steps, steps * n_trains)


@pytest.mark.parametrize("seed", [1000, 1003])
def test_trains_alone_by_resetting_one_environment_for_each(seed: int) -> None:
    env = make_rail_env(ENV_CONFIGS["Test_0"], seed)
    total, arrived = 0.0, 0
    for handle in range(len(env.agents)):
        if handle:
            env.reset(True, True, random_seed=seed)
        agent, done = env.agents[handle], {"__all__": False}
        while not done["__all__"] and agent.state != TrainState.DONE:
            _, rewards, done, _ = env.step({handle: forward_first(env, handle)})
            total += rewards[handle]
        arrived += agent.state == TrainState.DONE
    played = play_each_train_alone(make_rail_env(ENV_CONFIGS["Test_0"], seed))
    assert played.score == pytest.approx(total / (env._max_episode_steps * len(env.agents)))
    assert played.completion == arrived / len(env.agents) > 0
