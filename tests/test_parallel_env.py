"""The PettingZoo environment: PettingZoo's own tests, equality with flatland-rl, masks, safe moves, levels, seeds."""

import copy
import inspect
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import psutil
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.playing.rollout import Rollout
from reinforcement_learning.settings.config import TrainingConfig
from tests.helpers.playing import RandomPolicy
from tests.helpers.rail_envs import sparse_env
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.level_streams import TrainingLevels
from utils.levels.rail_envs import make_rail_env
from utils.levels.saved_levels import EnvConfigError
from utils.observation.feature_sets import FEATURE_SETS, get_feature_set
from utils.observation.observer import Observer
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.state_arrays import DONE
from utils.system.files import PROJECT_ROOT

pytest.importorskip("pettingzoo", reason="PettingZoo is not installed: pip install -r requirements-pettingzoo.txt")

from pettingzoo.test import parallel_api_test, parallel_seed_test

from utils.parallel_env import FlatlandParallelEnv

FOUR_SPEEDS = ENV_CONFIGS["Benchmarks_Test_00"]
Choices = dict[str, int]


def make_env(environment: object = "Test_0", feature_set: str = "tree", **options: object) -> FlatlandParallelEnv:
    return FlatlandParallelEnv(environment, feature_set, level_workers=0, **options)


def allowed_actions(observations: dict, agents: list[str], random: np.random.Generator) -> Choices:
    """A random one of the allowed actions for each agent."""
    masks = {agent: np.flatnonzero(observations[agent]["action_mask"]) for agent in agents}
    return {agent: int(random.choice(mask)) for agent, mask in masks.items()}


def random_episode(env: FlatlandParallelEnv, observations: dict, seed: int = 0) -> Iterator[tuple[Choices, tuple]]:
    """Plays on until all trains are gone; yields what was chosen and what ``step`` returned."""
    random = np.random.default_rng(seed)
    while env.agents:
        choices = allowed_actions(observations, env.agents, random)
        shown = env.step(choices)
        observations = shown[0]
        yield choices, shown


def trace(env: FlatlandParallelEnv, observations: dict) -> list[tuple]:
    """All that an episode shows, in a form that can be compared."""
    return [(choices, repr(shown)) for choices, shown in random_episode(env, observations)]


def test_levels_with_fewer_trains_begin_with_fewer_agents():
    env = make_env("ECML_small", "tree_routes")
    assert len(env.possible_agents) == 10
    n_trains = set()
    for level in range(4):
        observations, infos = env.reset(options={"level_seed": level})
        n_trains.add(env.simulator.state.n_trains)
        assert len(env.agents) == env.simulator.state.n_trains == len(observations) == len(infos)
        steps = [set(shown[2]) for _, shown in random_episode(env, observations)]
        assert all(later <= earlier for earlier, later in pairwise(steps))
        assert env.simulator.done
    assert len(n_trains) > 1


def test_passes_the_tests_of_pettingzoo():
    env = make_env("Tiny", "tree_routes")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they only warn of some mistakes
        parallel_api_test(env, num_cycles=1000)
        parallel_seed_test(lambda: make_env("Tiny", "tree_routes"))
    env.close()


def test_defaults_are_those_of_the_training():
    defaults, training = inspect.signature(FlatlandParallelEnv).parameters, TrainingConfig()
    for name in ("action_mask", "decision_points", "safe_moves", "level_workers"):
        assert defaults[name].default == getattr(training, name)
    assert defaults["feature_set"].default == "tree_routes"  # as much as there is without a plan


def assert_same_trains(env: FlatlandParallelEnv, rail_env: RailEnv) -> None:
    state = env.simulator.state
    for handle, train in enumerate(rail_env.agents):
        (row, column), direction = train.current_configuration or ((-1, -1), -1)
        assert (state.row[handle], state.column[handle], state.direction[handle]) == (row, column, direction)
        assert state.state[handle] == train.state
        assert state.malfunction[handle] == train.malfunction_handler.malfunction_down_counter


