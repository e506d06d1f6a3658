"""--rewards: names on board and classes of the user's own, in every command that takes them."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from flatland.envs.rewards import DefaultRewards, ECML2026Rewards, Rewards

import run
from reinforcement_learning import evaluate_agent, grade_locally, multi_agent_training
from reinforcement_learning.grading import remote_evaluation
from reinforcement_learning.settings.extensions import ExtensionError
from reinforcement_learning.settings.named_rewards import REWARDS, find_rewards
from reinforcement_learning.settings.run_config import make_config
from tests.helpers.own_code import KindRewards
from tests.helpers.rail_envs import sparse_env
from tests.helpers.trainings import run as train
from utils.levels.level_streams import TrainingLevels
from utils.levels.playable_levels import EvaluationLevels
from utils.system.users_code import UsersCodeError

OWN = "tests.helpers.own_code"


def test_finds_what_is_on_board_and_what_users_write() -> None:
    assert all(find_rewards(name) is REWARDS[name] for name in ("default", "ecml2026", "delay"))
    assert find_rewards(f"{OWN}:KindRewards") is KindRewards


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ecml", "give one of default, ecml2026, delay, or package.module:callable"),
        ("no_such_module:Rewards", "cannot be imported"),
        (f"{OWN}:Linear", "another class, but must be a subclass"),
        (f"{OWN}:leaves", "a function, but must be a subclass"),
        ("flatland.envs.rewards:PunctualityRewards", r"gave \(0, 0\), but must give a finite number"),
        ("flatland.envs.rewards:BaseECML2026Rewards", "but must give a finite number"),
        ("flatland.envs.rewards:Rewards", "failed .NotImplementedError"),
        (f"{OWN}:RewardsOfNaN", "gave nan, but must give a finite number"),
        (f"{OWN}:FailingRewards", "failed .SystemExit: enough; own_code.py, line"),
    ],
)
def test_what_are_no_rewards_is_told_in_a_sentence(name: str, words: str) -> None:
    with pytest.raises(ExtensionError) as error:
        find_rewards(name)
    assert "\n" not in str(error.value)
    assert re.search(words, str(error.value))


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (evaluate_agent.main, ["--policy", "random", "-e", "Tiny"]),
        (run.main, ["--wait", "0"]),
        (grade_locally.main, ["--tests", "nowhere"]),
        (multi_agent_training.main, ["-t", "Tiny", "-e", "Tiny"]),
    ],
    ids=["evaluate", "run", "grade", "train"],
)
def test_every_command_refuses_them_with_2(
    command: Callable[[list[str]], int],
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command([*arguments, "--rewards", "ecml"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "default, ecml2026, delay" in err
    assert list(tmp_path.iterdir()) == []


def test_a_remote_evaluator_has_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tests", str(tmp_path / "envs"), "--way", "remote", "--rewards", "ecml2026"]
    assert grade_locally.main(arguments) == 2
    assert "--rewards has no effect with --way remote" in capsys.readouterr().err


def test_levels_of_a_training_have_them() -> None:
    config = make_config({"training_env_config": "Tiny", "evaluation_env_config": "Tiny", "rewards": "ecml2026"})
    levels = TrainingLevels(config.training_env, 0).make(0), EvaluationLevels(config.evaluation_env, 0, 1).make(0)
    assert [type(level.rewards) for level in levels] == [ECML2026Rewards, ECML2026Rewards]


def test_own_rewards_reach_all_processes_of_a_training(tmp_path: Path) -> None:
    options = {"rewards": f"{OWN}:KindRewards", "n_episodes": 3, "num_workers": 1, "level_workers": 1}
    trainer, sink = train(tmp_path, **options)
    assert trainer.episode == 3
    scores = [row["training/score"] for row in sink.rows if "training/score" in row]
    assert min(scores) > 0.3  # half a point for each step, less what default rewards cost
    (said,) = (message for message in sink.messages if "KindRewards" in message)
    assert "flatland-rl's own does" in said


@pytest.mark.parametrize("rewards", [DefaultRewards, ECML2026Rewards])
def test_a_remote_level_is_rewarded_by_name(rewards: type[Rewards], monkeypatch: pytest.MonkeyPatch) -> None:
    env = sparse_env(1, n_agents=2)
    client = SimpleNamespace(env=env, env_create=lambda builder: ({}, {}), found_errors=False)
    monkeypatch.setattr(remote_evaluation, "_Client", lambda wait: client)
    level = remote_evaluation.RemoteEvaluation(0, rewards).next_level()
    assert level is env
    assert type(level.rewards) is rewards


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RewardsOfNaNLater", "gave nan, but must give a finite number"),
        ("RewardsThatFailLater", "failed in step .* .SystemExit: enough; own_code.py, line"),
    ],
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_own_rewards_that_break_later_leave_a_sentence_and_a_checkpoint(
    name: str, words: str, num_workers: int, tmp_path: Path
) -> None:
    with pytest.raises(UsersCodeError, match=words) as error:
        train(tmp_path, rewards=f"{OWN}:{name}", num_workers=num_workers)
    assert error.value.saved


def test_scoring_under_rewards_that_break_later_ends_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--policy", "forward", "-e", "Tiny", "-n", "1", "--rewards", f"{OWN}:RewardsOfNaNLater"]
    assert evaluate_agent.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "'RewardsOfNaNLater' gave nan" in err
