"""What a checkpoint names is not imported and not unpickled, unless the command line names it as well."""

import os
import pickle
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run
from reinforcement_learning import evaluate_agent, multi_agent_training
from reinforcement_learning.saving.checkpointing import export_checkpoint, read_checkpoint, write_checkpoint
from reinforcement_learning.settings.run_config import make_config, options_to_repeat
from tests.helpers.tiny_training import SMALL, make_trainer
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env


class TraceOnUnpickling:
    """A file that holds one makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.makedirs, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is made as soon as ``leaves_a_trace`` is imported or ``level.pkl`` unpickled."""
    trace = tmp_path / "trace"
    code = f"import os\n\nos.makedirs({str(trace)!r}, exist_ok=True)\n\n\ndef rule(request):\n"
    (tmp_path / "leaves_a_trace.py").write_text(f"{code}    return [0] * request.n_trains\n")
    (tmp_path / "level.pkl").write_bytes(pickle.dumps(TraceOnUnpickling(trace)))
    (tmp_path / "levels.json").write_text('{"map": "level.pkl", "trains": 3}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "leaves_a_trace", raising=False)
    return trace


def checkpoint_that_names(folder: Path, **names: str) -> str:
    trainer, _ = make_trainer(folder / "training", num_policies=2)
    content = trainer.state.state_dict()
    path = folder / "given.pt"
    write_checkpoint(path, content | {"config": content["config"] | names, "replay_buffers": []})
    return str(path)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("policy_mapping", "leaves_a_trace:rule"),
        ("network", "leaves_a_trace:rule"),
        ("network", "dueling,leaves_a_trace:rule"),
        ("features", "leaves_a_trace:rule"),
        ("rewards", "leaves_a_trace:rule"),
        ("pbt_objective", "leaves_a_trace:rule"),
        ("training_env_config", "level.pkl"),
        ("evaluation_env_config", " level.pkl "),
        ("training_env_config", "levels.json"),
        ("training_env_config", "Tiny,level.pkl"),
        ("training_env_config", "."),
        ("evaluation_env_config", "*.pkl"),
    ],
)
def test_resume_refuses_what_only_the_checkpoint_names(
    trace: Path, option: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint_that_names(trace.parent, **{option: name})
    assert multi_agent_training.main(["--resume", path]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.endswith(f"add --{option} {shlex.quote(name)}.\n")
    assert not trace.exists()


def test_resume_says_at_once_all_that_is_missing(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("network", "policy_mapping", "learning_reward")
    path = checkpoint_that_names(trace.parent, **dict.fromkeys(names, "leaves_a_trace:rule"))
    assert multi_agent_training.main(["--resume", path, "--policy_mapping", "leaves_a_trace:rule"]) == 2
    err = capsys.readouterr().err
    assert err.endswith("add --network leaves_a_trace:rule --learning_reward leaves_a_trace:rule.\n")
    assert not trace.exists()


def test_resume_takes_what_the_command_line_names(trace: Path) -> None:
    path = checkpoint_that_names(trace.parent, policy_mapping="leaves_a_trace:rule")
    folders = [f"--{name}={trace.parent / name}" for name in ("checkpoint_dir", "output_dir", "replay_buffer_dir")]
    assert (
        multi_agent_training.main(["--resume", path, "--policy_mapping", "leaves_a_trace:rule", "-n1", *folders]) == 0
    )
    assert trace.exists()


def test_another_spelling_of_a_path_is_the_same_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flatland.envs.persistence import RailEnvPersister

    RailEnvPersister.save(make_rail_env(ENV_CONFIGS["Tiny"], 0), str(tmp_path / "level.pkl"))
    monkeypatch.chdir(tmp_path)
    stored = make_config({**SMALL, "training_env_config": "level.pkl"}).as_dict()
    assert stored["training_env_config"] == str(tmp_path / "level.pkl")
    for spelling in ("level.pkl", "./level.pkl", stored["training_env_config"]):
        assert make_config({"training_env_config": spelling}, stored).as_dict() == stored
    several = make_config({**SMALL, "training_env_config": "Test_0, level.pkl"})
    assert several.training_env_config == f"Test_0,{tmp_path / 'level.pkl'}"
    assert options_to_repeat(several) == ["--training_env_config", several.training_env_config]
    for given in (".", "*.pkl"):
        config = make_config({**SMALL, "training_env_config": given})
        assert config.training_env_config == os.path.abspath(given)
        assert config.training_env.n_agents == 2


@pytest.mark.parametrize(
    ("command", "option"), [(evaluate_agent.main, "--policy"), (run.main, "--checkpoint")], ids=["evaluate", "run"]
)
def test_playing_refuses_a_mapping_that_only_the_checkpoint_names(
    trace: Path, command: Callable[[list[str]], int], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint_that_names(trace.parent, policy_mapping="leaves_a_trace:rule")
    assert command([option, path, "--policy_index", "mapping"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "add --policy_mapping leaves_a_trace:rule" in err
    assert not trace.exists()


@pytest.mark.parametrize("another_named", [False, True], ids=["nothing named", "another named"])
@pytest.mark.parametrize("named", ["network", "features"])
@pytest.mark.parametrize(
    ("command", "option"), [(evaluate_agent.main, "--policy"), (run.main, "--checkpoint")], ids=["evaluate", "run"]
)
def test_playing_refuses_networks_and_features_that_only_the_checkpoint_names(
    trace: Path,
    command: Callable[[list[str]], int],
    option: str,
    named: str,
    another_named: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = checkpoint_that_names(trace.parent, **{named: "leaves_a_trace:rule"})
    other = [f"--{named}", "another:one"] if another_named else []
    assert command([option, path, *other]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "'leaves_a_trace:rule'" in err
    assert ("another:one" in err) == another_named
    assert not trace.exists()


def test_exporting_imports_nothing(trace: Path) -> None:
    path = checkpoint_that_names(trace.parent, network="leaves_a_trace:rule", features="leaves_a_trace:rule")
    export_checkpoint(path, trace.parent / "small.pt")
    assert read_checkpoint(trace.parent / "small.pt", to_resume=False)["config"]["network"] == "leaves_a_trace:rule"
    assert not trace.exists()


def test_playing_takes_a_mapping_that_the_command_line_names(trace: Path) -> None:
    path = checkpoint_that_names(
        trace.parent,
        policy_mapping="leaves_a_trace:rule",
        training_env_config="level.pkl",
        rewards="no:thing",
        learning_reward="no:thing",
        ray_address="no:1",
    )
    arguments = ["--policy", path, "-e", "Tiny", "-n", "1", "--policy_index", "mapping"]
    assert evaluate_agent.main([*arguments, "--policy_mapping", "by_handle"]) == 0
    assert not trace.exists()
    assert evaluate_agent.main([*arguments, "--policy_mapping", "leaves_a_trace:rule"]) == 0
    assert trace.exists()


def test_a_single_policy_needs_no_mapping(trace: Path) -> None:
    path = checkpoint_that_names(
        trace.parent, policy_mapping="leaves_a_trace:rule", evaluation_env_config=str(trace.parent / "level.pkl")
    )
    assert evaluate_agent.main(["--policy", path, "-e", "Tiny", "-n", "1", "--policy_index", "1"]) == 0
    assert not trace.exists()