@pytest.mark.parametrize("environment", ["Test_0", FOUR_SPEEDS])
@pytest.mark.parametrize("seed", [0, 1])
def test_steps_as_flatland_does(environment, seed):
    env = make_env(environment, safe_moves=False)
    observations, _ = env.reset(seed=seed)
    rail_env = TrainingLevels(env.config, seed).make(0)
    n_arrived = 0
    for choices, (_, rewards, terminations, truncations, infos) in random_episode(env, observations):
        handles = {agent: env.possible_agents.index(agent) for agent in choices}
        _, all_rewards, dones, _ = rail_env.step({handles[agent]: action for agent, action in choices.items()})
        assert_same_trains(env, rail_env)
        assert rewards == {agent: all_rewards.pop(handle) for agent, handle in handles.items()}
        assert not any(all_rewards.values())  # nothing falls due for a train that has left
        assert terminations == {agent: dones[handle] for agent, handle in handles.items()}
        assert truncations == dict.fromkeys(choices, False)
        assert env.agents == [agent for agent in choices if not terminations[agent]]
        arrived = {agent: rail_env.agents[handle].state == DONE for agent, handle in handles.items()}
        assert {agent: infos[agent]["arrived"] for agent in infos} == arrived
        n_arrived += sum(arrived.values())
    assert dones["__all__"]
    assert n_arrived == sum(train.state == DONE for train in rail_env.agents)


def test_with_safe_moves_it_plays_as_the_training_does():
    env = make_env("Test_1", "tree_routes")
    observations, _ = env.reset(seed=3)
    simulator = CompiledSimulator.from_env(TrainingLevels(env.config, 3).make(0))
    observer = Observer(get_feature_set("tree_routes"), safe_moves=True)
    rollout = Rollout(observer, [RandomPolicy()], simulator.state.n_trains)
    rollout.start(0, simulator)
    chosen = rollout.history(0)  # a list that grows
    while env.agents:
        rollout.step()
        choices = {agent: int(chosen[-1][env.possible_agents.index(agent)]) for agent in env.agents}
        assert all(observations[agent]["action_mask"][action] for agent, action in choices.items())
        observations, *_ = env.step(choices)
        assert np.array_equal(env.simulator.state.dynamic, simulator.state.dynamic)
        assert np.array_equal(env.simulator.rewards, simulator.rewards)
    assert simulator.done


def test_with_safe_moves_no_train_comes_to_a_deadlock_whatever_is_chosen():
    env = make_env("Test_1")
    random = np.random.default_rng(0)
    for seed in range(5):
        env.reset(seed=seed)
        while env.agents:
            env.step({agent: int(random.integers(5)) for agent in env.agents})
            assert not deadlocked(env.simulator.state).any()


@pytest.mark.parametrize("feature_set", FEATURE_SETS)
def test_everything_shown_lies_in_the_spaces_and_belongs_to_the_caller(feature_set):
    env = make_env(FOUR_SPEEDS, feature_set)
    first = env.reset(seed=2)
    kept = [(*first, copy.deepcopy(first[0]))]
    for _, (observations, *_, infos) in random_episode(env, first[0]):
        kept.append((observations, infos, copy.deepcopy(observations)))
    for observations, infos, at_first in kept:
        for agent, seen in observations.items():
            assert env.observation_space(agent).contains(seen)
            assert np.array_equal(infos[agent]["action_mask"], seen["action_mask"])
            assert all(np.array_equal(seen[name], at_first[agent][name]) for name in seen)


def test_an_action_that_is_ruled_out_or_missing_is_replaced_by_the_first_allowed_one():
    env, twin = make_env("Test_1"), make_env("Test_1")
    observations, _ = env.reset(seed=1)
    twin.reset(seed=1)
    random = np.random.default_rng(0)
    n_replaced = 0
    while env.agents:
        wild, allowed = {}, {}
        for agent in env.agents:
            mask, action = observations[agent]["action_mask"], int(random.integers(6))
            if action < 5:  # else it is missing, which is doing nothing
                wild[agent] = action
            action %= 5
            allowed[agent] = action if mask[action] else int(mask.argmax())
            n_replaced += not mask[action]
        observations, *_ = env.step(wild)
        twin.step(allowed)
        assert np.array_equal(env.simulator.state.dynamic, twin.simulator.state.dynamic)
    assert n_replaced > 0


