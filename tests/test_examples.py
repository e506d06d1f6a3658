"""The examples run as they say, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system.files import PROJECT_ROOT

TIMEOUT = 180  # seconds
EVALUATE = "reinforcement_learning/evaluate_agent.py"
COMMANDS = {
    "own_policy": f"{EVALUATE} -e Tiny -n 2 --policy examples.own_policy:OneAfterTheOther "
    "--policy examples.own_policy:Hasty",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_example_runs(command: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    whole = [sys.executable, *command.split()]
    done = subprocess.run(whole, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
