"""What trains lose, told apart by cause: as flatland-rl's own detailed rewards tell it."""

import numpy as np
import pytest
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import (
    BaseDefaultRewards,
    BaseECML2026Rewards,
    DefaultRewards,
    DelayRewards,
    ECML2026Rewards,
    PunctualityRewards,
    Rewards,
)

from tests.helpers.own_code import KindRewards
from tests.helpers.rail_envs import shortest_path_action, sparse_env
from utils.levels.packed_level import pack_level, unpack_level
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_losses import CAUSES, clips_losses, knows_causes, losses_of_train
from utils.simulator.simulator import FlatlandSimulator


def drive(env: RailEnv, handle: int, random: np.random.Generator) -> int:
    """Mostly along the shortest path; a train stands at a stop now and then."""
    agent = env.agents[handle]
    stops = [waypoint for alternatives in agent.waypoints[1:-1] for waypoint in alternatives]
    if agent.current_configuration in map(Rewards._sanitize_waypoint, stops) and random.random() < 0.5:
        return 4
    return shortest_path_action(env, handle) if random.random() < 0.8 else int(random.integers(5))


def with_stops(seed: int, rewards: Rewards) -> RailEnv:
    """Each train has a stop in the fifth cell of its shortest path, where it cannot be in time and leave in time."""
    env = sparse_env(seed, n_agents=12, n_cities=3, line_length=3, speeds={1.0: 1.0}, rewards=rewards)
    for agent in env.agents:
        agent.waypoints[1] = [agent.get_shortest_path(env.distance_map)[4]]
        agent.waypoints_latest_arrival[1] = agent.earliest_departure + 2
        agent.waypoints_earliest_departure[1] = agent.earliest_departure + 60
    return env


@pytest.mark.parametrize("ours", [ECML2026Rewards, DefaultRewards])
def test_causes_are_those_of_the_detailed_rewards(ours: type[Rewards]) -> None:
    """Trains go, stand and collide at random, so that each cause comes up."""
    found = np.zeros(len(CAUSES))
    for seed in range(4):
        env = with_stops(seed, ours())
        detailed = with_stops(seed, BaseECML2026Rewards() if ours is ECML2026Rewards else BaseDefaultRewards())
        n_trains, random, over = env.get_num_agents(), np.random.default_rng(seed), False
        totals, details = np.zeros(n_trains), [detailed.rewards.empty() for _ in range(n_trains)]
        while not over:
            actions = {handle: drive(env, handle, random) for handle in range(n_trains - 2)}  # two never depart
            _, rewards, dones, _ = env.step(actions)
            _, fine, _, _ = detailed.step(actions)
            totals += [rewards[handle] for handle in range(n_trains)]
            details = [detailed.rewards.cumulate(details[handle], fine[handle]) for handle in range(n_trains)]
            over = dones["__all__"]
        losses = np.array([losses_of_train(env, handle, totals[handle]) for handle in range(n_trains)])
        names = ("TARGET_LATE_ARRIVAL", "TARGET_NOT_REACHED", "CANCELLATION", "INTERMEDIATE_NOT_SERVED")
        names += ("INTERMEDIATE_LATE_ARRIVAL", "INTERMEDIATE_EARLY_DEPARTURE", "COLLISION")
        expected = -np.array([[train[name] for name in names] for train in details])
        assert losses == pytest.approx(expected)
        assert (np.signbit(losses) == 0).all()  # a table shows no -0.000
        found += losses.sum(axis=0)
    causes_of_none = {"collision"} if ours is DefaultRewards else set()
    assert {cause for cause, lost in zip(CAUSES, found, strict=True) if lost == 0} == causes_of_none


@pytest.mark.parametrize(
    ("rewards", "clips", "knows"),
    [
        (DefaultRewards, False, True),
        (ECML2026Rewards, True, True),
        (DelayRewards, True, True),
        (PunctualityRewards, False, False),
        (KindRewards, True, False),  # it rewards more than its class knows
    ],
)
def test_which_rewards_are_clipped_and_told_apart(rewards: type[Rewards], clips: bool, knows: bool) -> None:
    assert (clips_losses(rewards()), knows_causes(rewards())) == (clips, knows)


@pytest.mark.parametrize("rewards", [DefaultRewards, ECML2026Rewards])
def test_both_simulators_clip_alike(rewards: type[Rewards]) -> None:
    env = sparse_env(1, n_agents=3, rewards=rewards())
    expected = rewards is ECML2026Rewards
    compiled = CompiledSimulator.from_env(env)
    sent = unpack_level(pack_level(compiled))  # to another process
    assert [level.clips_losses for level in (compiled, sent, FlatlandSimulator(env))] == [expected] * 3
