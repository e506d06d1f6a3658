"""run.py before flatland-rl's own evaluator, over a real Redis: graded, timed out, left alone."""

import csv
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from flatland.envs.rewards import DefaultRewards
from redis import Redis

import run
from reinforcement_learning.grade_locally import redis_server
from reinforcement_learning.grading.official_tests import write_tests
from reinforcement_learning.grading.remote_play import Episode
from reinforcement_learning.grading.trajectories import EVALUATORS_SEED, generate_trajectory
from reinforcement_learning.saving.checkpointing import write_checkpoint
from reinforcement_learning.scoring.players import PLANNING, PlanningPlayer, Player, PopulationPlayer
from reinforcement_learning.scoring.scoring import Scorer, Task
from reinforcement_learning.submission import checkpoint_to_submit
from tests.helpers.grading import RUN, TIMEOUT, Grading, needs_redis
from tests.helpers.tiny_training import make_trainer
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.levels.saved_levels import SavedEnv
from utils.simulator.simulator import FlatlandSimulator
from utils.system.files import PROJECT_ROOT

# Other numbers of trains and other speeds than those of the training of the checkpoint that ships.
TESTS = ("Test_0", "Benchmarks_Test_00")


@pytest.fixture(scope="module", autouse=True)
def compiled_planner() -> None:
    """What run.py needs is compiled once, before anybody waits for it.

    By a process of its own: this one may have compiled it for another cache, in a test before.
    """
    code = "from reinforcement_learning.scoring.planning import warm_up_planning; warm_up_planning()"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with redis_server(tmp_path_factory.mktemp("redis")):
        yield


@pytest.fixture(scope="module")
def tests_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("envs")
    write_tests(folder, [ENV_CONFIGS[name] for name in TESTS], n_levels=2)
    return folder


