"""Which levels the compiled simulator takes, and what it says of the others and of another flatland-rl."""

import warnings

import pytest
from flatland.envs.malfunction_generators import no_malfunction_generator
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import BasicMultiObjectiveRewards, DefaultRewards, PunctualityRewards

from tests.helpers.rail_envs import sparse_env
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.simulator import compiled_simulator
from utils.simulator.compiled_simulator import CompiledSimulator, warn_if_flatland_is_unproven
from utils.simulator.unsupported_level import UnsupportedLevel


class _OwnStep(RailEnv):
    def step(self, action_dict):
        return super().step(action_dict)


def _env_with(**options) -> RailEnv:
    return sparse_env(seed=1, n_agents=3, **options)


def _over() -> RailEnv:
    env = make_rail_env(ENV_CONFIGS["Tiny"], 1)
    while not env.dones["__all__"]:
        env.step({})
    return env


def _altered(change) -> RailEnv:
    env = _env_with(line_length=3, n_cities=3)
    change(env)
    return env


def _change_malfunctions(env: RailEnv) -> None:
    env.effects_generator.malfunction_generator = no_malfunction_generator()[0]


def _remember_stops(env: RailEnv) -> None:
    agent = next(agent for agent in env.agents if len(agent.waypoints) > 2)
    waypoint = agent.waypoints[1][0]
    env.rewards._proxy.arrivals[agent.handle][waypoint.position, waypoint.direction].append(1)


def _forget_times(env: RailEnv) -> None:
    agent = next(agent for agent in env.agents if len(agent.waypoints) > 2)
    agent.waypoints_latest_arrival = [None] * len(agent.waypoints)


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (_over, "not in an episode"),
        (lambda: _env_with(remove_agents_at_target=False), "stay on the map at their target"),
        (lambda: _env_with(rewards=PunctualityRewards()), "rewards of the type PunctualityRewards"),
        (lambda: _env_with(rewards=BasicMultiObjectiveRewards()), "BasicMultiObjectiveRewards are not simulated"),
        (lambda: _env_with(rewards=DefaultRewards(collision_factor=3)), "collision factor"),
        (lambda: _altered(_change_malfunctions), "malfunctions of the type function"),
        (lambda: _altered(_remember_stops), "an earlier episode"),
        (lambda: _altered(_forget_times), "has no time of arrival or departure"),
        (lambda: _altered(lambda env: env.agents[1].targets.add(((0, 0), 0))), "train 1 has targets in 2 cells"),
        (lambda: _altered(lambda env: setattr(env, "__class__", _OwnStep)), "_OwnStep has a step of its own"),
    ],
)
def test_levels_that_are_refused(make_env, message) -> None:
    with pytest.raises(UnsupportedLevel, match=message):
        CompiledSimulator.from_env(make_env())


def test_another_flatland_is_warned_of_once(monkeypatch) -> None:
    warn_if_flatland_is_unproven.cache_clear()
    monkeypatch.setattr(compiled_simulator, "version", lambda package: "9.9.9")
    with pytest.warns(UserWarning, match=r"proven equal to flatland-rl .*, but 9\.9\.9 is installed"):
        CompiledSimulator.from_env(sparse_env(seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CompiledSimulator.from_env(sparse_env(seed=1))
    warn_if_flatland_is_unproven.cache_clear()


def test_the_proven_flatland_is_not_warned_of(monkeypatch) -> None:
    warn_if_flatland_is_unproven.cache_clear()
    monkeypatch.setattr(compiled_simulator, "version", lambda package: compiled_simulator.PROVEN_FLATLAND_VERSION)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_flatland_is_unproven()
    warn_if_flatland_is_unproven.cache_clear()
