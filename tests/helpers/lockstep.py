"""Helpers of the tests: two environments played side by side."""

import numpy as np
from flatland.envs.rail_env import RailEnv


def lockstep(first: RailEnv, second: RailEnv) -> int:
    """Plays both with the same actions, comparing everything a step shows; returns the malfunctioning train-steps."""
    assert np.array_equal(first.rail.grid, second.rail.grid)
    assert first._max_episode_steps == second._max_episode_steps
    generator = np.random.default_rng(0)
    broken = 0
    while not first.dones["__all__"]:
        # Mostly forward, so that trains get somewhere and arrive.
        actions = {h: 2 if generator.random() < 0.7 else int(generator.integers(5)) for h in range(len(first.agents))}
        assert first.step(actions)[1:] == second.step(actions)[1:]  # rewards, dones and infos
        for train, other in zip(first.agents, second.agents, strict=True):
            assert train.current_configuration == other.current_configuration
            assert train.state == other.state
            assert train.malfunction_handler == other.malfunction_handler
            assert train.speed_counter.speed == other.speed_counter.speed
            assert train.arrival_time == other.arrival_time
            broken += train.malfunction_handler.in_malfunction
    assert second.dones["__all__"]
    return broken


def malfunctions(env: RailEnv) -> list[int]:
    """Down counters of all trains over an episode in which nobody departs."""
    counters = []
    while not env.dones["__all__"]:
        env.step({})
        counters += [agent.malfunction_handler.malfunction_down_counter for agent in env.agents]
    return counters
