"""Does on this machine, without Docker, what graders do with a submission; see --help.

    python reinforcement_learning/grade_locally.py --tests envs -e 0 -e 1 -n 5

makes the environments where the folder does not exist yet, lets flatland-rl's own evaluator grade ``run.py`` over
Redis, and flatland-rl's trajectory commands the policy of ``submission.py``.
"""

import argparse
import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports take their seconds Ctrl-C just ends the process

from flatland.envs.rewards import Rewards

from reinforcement_learning.grading.flatland_commands import GradingError, started, tool
from reinforcement_learning.grading.official_tests import METADATA, write_tests
from reinforcement_learning.grading.trajectories import Grade, scenarios_of, walk
from reinforcement_learning.settings.arguments import SentenceParser, at_least
from reinforcement_learning.settings.named_rewards import DEFAULT_REWARDS, add_rewards_option, find_rewards
from utils.levels.env_configs import EnvConfig, resolve_env_config
from utils.levels.level_folders import LevelFolder
from utils.system.console import say
from utils.system.files import PROJECT_ROOT
from utils.system.interrupts import exit_code_of

REDIS_PORT = 6379  # flatland-rl's client knows no other
_SECONDS_TO_WRITE_RESULTS = 60
WAYS = ("remote", "trajectories", "both")


