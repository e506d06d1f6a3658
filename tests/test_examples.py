"""The examples run as they say, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system.files import PROJECT_ROOT

TIMEOUT = 180  # seconds
EVALUATE = "reinforcement_learning/evaluate_agent.py"
# what makes a training short, and keeps its files together
TRAIN = "reinforcement_learning/multi_agent_training.py -t Tiny -e Tiny --n_evaluation_episodes 1 --wandb False"
TRAIN += " --buffer_size 2000 --checkpoint_dir FOLDER --output_dir FOLDER --replay_buffer_dir FOLDER"
COMMANDS = {
    "own_policy": f"{EVALUATE} -e Tiny -n 2 --policy examples.own_policy:OneAfterTheOther "
    "--policy examples.own_policy:Hasty",
    "learning_reward": f"{TRAIN} -n 2 --num_workers 2 --learning_reward examples.learning_reward:no_standing",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_example_runs(command: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    whole = [sys.executable, *command.replace("FOLDER", str(tmp_path)).split()]
    done = subprocess.run(whole, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
