"""What a training says where flatland-rl is another one, or missing."""

import subprocess
import sys

import pytest

from utils.system import required_flatland
from utils.system.files import PROJECT_ROOT


@pytest.mark.parametrize(("installed", "can_train"), [("4.2.6", False), ("4.3.0", True), ("4.10.0rc1", True)])
def test_the_version_that_a_training_needs(installed: str, can_train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(required_flatland, "version", lambda _: installed)
    assert (required_flatland.why_untrainable() is None) == can_train


def test_a_python_without_packages_gets_a_sentence() -> None:
    without_packages = [sys.executable, "-I", "-S"]
    script = PROJECT_ROOT / "reinforcement_learning" / "multi_agent_training.py"
    ended = subprocess.run([*without_packages, script, "-n", "1"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == [
        f"multi_agent_training.py: error: {sys.executable} has no flatland-rl: use the Python of the environment in "
        "which requirements.txt is installed (. .venv/bin/activate)."
    ]
