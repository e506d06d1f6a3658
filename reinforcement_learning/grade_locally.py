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
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while imports take their seconds Ctrl-C just ends the process

from flatland.envs.rewards import Rewards

from reinforcement_learning.grading.official_tests import METADATA, write_tests
from reinforcement_learning.settings.arguments import SentenceParser, at_least
from reinforcement_learning.settings.named_rewards import DEFAULT_REWARDS, add_rewards_option, find_rewards
from utils.levels.env_configs import EnvConfig, resolve_env_config
from utils.levels.saved_levels import EnvConfigError
from utils.system.child_process import end_with_parent
from utils.system.console import say
from utils.system.files import PROJECT_ROOT
from utils.system.interrupts import exit_code_of

REDIS_PORT = 6379  # flatland-rl's client knows no other
_SECONDS_TO_WRITE_RESULTS = 60
EVALUATORS_SEED = "1001"  # of the malfunctions, in flatland-rl's remote evaluator
WAYS = ("remote", "trajectories", "both")


class GradingError(RuntimeError):
    """A grader cannot work, or has failed; the message is one sentence."""


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
                _print("trajectories", grade_trajectories(environments, Path(folder), rewards))
    except (EnvConfigError, GradingError, OSError, ValueError) as error:
        print(f"grade_locally.py: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, EnvConfigError | ValueError) else 1
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
    if not (folder / METADATA).is_file():
        raise ValueError(f"--tests is {str(folder)!r}, which has no {METADATA}: give a folder of tests, or a new one.")
    return sorted(folder.glob("*/*.pkl"))


def _named_config(text: str) -> EnvConfig:
    config = resolve_env_config(text)
    if not isinstance(config, EnvConfig):
        raise ValueError(f"-e is {text!r}, but must be 0, 1, 2, Tiny or an official test: only these can be made here.")
    return config


def _print(title: str, rows: Sequence[tuple[str, float, float]]) -> None:
    scores, completions = [row[1] for row in rows], [row[2] for row in rows]
    mean = ("mean", sum(scores) / len(scores), sum(completions) / len(completions))
    say(f"\n{title:24}   score  completion")
    for name, score, completion in (*rows, mean):
        say(f"{name:24}  {score:6.3f}  {completion:10.3f}")


# --- the remote evaluator --------------------------------------------------------------------------------------------


def grade_remotely(tests: Path, folder: Path) -> list[tuple[str, float, float]]:
    """Name, normalized score and completion of each environment, as the evaluator writes them down."""
    results = folder / "results.csv"
    # channels of our own, should another evaluation use the same Redis; tests are not cut short by a bad one
    settings = {"AICROWD_SUBMISSION_ID": uuid.uuid4().hex, "AICROWD_TESTS_FOLDER": str(tests.resolve())}
    environment = {"TEST_MIN_PERCENTAGE_COMPLETE_MEAN": "-1", **os.environ, **settings}
    with redis_server(folder), (folder / "evaluator.log").open("w") as log:
        command = [tool("flatland-evaluator"), "--tests", str(tests.resolve()), "--results-path", str(results)]
        with _started(command, cwd=folder, env=environment, stdout=log, stderr=log) as evaluator:
            with _started([sys.executable, str(PROJECT_ROOT / "run.py")], env=environment) as submission:
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
    with _started(command, stdout=subprocess.DEVNULL):
        for _ in range(100):
            if _redis_answers():
                break
            time.sleep(0.1)
        else:
            raise GradingError(f"redis-server does not come up on port {REDIS_PORT}.")
        yield


@contextmanager
def _started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen]:
    """A process that ends with the block, and on Linux with this process, whatever ends that."""
    process = subprocess.Popen(command, preexec_fn=end_with_parent(), **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _redis_answers() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", REDIS_PORT)) == 0


def tool(name: str) -> str:
    """The path of a command of flatland-rl, which stands beside this Python."""
    return str(Path(sys.executable).parent / name)


# --- trajectories ----------------------------------------------------------------------------------------------------


def grade_trajectories(
    environments: Sequence[Path], folder: Path, rewards: type[Rewards]
) -> list[tuple[str, float, float]]:
    """Name, normalized score and completion of each environment, as the trajectory commands write them down."""
    rows, root, analysis = [], folder / "trajectories", folder / "analysis"
    for path in environments:
        name = f"{path.parent.name}/{path.name}"
        data_dir = root / path.parent.name / path.stem
        generate_trajectory(path, data_dir, rewards)
        with (data_dir / "event_logs" / "TrainMovementEvents.trains_arrived.tsv").open() as file:
            (row,) = csv.DictReader(file, delimiter="\t")
        rows.append((name, float(row["normalized_reward"]), float(row["success_rate"])))
    analysis.mkdir()
    _call([tool("flatland-trajectory-analysis"), "--root-data-dir", str(root), "--output-dir", str(analysis)], folder)
    return rows


def generate_trajectory(env_path: Path, data_dir: Path, rewards: type[Rewards]) -> None:
    """Lets flatland-rl play an environment with ``submission.py`` and then check what was recorded.

    Raises:
        GradingError: one of its commands fails.
    """
    data_dir.mkdir(parents=True)
    episode = ["--data-dir", str(data_dir), "--ep-id", "episode"]
    episode += ["--rewards", f"{rewards.__module__}.{rewards.__qualname__}"]
    level = ["--env-path", str(env_path.resolve()), "--snapshot-interval", "0", "--post-seed", EVALUATORS_SEED]
    submitted = ["--policy", "reinforcement_learning.submission.Policy"]
    submitted += ["--obs-builder", "reinforcement_learning.submission.ObservationBuilder"]
    _call([tool("flatland-trajectory-generate-from-policy"), *episode, *level, *submitted], data_dir)
    _call([tool("flatland-trajectory-evaluate"), *episode], data_dir)


def _call(command: Sequence[str], cwd: Path) -> None:
    # what FLATLAND_NETWORK and FLATLAND_FEATURES name is found in the folder where this was started
    path = [str(PROJECT_ROOT), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with _started(command, cwd=cwd, env=environment, **output) as process:
        _, stderr = process.communicate()
    if process.returncode:
        said = stderr.strip().splitlines() or ["nothing was said"]
        raise GradingError(f"{Path(command[0]).name} has failed: {said[-1]}")


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Ends this process by an exception, so that it ends what it has started and removes its folder.

    Python drops an exception that comes while it tidies up an object: then another one follows after a while.
    """
    _ended_by.append(number)
    if hasattr(signal, "SIGALRM") and len(_ended_by) == 1:
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
