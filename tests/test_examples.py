"""The examples run as they say, each in processes of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system.files import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "examples"
TIMEOUT = 180  # seconds
EVALUATE = "reinforcement_learning/evaluate_agent.py"
TRAIN = "reinforcement_learning/multi_agent_training.py"
SHORT = "-t Tiny -e Tiny --run_name run --checkpoint_interval 2 --n_evaluation_episodes 2 --buffer_min_size 50 "
SHORT += "--buffer_size 2000 --batch_size 16 --num_envs 2 --wandb False --tensorboard False --learning_curve False"
FOLDERS = "--checkpoint_dir {folder}/c --replay_buffer_dir {folder}/r --output_dir {folder}/o"


def trained_resumed_and_evaluated(named: str, to_play: str | None = None) -> str:
    """A few episodes with what an example adds to a training, with a process that plays; ``to_play``: if less does."""
    to_play = named if to_play is None else to_play
    return (
        f"{TRAIN} -n 2 {SHORT} {FOLDERS} --num_workers 1 {named} && "
        f"{TRAIN} -n 4 --resume latest {FOLDERS} {named} && "
        f"{EVALUATE} -e Tiny -n 1 --policy {{folder}}/c/run/best.pt {to_play}"
    )


# several commands in a row where there is a &&
COMMANDS = {
    "own_policy": f"{EVALUATE} -e Tiny -n 2 --policy examples.own_policy:OneAfterTheOther "
    "--policy examples.own_policy:Hasty",
    "learning_reward": trained_resumed_and_evaluated(
        "--learning_reward examples.learning_reward:learning_reward", to_play=""
    ),
    "tree_attention": trained_resumed_and_evaluated("--network examples.tree_attention:TreeAttention"),
    "more_features": trained_resumed_and_evaluated("--features examples.more_features:Order"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_example_runs(command: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    for part in command.format(folder=tmp_path).split(" && "):
        whole = [sys.executable, *part.split()]
        done = subprocess.run(whole, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


# script, its arguments, the modules it needs beyond requirements.txt, something that it prints
EXAMPLES = [
    ("own_loop.py", ["--episodes", "3"], ["pettingzoo"], "episode 3: score -"),
    (
        "maskable_ppo.py",
        ["--steps", "1000"],
        ["pettingzoo", "sb3_contrib"],
        "episodes, score -",
    ),
]


@pytest.mark.parametrize(("script", "arguments", "needs", "printed"), EXAMPLES, ids=[row[0] for row in EXAMPLES])
def test_script_runs(script: str, arguments: list[str], needs: list[str], printed: str, tmp_path: Path) -> None:
    for module in needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -r requirements-pettingzoo.txt")
    command = [sys.executable, str(FOLDER / script), *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    assert printed in ended.stdout
    assert not list(tmp_path.iterdir())


def test_every_example_is_run() -> None:
    run = {row[0].removesuffix(".py") for row in EXAMPLES} | set(COMMANDS)
    assert run == {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
