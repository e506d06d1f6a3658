"""The examples run from any folder; each is a row of ``EXAMPLES``."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"

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
def test_runs(script, arguments, needs, printed, tmp_path):
    for module in needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -r requirements-pettingzoo.txt")
    command = [sys.executable, str(FOLDER / script), *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    assert printed in ended.stdout
    assert not list(tmp_path.iterdir())


def test_every_example_is_run():
    assert sorted(row[0] for row in EXAMPLES) == sorted(path.name for path in FOLDER.glob("*.py"))
