"""What trajectory graders load; that its actions are those of run.py is shown in test_run.py."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env_action import RailEnvActions

from reinforcement_learning import submission
from reinforcement_learning.saving.checkpointing import CheckpointError, write_checkpoint
from reinforcement_learning.scoring.planning import PLAN_SECONDS, Planner, PlanningOptions
from reinforcement_learning.submission import (
    ObservationBuilder,
    Policy,
    checkpoint_to_submit,
    load_warmed_up,
    planning_to_submit,
)
from tests.helpers.playing import begun
from tests.helpers.rail_envs import EAST, WEST, drawn_env, sparse_env
from tests.helpers.tiny_training import make_trainer
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import FlatlandSimulator


@pytest.fixture(autouse=True)
def _network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a test says otherwise."""
    monkeypatch.setenv("FLATLAND_PLAN_SECONDS", "0")


def test_actions_are_those_of_a_rollout_to_the_end() -> None:
    env = sparse_env(4, n_agents=8, obs_builder=ObservationBuilder())
    policy, handles = Policy(), env.get_agent_handles()
    played, (greedy, observer) = sparse_env(4, n_agents=8), load_warmed_up(checkpoint_to_submit())
    rollout = begun(played, greedy, observer=observer)
    observations = env._get_observations()
    while rollout.playing:
        actions = policy.act_many(handles, [observations[handle] for handle in handles])
        assert all(isinstance(action, RailEnvActions) for action in actions.values())
        rollout.step()
        observations, _, _, _ = env.step(actions)
        np.testing.assert_array_equal(RailState.from_env(env).dynamic, RailState.from_env(played).dynamic)
    assert env.dones["__all__"]


def test_planned_actions_are_those_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    few = PlanningOptions(600.0, rounds=2, first_rounds=5)
    monkeypatch.setattr(submission, "planning_to_submit", lambda: few)
    policy, builder = Policy(), ObservationBuilder()
    for seed in (4, 5):  # one policy plays one level after the other
        env = sparse_env(seed, n_agents=5, obs_builder=builder)
        simulator = FlatlandSimulator(sparse_env(seed, n_agents=5))
        planner, handles = Planner(*load_warmed_up(checkpoint_to_submit()), few), env.get_agent_handles()
        observations = env._get_observations()
        for _ in range(10):
            actions = policy.act_many(handles, [observations[handle] for handle in handles])
            expected = planner.act(simulator)
            assert [action.value for action in actions.values()] == expected.tolist()
            simulator.step(expected)
            observations, _, _, _ = env.step(actions)


def test_deadlocked_trains_do_nothing() -> None:
    """Two trains are face to face, a third one has a track to itself."""
    track = "<---------->"
    trains = [(((0, 4), EAST), (0, 10)), (((0, 7), WEST), (0, 1)), (((2, 1), EAST), (2, 10))]
    env, builder = drawn_env([track, " " * 12, track], trains), ObservationBuilder()
    builder.reset(env)
    for _ in range(6):
        env.step(dict.fromkeys(range(3), RailEnvActions.MOVE_FORWARD))
    assert deadlocked(RailState.from_env(env)).tolist() == [True, True, False]
    actions = Policy().act_many([0, 1, 2], list(builder.get_many([0, 1, 2]).values()))
    assert list(actions.values()) == [RailEnvActions.DO_NOTHING, RailEnvActions.DO_NOTHING, RailEnvActions.MOVE_FORWARD]


def test_one_train_by_itself() -> None:
    builder, policy = ObservationBuilder(), Policy()
    env = sparse_env(1, n_agents=3, obs_builder=builder)
    for _ in range(15):
        env.step(dict.fromkeys(range(3), 2))
    all_observations = builder.get_many([0, 1, 2])
    together = policy.act_many([0, 1, 2], list(all_observations.values()))
    for handle in range(3):
        assert policy.act(builder.get(handle)) == together[handle]
    # by handle, not by position
    assert policy.act_many([2], [all_observations[2]]) == {2: together[2]}


def test_observations_need_a_level() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        ObservationBuilder().get(0)


def test_network_and_features_of_the_users_own_are_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"network": "tests.helpers.own_code:Linear", "features": "tests.helpers.own_code:Handles"}
    write_checkpoint(tmp_path / "own.pt", make_trainer(tmp_path, **own)[0].state.state_dict())
    monkeypatch.setenv("FLATLAND_CHECKPOINT", str(tmp_path / "own.pt"))
    both = r"set FLATLAND_NETWORK=\S*Linear FLATLAND_FEATURES=\S*Handles\."
    with pytest.raises(CheckpointError, match=both) as error_info:
        Policy()
    assert "command line" not in str(error_info.value)
    monkeypatch.setenv("FLATLAND_NETWORK", own["network"])
    with pytest.raises(CheckpointError, match="set FLATLAND_FEATURES="):
        Policy()
    monkeypatch.setenv("FLATLAND_FEATURES", "tests.helpers.own_code:Longer")
    with pytest.raises(CheckpointError, match=r"FLATLAND_FEATURES is '.*Longer', but .* with '.*Handles'"):
        Policy()
    monkeypatch.setenv("FLATLAND_FEATURES", own["features"])
    env = sparse_env(4, n_agents=3, obs_builder=ObservationBuilder())
    actions = Policy().act_many([0, 1, 2], list(env._get_observations().values()))
    assert len(actions) == 3


def test_level_that_is_reset_after_it_was_loaded(tmp_path: Path) -> None:
    """As ``flatland-trajectory-generate-from-policy --post-seed`` does; before that the file has no last step."""
    path = tmp_path / "level.pkl"
    RailEnvPersister.save(sparse_env(4, n_agents=3), path)
    content = pickle.loads(path.read_bytes())
    del content["max_episode_steps"]
    path.write_bytes(pickle.dumps(content))
    env, _ = RailEnvPersister.load_new(path, obs_builder=ObservationBuilder())
    with pytest.warns(UserWarning, match="no max_episode_steps"):
        observations, _ = env.reset(random_seed=1001)
    assert set(Policy().act_many([0, 1, 2], list(observations.values()))) == {0, 1, 2}


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "inf"])
def test_seconds_in_the_environment_that_are_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATLAND_PLAN_SECONDS", text)
    with pytest.raises(ValueError, match=f"FLATLAND_PLAN_SECONDS: '{text}' is not a number of seconds"):
        planning_to_submit()


def test_seconds_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planning_to_submit() is None
    monkeypatch.delenv("FLATLAND_PLAN_SECONDS")
    assert planning_to_submit() == PlanningOptions.of_seconds(PLAN_SECONDS)  # submissions plan unless told otherwise
    monkeypatch.setenv("FLATLAND_PLAN_SECONDS", "2.5")
    options = planning_to_submit()
    assert options is not None
    assert options.seconds == 2.5