def main(arguments: Sequence[str] | None = None) -> int:
    """Grades as the command line says; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        rewards = find_rewards(options.rewards)
        if options.way == "remote" and options.rewards != DEFAULT_REWARDS:
            raise ValueError("--rewards has no effect with --way remote: that evaluator only knows flatland's default.")
        environments = _environments(options)
        if options.checkpoint:
            os.environ["FLATLAND_CHECKPOINT"] = str(Path(options.checkpoint).resolve())
        with tempfile.TemporaryDirectory() as folder:
            if options.way in ("remote", "both"):
                _print("remote evaluator", grade_remotely(options.tests, Path(folder)))
            if options.way in ("trajectories", "both"):
                # both ways are compared level by level, so neither ends early
                _walk(environments, Path(folder), rewards, ends_early=options.way == "trajectories")
    except (GradingError, OSError, ValueError) as error:
        print(f"grade_locally.py: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        print("grade_locally.py: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = SentenceParser(prog="grade_locally.py", description="Grades a submission as Flatland's graders do.")
    parser.add_argument(
        "--tests", type=Path, required=True, metavar="FOLDER", help="environments; made where it does not exist"
    )
    parser.add_argument(
        "-e",
        "--env_config",
        action="append",
        metavar="TEXT",
        help="repeatable: what to make, 0, 1 or 2 or a name such as Round2_Test_03 or Benchmarks_Test_03 "
        "(default: 0 and 1)",
    )
    parser.add_argument(
        "-n", "--n_levels", type=at_least(1), default=3, metavar="N", help="levels of each (default: 3)"
    )
    parser.add_argument("--way", choices=WAYS, default="both", help="default: both")
    parser.add_argument("--checkpoint", metavar="FILE", help="default: $FLATLAND_CHECKPOINT, else the one that ships")
    add_rewards_option(parser, "what counts in trajectories")
    return parser


def _environments(options: argparse.Namespace) -> list[Path]:
    folder = options.tests
    if not folder.exists():
        configs = [_named_config(text) for text in options.env_config or ["0", "1"]]
        return write_tests(folder, configs, options.n_levels)
    if (folder / METADATA).is_file():
        return sorted(folder.glob("*/*.pkl"))
    if options.way != "trajectories":
        raise ValueError(
            f"--tests is {str(folder)!r}, which has no {METADATA}: give a folder of tests, a new one, or one of saved "
            "levels and --way trajectories."
        )
    return list(LevelFolder.find(str(folder)).files)


def _named_config(text: str) -> EnvConfig:
    config = resolve_env_config(text)
    if not isinstance(config, EnvConfig):
        raise ValueError(f"-e is {text!r}, but must be 0, 1, 2, Tiny or an official test: only these can be made here.")
    return config


def _print(title: str, rows: Sequence[tuple[str, float, float]]) -> None:
    scores, completions = [row[1] for row in rows], [row[2] for row in rows]
    mean = ("mean", sum(scores) / len(scores), sum(completions) / len(completions))
    say(f"\n{title:32}   score  completion")
    for name, score, completion in (*rows, mean):
        say(f"{name:32}  {score:6.3f}  {completion:10.3f}")


def _walk(environments: Sequence[Path], folder: Path, rewards: type[Rewards], ends_early: bool) -> None:
    """Grades trajectories, and prints a row for each as soon as it is known, then the sum of each level."""
    say(f"\n{'trajectories':32}   score  completion  minutes")
    of_levels: dict[str, list[Grade]] = {}
    for grade in walk(scenarios_of(environments), folder, rewards, ends_early):
        of_levels.setdefault(grade.scenario.level, []).append(grade)
        say(_row(f"{grade.scenario.level}/{grade.scenario.name}", [grade]) + f"  {grade.remark}".rstrip())
    say("")
    for level, grades in of_levels.items():
        say(_row(f"{level}: sum of {len(grades)}", grades))
    everything = [grade for grades in of_levels.values() for grade in grades]
    say(_row(f"all: sum of {len(everything)}", everything))
    say(_row("mean", everything, len(everything)))


def _row(name: str, grades: Sequence[Grade], n: int = 1) -> str:
    """Scores and minutes are summed up and divided by n; completions are averaged."""
    score, minutes = sum(grade.score for grade in grades) / n, sum(grade.seconds for grade in grades) / 60 / n
    completion = sum(grade.completion for grade in grades) / len(grades)
    return f"{name:32}  {score:6.3f}  {completion:10.3f}  {minutes:7.1f}"


# --- the remote evaluator --------------------------------------------------------------------------------------------


def grade_remotely(tests: Path, folder: Path) -> list[tuple[str, float, float]]:
    """Name, normalized score and completion of each environment, as the evaluator writes them down."""
    results = folder / "results.csv"
    # channels of our own, should another evaluation use the same Redis; tests are not cut short by a bad one
    settings = {"AICROWD_SUBMISSION_ID": uuid.uuid4().hex, "AICROWD_TESTS_FOLDER": str(tests.resolve())}
    environment = {"TEST_MIN_PERCENTAGE_COMPLETE_MEAN": "-1", **os.environ, **settings}
    with redis_server(folder), (folder / "evaluator.log").open("w") as log:
        command = [tool("flatland-evaluator"), "--tests", str(tests.resolve()), "--results-path", str(results)]
        with started(command, cwd=folder, env=environment, stdout=log, stderr=log) as evaluator:
            with started([sys.executable, str(PROJECT_ROOT / "run.py")], env=environment) as submission:
                code = submission.wait()
            if code:
                raise GradingError(f"run.py has ended with exit code {code}.")
            try:
                evaluator.wait(_SECONDS_TO_WRITE_RESULTS)
            except subprocess.TimeoutExpired as error:
                raise GradingError("flatland-evaluator does not write down its results.") from error
    with results.open() as file:
        return [
            (row["filename"], float(row["normalized_reward"]), float(row["percentage_complete"]))
            for row in csv.DictReader(file)
        ]


@contextmanager
def redis_server(folder: Path) -> Iterator[None]:
    """A Redis on flatland's port: the one that runs already, else a new one.

    Raises:
        GradingError: Redis is not installed, or does not come up.
    """
    if _redis_answers():
        yield
        return
    if shutil.which("redis-server") is None:
        raise GradingError("there is no redis-server; install it (Debian: apt-get install redis-server).")
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(REDIS_PORT), "--save", "", "--dir", str(folder)]
    with started(command, stdout=subprocess.DEVNULL):
        for _ in range(100):
            if _redis_answers():
                break
            time.sleep(0.1)
        else:
            raise GradingError(f"redis-server does not come up on port {REDIS_PORT}.")
        yield


def _redis_answers() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", REDIS_PORT)) == 0


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Ends this process by an exception, so that it ends what it has started and removes its folder.

    Python drops an exception that comes while it tidies up an object: then another one follows after a while.
    """
    _ended_by.append(number)
    if sys.platform != "win32" and len(_ended_by) == 1:
        signal.signal(signal.SIGALRM, _end)
        signal.alarm(_SECONDS_TO_END)
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + _ended_by[0])


_ended_by: list[int] = []  # signals
_SECONDS_TO_END = 10


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not under nohup
        signal.signal(signal.SIGHUP, _end)
    exit_code = exit_code_of(main)
    sys.exit(128 + _ended_by[0] if _ended_by else exit_code)
