"""A reward of a user's own: what it is told, what comes of it, and one sentence for each that cannot be used."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatland.envs.step_utils.states import TrainState
from torch.testing import assert_close

from reinforcement_learning.dddqn_policy import Batch
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.multi_agent_training import main
from reinforcement_learning.playing.own_reward import find_own_reward
from reinforcement_learning.playing.reward_shaping import LearningReward, RewardWeights, TrainStep, shaped_reward
from reinforcement_learning.playing.rollout import Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from reinforcement_learning.saving.checkpointing import numbered_checkpoint, read_checkpoint
from reinforcement_learning.settings.config import ConfigError, TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError
from reinforcement_learning.settings.run_config import make_config
from tests.helpers.playing import ListSink, RandomPolicy, play, play_out, transitions_in
from tests.helpers.tiny_training import UNGUIDED, make_trainer
from tests.helpers.trainings import assert_same, run
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.simulator.simulator import FlatlandSimulator

NOTHING_ELSE = RewardWeights(0.99, 0.0, 0.0, 0.0)
WEIGHTS = RewardWeights(gamma=0.99, shaping=2.0, arrival_reward=3.0, deadlock_penalty=0.25)
HERE = "tests.playing.test_own_reward"


def as_the_kit(step: TrainStep) -> np.ndarray:
    return shaped_reward(step, WEIGHTS)


def handles(step: TrainStep) -> np.ndarray:
    return np.arange(step.state.n_trains)


def wrong_later(step: TrainStep) -> np.ndarray:
    return np.full(step.state.n_trains, np.nan if step.state.elapsed_steps == 3 else 0.0)


def spoils(step: TrainStep) -> np.ndarray:
    for array in (step.rewards, step.remaining, step.newly_arrived, step.actions):
        array[:] = 0
    return np.zeros(step.state.n_trains)


def transitions(own_reward: LearningReward | None, weights: RewardWeights, team_reward: float = 0.0) -> Batch:
    """Of three levels with different numbers of trains, played side by side at random."""
    sink = ListSink()
    weights, learning = dataclasses.replace(weights, team_reward=team_reward), Learning(sink, own_reward)
    settings = TrainSettings(gamma=weights.gamma, in_a_team=team_reward > 0.0)
    rollout = Rollout(
        Observer(get_feature_set("tree"), safe_moves=False), [RandomPolicy(1)], 10, n_slots=4, learning=learning
    )
    for slot, (name, seed) in enumerate((("Test_0", 1), ("Tiny", 2), ("Test_1", 3))):
        rollout.start(slot, FlatlandSimulator(make_rail_env(ENV_CONFIGS[name], seed)), settings)
    play_out(rollout)
    return sink.transitions(weights, 2)


@pytest.mark.parametrize("team_reward", [0.0, 0.1])
def test_same_function_same_transitions(team_reward: float) -> None:
    own = transitions(find_own_reward(f"{HERE}:as_the_kit"), NOTHING_ELSE, team_reward)
    for name, value in vars(transitions(None, WEIGHTS, team_reward)).items():
        assert_close(getattr(own, name), value, rtol=1e-5, atol=1e-5)
    assert not own.rewards.equal(transitions(None, NOTHING_ELSE, team_reward).rewards)


def test_others_rewards_are_shared_out_on_top() -> None:
    alone, shared = (transitions(handles, NOTHING_ELSE, weight).rewards.sum() for weight in (0.0, 0.5))
    assert shared > alone > 0


def test_is_told_what_happened() -> None:
    steps: list[TrainStep] = []
    positions: list[list[bool]] = []
    env = make_rail_env(ENV_CONFIGS["Test_0"], 1004)

    def reward(step: TrainStep) -> np.ndarray:
        steps.append(dataclasses.replace(step))
        positions.append([agent.current_configuration is not None for agent in env.agents])
        assert step.state.elapsed_steps == len(steps)
        return np.zeros(5)

    result = play(env, RandomPolicy(5), learning=Learning(ListSink(), own_reward=reward))
    assert len(steps) == result.n_steps
    assert [step.episode_over for step in steps] == [False] * (len(steps) - 1) + [True]
    total = sum(step.rewards.sum() for step in steps) / (env._max_episode_steps * 5)
    assert total == pytest.approx(result.score)
    arrived = [agent.state == TrainState.DONE for agent in env.agents]
    assert np.sum([step.newly_arrived for step in steps], axis=0).tolist() == arrived
    assert np.sum([step.newly_deadlocked for step in steps]) == round(5 * result.deadlocked) > 0
    departed = np.cumsum([step.newly_departed for step in steps], axis=0)
    assert departed.max() == 1
    assert (departed >= np.array(positions)).all()
    assert departed[-1].sum() == round(5 * (1 - result.never_departed)) > 0
    for before, after in itertools.pairwise(steps):
        np.testing.assert_array_equal(before.remaining, after.remaining_before)
    assert {step.max_episode_steps for step in steps} == {env._max_episode_steps}
    assert set(np.concatenate([step.actions for step in steps]).tolist()) <= {0, 1, 2, 3, 4}


def test_cannot_spoil_the_episode() -> None:
    def results(own_reward: LearningReward | None) -> Any:
        env = make_rail_env(ENV_CONFIGS["Test_0"], 1004)
        return play(env, RandomPolicy(5), learning=Learning(ListSink(), own_reward=own_reward))

    assert_same(vars(results(spoils)), vars(results(None)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda step: 1.0, r"shape \[\]"),
        (lambda step: np.zeros((2, 1)), r"shape \[2, 1\]"),
        (lambda step: [0.0], r"shape \[1\]"),
        (lambda step: [0.0, np.nan], "gave nan"),
        (lambda step: [0.0, -np.inf], "gave -inf"),
        (lambda step: ["a", "b"], "type <U1"),
        (lambda step: None, "type object"),
        (lambda step: [[0.0], [0.0, 1.0]], "different lengths"),
        (lambda step: 1 // 0, r"failed in step 1 \(ZeroDivisionError.*; test_own_reward.py, line \d+\)"),
        (lambda: 0.0, "TypeError"),
    ],
)
def test_what_is_no_reward_is_told_in_a_sentence(given: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "given", given)
    env = make_rail_env(ENV_CONFIGS["Tiny"], 0)
    learning = Learning(ListSink(), own_reward=find_own_reward(f"{__name__}:given"))
    with pytest.raises(ExtensionError, match=words) as error_info:
        play(env, RandomPolicy(), learning=learning)
    assert f"the learning reward '{__name__}:given'" in str(error_info.value)
    assert "\n" not in str(error_info.value)


def test_options_that_it_replaces_are_refused_and_not_searched() -> None:
    for name in ("shaping", "arrival_reward", "deadlock_penalty"):
        with pytest.raises(ConfigError, match=f"--{name} has no effect with --learning_reward {HERE}:handles"):
            make_config({"learning_reward": f"{HERE}:handles", name: 1.0})
    hyperparameters = Hyperparameters.of(TrainingConfig(learning_reward=f"{HERE}:handles"))
    assert vars(hyperparameters.reward_weights) == {
        "gamma": TrainingConfig.gamma,
        "shaping": 0.0,
        "arrival_reward": 0.0,
        "deadlock_penalty": 0.0,
        "team_reward": 0.0,
    }


def test_trains_several_policies_in_processes_as_the_kits_own_reward_does(tmp_path: Path) -> None:
    options = UNGUIDED | {"n_episodes": 6, "num_policies": 2, "num_workers": 2, "gamma": 0.99}
    # without learning steps both play the same: what is learned from differs by rounding
    options |= {"buffer_size": 5_000, "buffer_min_size": 5_000}
    weights = {name: getattr(WEIGHTS, name) for name in ("shaping", "arrival_reward", "deadlock_penalty")}
    own, _ = run(tmp_path / "own", learning_reward=f"{HERE}:as_the_kit", **options)
    kit, _ = run(tmp_path / "kit", **options, **weights)
    for learners in zip(own.population.learners, kit.population.learners, strict=True):
        found, wanted = (transitions_in(learner) for learner in learners)
        assert len(found.rewards) > 20
        for name, value in vars(wanted).items():
            assert_close(getattr(found, name), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_reward_that_breaks_leaves_a_checkpoint(tmp_path: Path, num_workers: int) -> None:
    trainer, _ = make_trainer(tmp_path, num_workers=num_workers, learning_reward=f"{HERE}:wrong_later")
    with pytest.raises(ExtensionError, match="gave nan") as error_info:
        trainer.run()
    assert error_info.value.saved
    path = numbered_checkpoint(trainer.folders.checkpoints, trainer.episode)
    assert read_checkpoint(path)["config"]["learning_reward"] == f"{HERE}:wrong_later"


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [f"--{name}={tmp_path}" for name in ("checkpoint_dir", "output_dir", "replay_buffer_dir")]
    short = [*folders, "-t", "Tiny", "-e", "Tiny", "--n_evaluation_episodes=1", "--wandb=0", "--buffer_size=2000"]
    for name, words in (("nowhere:reward", "ModuleNotFoundError"), (f"{HERE}:transitions", "failed in step 1")):
        assert main([*short, "--learning_reward", name]) == 2
        err = capsys.readouterr().err
        assert (err.count("\n"), words in err) == (1, True)
    assert main([*short, "-n", "3", "--learning_reward", f"{HERE}:wrong_later"]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.endswith("but must give a finite number for each of 2 trains. A checkpoint was saved.")
    assert main([*folders, "--resume", "latest"]) == 2
    assert f"add --learning_reward {HERE}:wrong_later" in capsys.readouterr().err
    assert main([*folders, "--resume", "latest", "--learning_reward", f"{HERE}:handles", "-n", "1"]) == 0
