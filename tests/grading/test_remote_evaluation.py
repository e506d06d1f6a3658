"""What goes wrong between run.py and an evaluator, over a real Redis; around a time-out with flatland-rl's own.

An evaluator that gives up waiting says so beside the answers to commands: what it says may be found too late, and the
command that comes at that moment is lost.
"""

import csv
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgpack
import pytest
from flatland.evaluators.messages import FLATLAND_RL
from redis import Redis
from redis.exceptions import OutOfMemoryError

from reinforcement_learning.grade_locally import redis_server
from reinforcement_learning.grading.official_tests import write_tests
from reinforcement_learning.grading.remote_evaluation import EvaluatorError, RemoteEvaluation, client_names
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


@pytest.fixture
def commands(redis: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The list of commands of an evaluation of the test's own."""
    evaluation = f"a test {uuid.uuid4().hex}"
    monkeypatch.setenv("AICROWD_SUBMISSION_ID", evaluation)
    return f"flatland-rl::{evaluation}::commands"


@contextmanager
def answering(commands: str, *answers: object) -> Iterator[list[str]]:
    """An evaluator that gives these answers and is gone; the types of the commands that it got."""
    got: list[str] = []

    def answer_all() -> None:
        with Redis() as connection:
            for answer in answers:
                command = msgpack.unpackb(connection.brpop([commands], timeout=TIMEOUT)[1])
                got.append(command["type"])
                connection.rpush(command["response_channel"], msgpack.packb(answer))

    evaluator = threading.Thread(target=answer_all)
    evaluator.start()
    yield got
    evaluator.join()


PONG = {"type": FLATLAND_RL.PONG, "payload": {}}


@needs_redis
class TestAnswers:
    @pytest.mark.parametrize(
        "answer", [{"type": FLATLAND_RL.ENV_CREATE_RESPONSE, "payload": {}}, {"type": FLATLAND_RL.PONG}, 7, {}]
    )
    def test_that_is_no_pong(self, commands: str, answer: object) -> None:
        with answering(commands, answer), pytest.raises(EvaluatorError, match="the evaluator answers"):
            RemoteEvaluation(TIMEOUT)

    @pytest.mark.parametrize("kind", [FLATLAND_RL.PONG, FLATLAND_RL.ENV_CREATE_RESPONSE])
    def test_without_an_environment(self, commands: str, kind: str) -> None:
        with answering(commands, PONG, {"type": kind, "payload": {"observation": 1}}):
            evaluation = RemoteEvaluation(TIMEOUT)
            with pytest.raises(EvaluatorError, match=r"ENV_CREATE with .* and not with .* env_file_path"):
                evaluation.next_level()

    def test_of_another_kind_when_submitted(self, commands: str) -> None:
        with answering(commands, PONG, {"type": FLATLAND_RL.ENV_SUBMIT_RESPONSE}):
            evaluation = RemoteEvaluation(TIMEOUT)
            with pytest.raises(EvaluatorError, match="ENV_SUBMIT with"):
                evaluation.submit()

    def test_that_an_environment_is_not_over(self, commands: str) -> None:
        not_over = {"type": FLATLAND_RL.ERROR, "payload": "CAN'T CREATE NEW ENV BEFORE PREVIOUS IS DONE"}
        with answering(commands, PONG, not_over):
            evaluation = RemoteEvaluation(TIMEOUT)
            with pytest.raises(EvaluatorError, match=r"another run\.py has left"):
                evaluation.next_level()

    def test_of_redis_that_refuses(self, commands: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*arguments: object) -> NoReturn:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

        monkeypatch.setattr(Redis, "lpush", full)
        with pytest.raises(EvaluatorError, match=r"refuses a command \(command not allowed"):
            RemoteEvaluation(TIMEOUT)


@needs_redis
class TestOtherClients:
    def test_of_the_same_evaluation_is_not_disturbed(self, commands: str) -> None:
        evaluation = commands.split("::")[1]
        with Redis(client_name=f"{client_names(evaluation)}other") as other:
            other.lpush(commands, "its command")
            with pytest.raises(EvaluatorError, match=r"another run\.py plays"):
                RemoteEvaluation(TIMEOUT)
            assert other.llen(commands) == 1

    def test_what_one_that_was_killed_has_left_is_removed(self, commands: str, monkeypatch: pytest.MonkeyPatch) -> None:
        errors = commands.replace("commands", "errors")
        with Redis() as killed:
            killed.lpush(commands, msgpack.packb({"type": FLATLAND_RL.ENV_STEP, "response_channel": "nobody's"}))
            killed.lpush(errors, msgpack.packb({"type": FLATLAND_RL.ENV_STEP_TIMEOUT}))

        def first_command(connection: Redis, name: str, command: bytes) -> NoReturn:
            raise EvaluatorError(f"{connection.exists(commands, errors)} lists are left")

        monkeypatch.setattr(Redis, "lpush", first_command)
        with pytest.raises(EvaluatorError, match="0 lists are left"):
            RemoteEvaluation(TIMEOUT)
