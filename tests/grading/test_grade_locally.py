"""grade_locally.py: what it has started ends with it."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rewards import ECML2026Rewards

from reinforcement_learning.grade_locally import EVALUATORS_SEED, _call, grade_trajectories, main
from reinforcement_learning.scoring.scoring import Scorer, Task
from reinforcement_learning.submission import checkpoint_to_submit
from tests.helpers.grading import TIMEOUT, needs_redis
from tests.helpers.rail_envs import sparse_env
from utils.levels.saved_levels import SavedEnv
from utils.system.files import PROJECT_ROOT

EXIT_CODES = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGHUP: 128 + signal.SIGHUP, signal.SIGKILL: -signal.SIGKILL}


def _has_started_run(process: psutil.Process) -> bool:
    return any(part.endswith("run.py") for child in process.children() for part in child.cmdline())


@needs_redis
@pytest.mark.parametrize("number", EXIT_CODES)
def test_nothing_is_left_of_it_whatever_ends_it(number: signal.Signals, tmp_path: Path) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux ends processes with the one that started them")
    command = [sys.executable, "reinforcement_learning/grade_locally.py", "--tests", str(tmp_path / "envs")]
    command += ["-e", "Tiny", "-n", "1", "--way", "remote"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL) as process:
        grading = psutil.Process(process.pid)
        while not _has_started_run(grading):
            assert process.poll() is None
        started = grading.children(recursive=True)
        process.send_signal(number)
    assert process.returncode == EXIT_CODES[number]
    assert psutil.wait_procs(started, timeout=TIMEOUT)[1] == []


def test_trajectories_are_graded_under_the_rewards_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLATLAND_PLAN_SECONDS", "0")
    path = tmp_path / "Test_00" / "Level_0.pkl"
    path.parent.mkdir()
    RailEnvPersister.save(sparse_env(1, n_agents=6, n_cities=3, line_length=3), str(path))
    ((name, score, completion),) = grade_trajectories([path], tmp_path, ECML2026Rewards)
    assert name == "Test_00/Level_0.pkl"
    scorer = Scorer([str(checkpoint_to_submit())])
    ((played,),) = scorer.play([Task(SavedEnv(path, ECML2026Rewards), int(EVALUATORS_SEED))])
    assert (score, completion) == pytest.approx((1 + played.result.score, played.result.completion))
    assert played.result.losses["stop_not_served"] > 0


@pytest.mark.parametrize("kind", ["ECML_small", "level.pkl"])
def test_makes_tests_of_named_configurations_only(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    RailEnvPersister.save(sparse_env(1, n_agents=2), "level.pkl")
    assert main(["--tests", "envs", "-e", kind, "-n", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"-e is {kind!r}, but must be 0, 1, 2, Tiny or an official test" in line
    assert not Path("envs").exists()


def test_graders_find_what_the_users_python_path_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another flatland-rl, for example."""
    (tmp_path / "of_the_users_own.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    _call([sys.executable, "-c", "import of_the_users_own, run"], PROJECT_ROOT / "docs")
