"""What goes wrong between run.py and flatland-rl's own evaluator around a time-out, over a real Redis.

An evaluator that gives up waiting says so beside the answers to commands: what it says may be found too late, and the
command that comes at that moment is lost.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from reinforcement_learning.grade_locally import redis_server
from reinforcement_learning.grading.official_tests import write_tests
from tests.helpers.grading import TIMEOUT, Grading, needs_redis
from utils.levels.env_configs import ENV_CONFIGS
from utils.system.files import PROJECT_ROOT

# run.py, but a command comes at a bad moment: the third time that it asks for an environment, or the second step in
# the second environment.
RUN_WITH_A_BAD_MOMENT = f"""
import os, signal, sys, time
sys.path.insert(0, {str(PROJECT_ROOT)!r})
import run
from reinforcement_learning.grading.remote_evaluation import _WatchfulRedis
evaluator, command, moment = int(sys.argv[1]), sys.argv[2], sys.argv[3]
lpush, sent = _WatchfulRedis.lpush, []
def late_lpush(self, name, *values):
    sent.append("ENV_STEP" if b"ENV_STEP" in values[0] else "ENV_CREATE" if b"ENV_CREATE" in values[0] else "other")
    is_step_to_spoil = sent.count("ENV_CREATE") == 2 and sent[-3:] == ["ENV_CREATE", "ENV_STEP", "ENV_STEP"]
    is_create_to_spoil = sent.count("ENV_CREATE") == 3 and sent[-1] == "ENV_CREATE"
    if not (is_step_to_spoil if command == "ENV_STEP" else is_create_to_spoil):
        return lpush(self, name, *values)
    if moment == "after":
        time.sleep(2.7)
        return lpush(self, name, *values)
    # the evaluator waits; Redis hands the command over, and the evaluator's clock runs out before it has looked
    time.sleep(0.7)
    os.kill(evaluator, signal.SIGSTOP)
    n_waiting = lpush(self, name, *values)
    time.sleep(2.7)
    os.kill(evaluator, signal.SIGCONT)
    return n_waiting
_WatchfulRedis.lpush = late_lpush
sys.exit(run.main([]))
"""
SECONDS_A_STEP = "2"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with redis_server(tmp_path_factory.mktemp("redis")):
        yield


@needs_redis
@pytest.mark.usefixtures("redis")
class TestTimeOuts:
    @pytest.mark.parametrize(
        ("command", "moment", "remark"),
        [
            ("ENV_CREATE", "after", "timed out after its last step"),
            ("ENV_CREATE", "at", "timed out after its last step"),
            ("ENV_STEP", "at", "2 trains, timed out"),
        ],
    )
    def test_costs_one_environment(self, tmp_path: Path, command: str, moment: str, remark: str) -> None:
        write_tests(tmp_path / "envs", [ENV_CONFIGS["Tiny"]], n_levels=4)
        grading = Grading(tmp_path / "envs", tmp_path, FLATLAND_PER_STEP_TIMEOUT=SECONDS_A_STEP)
        with (
            grading.evaluator() as evaluator,
            grading.submission("-c", RUN_WITH_A_BAD_MOMENT, str(evaluator.pid), command, moment) as submission,
        ):
            out, err = submission.communicate(timeout=TIMEOUT)
            assert submission.returncode == 0, err
            assert evaluator.wait(timeout=TIMEOUT) == 0
        with grading.results.open() as file:
            rewards = [float(row["normalized_reward"]) for row in csv.DictReader(file)]
        assert [reward > 0 for reward in rewards] == [True, False, True, True]
        assert f"Test_00/Level_1.pkl: {remark}, scores 0" in out
        (total,) = (line.split() for line in out.splitlines() if line.startswith("all "))
        assert total[1:4] == ["4", "1", f"{sum(rewards) / 4:.3f}"]
