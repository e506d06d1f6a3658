"""The local search from its command line: searched to the end, killed, interrupted and gone on with."""

import contextlib
import csv
import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from reinforcement_learning.hyperparameter_search import main
from tests.helpers.searches import METRIC, SMALL, write_sweep
from utils.system.files import PROJECT_ROOT

SEARCH = str(PROJECT_ROOT / "reinforcement_learning" / "hyperparameter_search.py")
TIMEOUT = 150  # seconds; none of these takes a third of it
# 500 is refused beside a replay buffer of 100: that trial fails, the others do not
SEARCHED = {"batch_size": {"values": [16, 500, 32]}, "hidden_size": {"values": [16]}}


@contextlib.contextmanager
def start(arguments: Sequence[str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A search in a process of its own, in a group of its own, as a terminal starts it; it ends with the test."""
    with subprocess.Popen(
        [sys.executable, SEARCH, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], Any]) -> None:
    for _ in range(10 * TIMEOUT):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("waited in vain")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a search over a grid of three, two at a time, and what it has printed."""
    folder = tmp_path_factory.mktemp("searched")
    parameters = SMALL | SEARCHED | {"buffer_size": {"value": 100}, "num_threads": {"value": 1}}
    sweep = write_sweep(folder / "sweep.yaml", parameters, method="grid", run_cap=9)
    with start(["--sweep", str(sweep), "--jobs", "2", "--study", "study"], cwd=folder) as process:
        out, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, out
    return folder, out


class TestSearch:
    def test_searches_the_grid_to_its_end(self, searched: tuple[Path, str]) -> None:
        folder, out = searched
        with (folder / "study" / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert sorted(row["batch_size"] for row in rows) == ["16", "32", "500"]
        assert [row["state"].split(":")[0] for row in rows] == ["finished", "finished", "failed"]
        assert float(rows[0][METRIC]) >= float(rows[1][METRIC])
        assert "--batch_size is 500, but must be at most --buffer_size, 100" in rows[2]["state"]
        assert (folder / "study" / "search.png").read_bytes().startswith(b"\x89PNG")
        assert rows[0][METRIC] in out
        assert "Traceback" not in out

    def test_trials_have_their_own_folders_and_console(self, searched: tuple[Path, str]) -> None:
        study = searched[0] / "study"
        for number in (0, 2):
            name = f"trial_{number:04d}"
            assert "Finished after 4 of 4 episodes" in (study / name / "console.log").read_text()
            assert (study / name / "metrics.jsonl").is_file()
            assert (study / "checkpoints" / name / "best.pt").is_file()
        assert not (study / "trial_0001").exists()

    def test_started_again_it_has_nothing_to_do_and_says_the_same(self, searched: tuple[Path, str]) -> None:
        folder, out = searched
        with start(["--sweep", "sweep.yaml", "--study", "study"], cwd=folder) as process:
            again, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, again
        assert "3 of them done" in again
        assert "begins" not in again
        assert again[again.index("\ntrial  batch_size") :] == out[out.index("\ntrial  batch_size") :]

    def test_command_of_the_best_trial_trains(self, searched: tuple[Path, str], tmp_path: Path) -> None:
        _, out = searched
        (command,) = (line.partition(": ")[2] for line in out.splitlines() if line.startswith("Train it again"))
        folders = [f"--{name}={tmp_path / name}" for name in ("output_dir", "checkpoint_dir", "replay_buffer_dir")]
        arguments = [sys.executable, *shlex.split(command)[1:], *folders, "--wandb=False", "--n_episodes=1"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 0, done.stderr


def test_killed_search_leaves_nobody_behind_and_goes_on_and_so_does_an_interrupted_one(tmp_path: Path) -> None:
    parameters = SMALL | {"n_episodes": {"values": [1_000_000, 1_000_001]}}
    sweep = write_sweep(tmp_path / "sweep.yaml", parameters, method="grid")
    arguments = ["--sweep", str(sweep), "--jobs", "1", "--study", str(tmp_path / "study"), "--trials", "1"]
    checkpoints = tmp_path / "study" / "checkpoints" / "trial_0000"
    metrics = tmp_path / "study" / "trial_0000" / "metrics.jsonl"
    with start(arguments, cwd=tmp_path) as process:
        wait_for(lambda: list(checkpoints.glob("episode_*.pt")))
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT)
    _, left = psutil.wait_procs(children, timeout=60)
    assert not left
    reached = max(int(path.stem.removeprefix("episode_")) for path in checkpoints.glob("episode_*.pt"))
    episodes = len(metrics.read_text().splitlines())

    with start(arguments, cwd=tmp_path) as process:
        wait_for(lambda: len(metrics.read_text().splitlines()) > episodes + 5)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the group
        out, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGINT, out
    assert not any(child.is_running() for child in children)
    assert "trial 0 goes on from its checkpoint" in out
    assert f"after episode {reached}" in (tmp_path / "study" / "trial_0000" / "console.log").read_text()
    assert "Traceback" not in out
    (command,) = (line.removeprefix("To go on: ") for line in out.splitlines() if line.startswith("To go on"))
    assert shlex.split(command)[1:] == [SEARCH, *arguments[:2], "--trials", "1", *arguments[2:6], "--seed", "0"]
    with (tmp_path / "study" / "results.csv").open() as file:
        assert [(row["trial"], row["state"]) for row in csv.DictReader(file)] == [("0", "running")]


def test_search_that_cannot_succeed_ends_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = SMALL | {"buffer_size": {"values": [10, 11, 12, 13, 14, 15]}}
    sweep = write_sweep(tmp_path / "sweep.yaml", parameters, method="grid")
    assert main(["--sweep", str(sweep), "--study", str(tmp_path / "study")]) == 1
    out, err = capsys.readouterr()
    assert out.count("trial 2 failed") == 1
    assert "trial 3" not in out
    assert "all trials have failed" in err


def test_full_disk_ends_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "results.csv")

    monkeypatch.setattr("reinforcement_learning.hyperparameter_search.write_tables", full)
    sweep = write_sweep(tmp_path / "sweep.yaml", SMALL | {"buffer_size": {"values": [10, 11]}})  # fails at once
    assert main(["--sweep", str(sweep), "--study", str(tmp_path / "study")]) == 1
    err = capsys.readouterr().err
    assert "No space left on device: 'results.csv'. The search goes on when it is started again." in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sweep", "missing.yaml"], "missing.yaml cannot be read"),
        (["--trials", "0"], "--trials is 0"),
        (["--jobs", "-1"], "--jobs is -1"),
        (["--seed", "-1"], "--seed is -1"),
        (["--study", f"{__file__}/below"], "--study"),
    ],
)
def test_what_cannot_run_exits_2_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["--study", str(tmp_path / "study"), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_a_study_is_used_by_one_search_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr("reinforcement_learning.hyperparameter_search._PATIENCE", 0)
    with (tmp_path / "search.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["--study", str(tmp_path)]) == 2
    assert f"another search runs in {tmp_path}" in capsys.readouterr().err