def graded(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


# Sleeps for longer than the evaluator waits, in the second episode; not for a multiple of that, as a command that comes
# at the moment of a time-out is lost to flatland-rl's evaluator.
SLOW_RUN = f"""
import sys, time
sys.path.insert(0, {str(PROJECT_ROOT)!r})
import run
from flatland.evaluators.client import FlatlandRemoteClient
step = FlatlandRemoteClient.env_step
def slow_step(self, actions):
    if self.current_env_path.endswith("Test_00/Level_1.pkl") and self.env._elapsed_steps == 4:
        time.sleep(3)
    return step(self, actions)
FlatlandRemoteClient.env_step = slow_step
sys.exit(run.main([]))
"""


@needs_redis
@pytest.mark.usefixtures("redis")
class TestGraded:
    @pytest.fixture(autouse=True)
    def _time_that_suffices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Then plans are the same each time, however busy the machine is."""
        monkeypatch.setenv("FLATLAND_PLAN_SECONDS", "600")

    def test_every_environment_with_the_scores_of_evaluate_agent(self, tests_folder: Path, tmp_path: Path) -> None:
        grading = Grading(tests_folder, tmp_path)
        with grading.evaluator() as evaluator, grading.submission() as submission:
            out, err = submission.communicate(timeout=TIMEOUT)
            assert submission.returncode == 0, err
            assert evaluator.wait(timeout=TIMEOUT) == 0
        rows = graded(grading.results)
        paths = sorted(tests_folder.glob("*/*.pkl"))
        assert list(rows) == [str(path.relative_to(tests_folder)) for path in paths]
        tasks = [Task(SavedEnv(path), EVALUATORS_SEED) for path in paths]
        scores, scorer = [], Scorer([f"{checkpoint_to_submit()}{PLANNING}"], plan_seconds=600)
        for row, (played,) in zip(rows.values(), scorer.play(tasks), strict=True):
            assert float(row["normalized_reward"]) == pytest.approx(1 + played.result.score)
            assert float(row["percentage_complete"]) == pytest.approx(played.result.completion)
            assert float(row["steps"]) == played.result.n_steps
            scores.append(1 + played.result.score)
        assert max(float(row["percentage_complete"]) for row in rows.values()) > 0
        lines = out.splitlines()
        assert [line.split(":")[0] for line in lines[1:5]] == list(rows)
        (total,) = (line.split() for line in lines if line.startswith("all "))
        assert total[1:4] == ["4", "0", f"{sum(scores) / 4:.3f}"]

    def test_submits_though_nobody_reads_what_it_prints(self, tests_folder: Path, tmp_path: Path) -> None:
        grading = Grading(tests_folder, tmp_path)
        with grading.evaluator() as evaluator, grading.submission() as submission:
            assert submission.stdout is not None
            submission.stdout.close()
            assert submission.wait(timeout=TIMEOUT) == 0
            assert evaluator.wait(timeout=TIMEOUT) == 0
        assert len(graded(grading.results)) == 4

    def test_time_out_costs_one_episode_and_trajectories_hold_the_same_actions(
        self, tests_folder: Path, tmp_path: Path
    ) -> None:
        grading = Grading(tests_folder, tmp_path, FLATLAND_PER_STEP_TIMEOUT="2")
        with grading.evaluator(keep_actions=True) as evaluator, grading.submission("-c", SLOW_RUN) as submission:
            out, err = submission.communicate(timeout=TIMEOUT)
            assert submission.returncode == 0, err
            evaluator.wait(timeout=TIMEOUT)
        assert "Test_00/Level_1.pkl: 5 trains, timed out, scores 0" in out
        (total,) = (line.split() for line in out.splitlines() if line.startswith("all "))
        assert total[1:3] == ["4", "1"]
        scores = {name: float(row["normalized_reward"]) for name, row in graded(grading.results).items()}
        assert scores.pop("Test_00/Level_1.pkl") == 0
        assert len(scores) == 3
        assert min(scores.values()) > 0
        name = "Test_01/Level_1.pkl"
        actions = json.loads((grading.actions / name).with_suffix(".json").read_text())
        assert trajectory_actions(tests_folder / name, tmp_path / name) == actions

    def test_evaluator_that_is_gone_in_the_middle(self, tmp_path: Path) -> None:
        write_tests(tmp_path / "envs", [ENV_CONFIGS["Test_0"]], n_levels=30)
        grading = Grading(tmp_path / "envs", tmp_path)
        with (
            grading.evaluator() as evaluator,
            grading.submission() as submission,
            Redis() as idle,
            waiting_for_a_command(f"{tmp_path}"),  # an evaluator of something else
        ):
            idle.ping()
            assert submission.stdout is not None
            while not submission.stdout.readline().startswith("Test_00/Level_0.pkl"):
                assert submission.poll() is None
            evaluator.kill()
            began = time.monotonic()
            _, err = submission.communicate(timeout=TIMEOUT)
        assert submission.returncode == 1
        assert err.count("\n") == 1
        assert "no evaluator has answered" in err
        assert time.monotonic() - began < 60

    def test_evaluator_that_never_comes(self, tests_folder: Path, tmp_path: Path) -> None:
        with Grading(tests_folder, tmp_path).submission(RUN, "--wait", "1") as submission:
            _, err = submission.communicate(timeout=TIMEOUT)
        assert submission.returncode == 1
        assert "no evaluator has answered" in err
        assert "Traceback" not in err

    def test_files_that_are_not_there(self, tests_folder: Path, tmp_path: Path) -> None:
        grading = Grading(tests_folder, tmp_path)
        with grading.evaluator(), grading.submission(AICROWD_TESTS_FOLDER=str(tmp_path)) as submission:
            _, err = submission.communicate(timeout=TIMEOUT)
        assert submission.returncode == 1
        assert "AICROWD_TESTS_FOLDER" in err
        assert err.count("\n") == 1


@contextmanager
def waiting_for_a_command(commands: str) -> Iterator[None]:
    """A client of Redis that waits for a command."""
    with Redis() as connection, Redis() as client:
        waiting = threading.Thread(target=connection.brpop, args=([commands],))
        waiting.start()
        yield
        client.lpush(commands, "")
        waiting.join()


def trajectory_actions(env_path: Path, folder: Path) -> list[dict[str, int]]:
    """All actions, step by step, that flatland-rl's trajectory commands record for the submitted policy."""
    generate_trajectory(env_path, folder, DefaultRewards)
    steps: dict[str, dict[str, int]] = {}
    with (folder / "event_logs" / "ActionEvents.discrete_action.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            steps.setdefault(row["env_time"], {})[row["agent_id"]] = int(row["action"])
    return list(steps.values())


def test_without_redis(tmp_path: Path) -> None:
    with Grading(tmp_path, tmp_path).submission(RUN, "--wait", "0", redis_ip="127.0.0.9") as submission:
        _, err = submission.communicate(timeout=TIMEOUT)
    assert submission.returncode == 1
    assert err.count("\n") == 1
    assert "no connection to Redis at 127.0.0.9:6379" in err


class TestCheckpoints:
    """All of this is said before anything is asked of the evaluator."""

    def test_missing(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("FLATLAND_CHECKPOINT", "nowhere.pt")
        assert run.main([]) == 2
        assert "nowhere.pt does not exist" in capsys.readouterr().err

    def test_damaged(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "half.pt"
        path.write_bytes(checkpoint_to_submit().read_bytes()[:10_000])
        assert run.main(["--checkpoint", str(path)]) == 2
        assert "damaged" in capsys.readouterr().err

    def test_of_another_feature_set(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        trainer, _ = make_trainer(tmp_path)
        path = tmp_path / "old.pt"
        write_checkpoint(path, trainer.state.state_dict() | {"feature_set": {"name": "tree", "version": 0}})
        assert run.main(["--checkpoint", str(path)]) == 2
        err = capsys.readouterr().err
        assert "feature set tree version 0" in err
        assert "version 1" in err

    @pytest.mark.parametrize("argument", ["--wait=-1", "--policy_index=worst", "--plan_seconds=-1", "--plan=1"])
    def test_arguments_that_cannot_be_used(self, argument: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as exit_info:
            run.main([argument])
        assert exit_info.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_with_several_policies(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trainer, _ = make_trainer(tmp_path, num_policies=2)
        path = tmp_path / "two.pt"
        last_evaluation = {"policy_00/evaluation/scores_mean": -0.3, "policy_01/evaluation/scores_mean": -0.2}
        write_checkpoint(path, trainer.state.state_dict() | {"last_evaluation": last_evaluation})
        players: list[Player] = []

        def seen(evaluation: object, player: Player) -> list[Episode]:
            players.append(player)
            return []

        monkeypatch.setattr(run, "RemoteEvaluation", lambda wait, rewards: SimpleNamespace(submit=lambda: {}))
        monkeypatch.setattr(run, "play_all", seen)
        for choice in ("0", "1", "best", "mapping"):
            assert run.main(["--checkpoint", str(path), "--policy_index", choice]) == 0
        level = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Test_0"], 3))
        *alone, together = players
        assert isinstance(together, PopulationPlayer)
        policy_of_train = together.play(level, 0).policy_of_train
        assert sorted(set(policy_of_train.tolist())) == [0, 1]
        assert all(isinstance(player, PlanningPlayer) for player in alone)
        first, second, best = (next(player.policy.network.parameters()) for player in alone)  # type: ignore[attr-defined]
        assert best.equal(second)
        assert not best.equal(first)
        for arguments, words in (
            (["--policy_index", "2"], "holds policies 0 to 1"),
            (["--policy_index", "mapping", "--plan_seconds", "1"], "a number or best"),
        ):
            assert run.main(["--checkpoint", str(path), *arguments]) == 2
            assert words in capsys.readouterr().err

    def test_seconds_to_plan_that_are_none(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FLATLAND_PLAN_SECONDS", "soon")
        assert run.main([]) == 2
        assert (
            capsys.readouterr().err
            == "run.py: error: FLATLAND_PLAN_SECONDS: 'soon' is not a number of seconds from 0 on.\n"
        )

    def test_that_ships_is_small(self) -> None:
        assert checkpoint_to_submit().stat().st_size < 5e6
