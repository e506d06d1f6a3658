"""grade_locally.py: what it has started ends with it."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rewards import ECML2026Rewards

from reinforcement_learning.grade_locally import main
from reinforcement_learning.grading import trajectories
from reinforcement_learning.grading.flatland_commands import TimeIsUp, call
from reinforcement_learning.grading.trajectories import EVALUATORS_SEED, Scenario, scenarios_of, walk
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
    env = sparse_env(1, n_agents=6, n_cities=3, line_length=3)
    for agent in env.agents:
        agent.waypoints_latest_arrival[1] = 1  # so that all come late to their stops
    RailEnvPersister.save(env, str(path))
    (grade,) = walk(scenarios_of([path]), tmp_path, ECML2026Rewards)
    assert (grade.scenario.level, grade.scenario.name, grade.remark) == ("Test_00", "Level_0.pkl", "")
    scorer = Scorer([str(checkpoint_to_submit())])
    ((played,),) = scorer.play([Task(SavedEnv(path, ECML2026Rewards), EVALUATORS_SEED)])
    assert (grade.score, grade.completion) == pytest.approx((1 + played.result.score, played.result.completion))
    assert played.result.losses["stop_late"] > 0


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
    call([sys.executable, "-c", "import of_the_users_own, run"], PROJECT_ROOT / "docs")


class TestWalk:
    """The order, and what ends it; flatland-rl's commands are not needed for that."""

    @pytest.fixture
    def completions(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
        """By file; infinite for one that is not over in time. What is missing brings all trains home."""
        completions: dict[str, float] = {}

        def generate(env_path: Path, data_dir: Path, rewards: type, seconds: float | None = None) -> None:
            assert seconds is not None
            completion = completions.get(env_path.stem, 1.0)
            (data_dir / "event_logs").mkdir(parents=True)
            if completion == float("inf"):
                raise TimeIsUp("")
            row = f"normalized_reward\tsuccess_rate\n{completion / 2}\t{completion}\n"
            (data_dir / "event_logs" / "TrainMovementEvents.trains_arrived.tsv").write_text(row)

        monkeypatch.setattr(trajectories, "generate_trajectory", generate)
        monkeypatch.setattr(trajectories, "call", lambda *_: None)
        return completions

    def scenarios(self, *names: str) -> list[Scenario]:
        return scenarios_of([Path("levels", f"{name}.pkl") for name in names])

    def test_levels_and_scenarios_come_in_the_order_of_their_numbers(self) -> None:
        names = ["level_10_scenario_1", "level_2_scenario_10", "level_2_scenario_9"]
        assert [scenario.path.stem for scenario in self.scenarios(*names)] == [names[2], names[1], names[0]]

    def test_a_level_that_brings_few_trains_home_is_the_last_one(
        self, completions: dict[str, float], tmp_path: Path
    ) -> None:
        completions |= {"level_1_scenario_1": 0.49, "level_1_scenario_2": 0.0}
        names = [f"level_{level}_scenario_{number}" for level in range(3) for number in (1, 2)]
        grades = list(walk(self.scenarios(*names), tmp_path / "a", ECML2026Rewards))
        assert [grade.completion for grade in grades] == [1.0, 1.0, 0.49, 0.0, 0.0, 0.0]
        assert "level 1 brings less than 25%" in grades[4].remark
        assert not any(grade.remark for grade in grades[:4])
        everything = list(walk(self.scenarios(*names), tmp_path / "b", ECML2026Rewards, ends_early=False))
        assert not any(grade.remark for grade in everything)

    def test_a_scenario_that_takes_too_long_scores_nothing(self, completions: dict[str, float], tmp_path: Path) -> None:
        completions["level_0_scenario_1"] = float("inf")
        late, good = walk(self.scenarios("level_0_scenario_1", "level_0_scenario_2"), tmp_path, ECML2026Rewards)
        assert (late.score, late.completion, late.remark) == (0.0, 0.0, "not over after 30 minutes")
        assert (good.score, good.remark) == (0.5, "")

    def test_the_whole_walk_ends_after_five_hours(self, completions: dict[str, float], tmp_path: Path) -> None:
        half_hours = iter(range(100))
        names = [f"level_0_scenario_{number}" for number in range(1, 5)]
        grades = list(walk(self.scenarios(*names), tmp_path, ECML2026Rewards, clock=lambda: 1800.0 * next(half_hours)))
        assert [grade.remark for grade in grades] == ["", "", "", "not played: the 5 hours were over"]


def test_a_folder_of_saved_levels_is_for_trajectories_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RailEnvPersister.save(sparse_env(1, n_agents=2), str(tmp_path / "level.pkl"))
    assert main(["--tests", str(tmp_path)]) == 2
    assert "give a folder of tests, a new one, or one of saved levels and --way trajectories" in capsys.readouterr().err
    (tmp_path / "level.pkl").unlink()
    assert main(["--tests", str(tmp_path), "--way", "trajectories"]) == 2
    assert "there is no saved environment" in capsys.readouterr().err


def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeIsUp, match="has taken longer than 0 seconds"):
        call([sys.executable, "-c", "import time; time.sleep(1000)"], PROJECT_ROOT, seconds=0.2)