def test_seeds_and_levels():
    env, other = make_env(), make_env()
    first = trace(env, env.reset(seed=7)[0])
    second = trace(env, env.reset()[0])
    assert first != second
    env.reset()
    env.step({})  # an episode that is broken off
    assert trace(env, env.reset(seed=7)[0]) == first
    assert trace(other, other.reset(seed=7)[0]) == first
    assert trace(other, other.reset()[0]) == second
    levels = TrainingLevels(env.config, 7)
    other.reset()
    assert np.array_equal(other.simulator.state.grid, levels.make(2).rail.grid)


def test_without_a_seed_it_begins_with_seed_0():
    env, other = make_env(), make_env()
    assert trace(env, env.reset()[0]) == trace(other, other.reset(seed=0)[0])


def test_a_process_makes_levels_ahead_only_for_those_who_need_a_second_one():
    before = set(psutil.Process().children())  # of tests that did not close theirs; they may end at any time

    def n_started() -> int:
        return len(set(psutil.Process().children()) - before)

    env = FlatlandParallelEnv("Tiny")
    for seed in range(3):
        env.reset(seed=seed)
    assert n_started() == 0
    env.reset()
    assert n_started() == 1
    env.reset(seed=0)  # other levels
    assert n_started() == 0
    env.reset()
    env.close()
    assert n_started() == 0


def test_a_level_of_the_scoring_can_be_asked_for():
    env = make_env()
    env.reset(seed=7)
    env.reset(options={"level_seed": 500_000})
    level = make_rail_env(env.config, 500_000)
    assert np.array_equal(env.simulator.state.grid, level.rail.grid)
    assert env.simulator.state.latest_arrival.tolist() == [train.latest_arrival for train in level.agents]
    env.reset()  # the training goes on where it was
    assert np.array_equal(env.simulator.state.grid, TrainingLevels(env.config, 7).make(1).rail.grid)


def test_a_saved_environment(tmp_path):
    path = tmp_path / "saved.pkl"
    saved = sparse_env(3, n_agents=4)
    RailEnvPersister.save(saved, str(path))
    env = make_env(str(path))
    assert env.possible_agents == ["train_0", "train_1", "train_2", "train_3"]
    env.reset()
    assert np.array_equal(env.simulator.state.grid, saved.rail.grid)


def test_copies_are_new_environments_with_the_same_arguments():
    env = make_env(FOUR_SPEEDS, decision_points="switches")
    first = trace(env, env.reset(seed=1)[0])
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert twin.agents == []
        assert trace(twin, twin.reset(seed=1)[0]) == first


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"environment": "Test_9"}, EnvConfigError, "unknown environment 'Test_9': accepted is"),
        ({"feature_set": "trees"}, ValueError, "there is no feature set 'trees'"),
        ({"decision_points": "never"}, ValueError, "decision_points is 'never'; it must be one of"),
    ],
)
def test_bad_arguments_are_told_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        make_env(**arguments)


def test_bad_calls_are_told():
    env = make_env("Tiny")
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step({})
    with pytest.raises(ValueError, match="seed is -1; it must be a whole number of at least 0"):
        env.reset(seed=-1)
    with pytest.raises(ValueError, match=r"level_seed is 1073741824; it must be a whole number from 0 to 1073741823"):
        env.reset(options={"level_seed": 2**30})
    env.reset()
    for action in (-1, 5):
        with pytest.raises(ValueError, match=rf"the action of train_0 is {action}; it must be"):
            env.step({"train_0": action})
    with pytest.raises(KeyError, match="train_7"):
        env.step({"train_7": 0})


def test_without_pettingzoo_it_says_what_to_install():
    code = "import sys; sys.modules['pettingzoo'] = None; import utils.parallel_env"
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[-1].endswith("not installed: pip install -r requirements-pettingzoo.txt")
