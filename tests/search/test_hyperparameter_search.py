"""The local search from its command line: searched to the end, killed, interrupted and gone on with."""

import contextlib
import csv
import fcntl
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from reinforcement_learning import hyperparameter_search
from reinforcement_learning.hyperparameter_search import _write_results, main
from reinforcement_learning.search.sweep_file import read_sweep
from reinforcement_learning.search.trial_process import read_metric, start_trial, trial_name
from tests.helpers.searches import SMALL, write_sweep
from utils.system.files import PROJECT_ROOT

SEARCH = str(PROJECT_ROOT / "reinforcement_learning" / "hyperparameter_search.py")
TIMEOUT = 150  # seconds; none of these takes half of it
METRIC = "training/epsilon"


@contextlib.contextmanager
def start(arguments: Sequence[str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A search in a process and a group of its own, as a terminal starts it; it ends with the test."""
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


def search(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code of a search in this process, whose trainings are others, and what it has printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(
            ["--sweep", str(folder / "sweep.yaml"), "--study", str(folder / "study"), "--jobs", "1", *arguments]
        )
    return code, said.getvalue()


def read_table(study: Path) -> list[dict[str, str]]:
    with (study / "results.csv").open() as file:
        return list(csv.DictReader(file))


def wait_for(condition: Callable[[], Any]) -> None:
    for _ in range(10 * TIMEOUT):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("waited in vain")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a search through the first three of a grid, and what it has printed.

    The second is refused, as a batch of 500 does not fit a replay buffer of 100; the third, which explores more than
    the first, is stopped after its first episode. It has so many that it cannot end by itself before.
    """

    def start_longer(of: Path, name: str, options: dict[str, Any], lock: int) -> subprocess.Popen[bytes]:
        longer = {"n_episodes": 1_000_000} if options["eps_start"] == 1.0 else {}
        return start_trial(of, name, options | longer, lock)

    folder = tmp_path_factory.mktemp("searched")
    searched = {"eps_start": {"values": [0.5, 1.0]}, "batch_size": {"values": [16, 500]}}
    parameters = SMALL | searched | {"n_episodes": {"value": 100}, "checkpoint_interval": {"value": 50}}
    rule = {"type": "hyperband", "min_iter": 1, "eta": 2}
    metric = {"name": METRIC, "goal": "minimize"}
    write_sweep(folder / "sweep.yaml", parameters, metric=metric, early_terminate=rule, run_cap=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hyperparameter_search, "start_trial", start_longer)
        code, said = search(folder)
    assert code == 0, said
    return folder, said


class TestSearch:
    def test_table_has_the_best_first_and_says_what_became_of_each(self, searched: tuple[Path, str]) -> None:
        rows = read_table(searched[0] / "study")
        assert [(float(row["eps_start"]), row["batch_size"]) for row in rows] == [
            (0.5, "16"), (1.0, "16"), (0.5, "500"),
        ]  # fmt: skip
        assert [row["state"].split(":")[0] for row in rows] == ["finished", "stopped early", "failed with exit code 2"]
        assert "--batch_size is 500, but must be at most --buffer_size, 100" in rows[2]["state"]
        assert rows[0]["episodes"] == "100"
        assert 0 < int(rows[1]["episodes"]) < 1_000_000
        assert float(rows[0][METRIC]) < 0.5 < float(rows[1][METRIC])
        assert rows[2][METRIC] == ""
        text = (searched[0] / "study" / "results.md").read_text()
        assert f"{float(rows[0][METRIC]):.6g}" in text
        assert text.index("finished") < text.index("stopped early") < text.index("failed")

    def test_leaves_pictures_and_a_folder_for_each_trial(self, searched: tuple[Path, str]) -> None:
        study = searched[0] / "study"
        for picture in ("search_history.png", "search_parameters.png"):
            assert (study / picture).read_bytes().startswith(b"\x89PNG")
        assert "Finished after 100 of 100 episodes" in (study / "trial_0000" / "console.log").read_text()
        assert (study / "checkpoints" / "trial_0000" / "best.pt").is_file()
        stopped = study / "checkpoints" / f"trial_{int(read_table(study)[1]['trial']):04d}"
        assert list(stopped.glob("episode_*.pt"))

    def test_started_again_it_has_nothing_to_do_and_says_the_same(self, searched: tuple[Path, str]) -> None:
        folder, said = searched
        code, again = search(folder)
        assert code == 0
        assert "begins" not in again
        assert again == said[said.index("\n\n") + 1 :]

    def test_command_of_the_best_trial_trains(self, searched: tuple[Path, str], tmp_path: Path) -> None:
        (command,) = (line.partition(": ")[2] for line in searched[1].splitlines() if line.startswith("Train it again"))
        assert "--eps_start=0.5" in command
        folders = [f"--{name}={tmp_path / name}" for name in ("output_dir", "checkpoint_dir", "replay_buffer_dir")]
        arguments = [sys.executable, *shlex.split(command)[1:], *folders, "--wandb=False", "--n_episodes=1"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        "changed", [{"method": "random"}, {"metric": {"name": METRIC, "goal": "maximize"}}, {"parameters": SMALL}]
    )
    def test_another_sweep_is_refused(
        self, searched: tuple[Path, str], changed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        parameters = SMALL | {"hidden_size": {"values": [16, 32]}}
        metric = {"name": METRIC, "goal": "minimize"}
        keys = {"metric": metric, "parameters": parameters} | changed | {"parameters": parameters}
        path = write_sweep(tmp_path / "sweep.yaml", **keys)
        assert main(["--sweep", str(path), "--study", str(searched[0] / "study")]) == 2
        assert "holds a search with another method, metric or parameters" in capsys.readouterr().err


def test_killed_search_leaves_nobody_behind_and_goes_on_and_so_does_an_interrupted_one(tmp_path: Path) -> None:
    parameters = SMALL | {"n_episodes": {"values": [1_000_000, 1_000_001]}}
    write_sweep(tmp_path / "sweep.yaml", parameters)
    arguments = ["--sweep", "sweep.yaml", "--jobs", "2", "--study", "study", "--trials", "2"]
    study, names = tmp_path / "study", ("trial_0000", "trial_0001")

    def reached() -> list[int]:
        """The newest checkpoint of each trial; 0 without one."""
        found = [(study / "checkpoints" / name).glob("episode_*.pt") for name in names]
        return [max((int(path.stem.removeprefix("episode_")) for path in paths), default=0) for paths in found]

    with start(arguments, cwd=tmp_path) as process:
        wait_for(lambda: all(reached()))
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT)
    _, left = psutil.wait_procs(children, timeout=60)
    assert not left
    first = reached()

    with start(arguments, cwd=tmp_path) as process:
        wait_for(lambda: all(now > before for now, before in zip(reached(), first, strict=True)))
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the group
        said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGINT, said
    assert not any(child.is_running() for child in children)
    assert "give the same command once more" in said
    assert "Traceback" not in said
    for name, episode in zip(names, first, strict=True):
        assert f"after episode {episode}" in (study / name / "console.log").read_text()
    assert [(row["trial"], row["state"]) for row in read_table(study)] == [("0", "running"), ("1", "running")]


def test_the_same_values_are_trained_once_and_more_trials_can_be_asked_for(tmp_path: Path) -> None:
    parameters = SMALL | {"action_mask": {"values": [True, False]}}
    write_sweep(tmp_path / "sweep.yaml", parameters, method="bayes")
    assert search(tmp_path, "--trials", "1")[0] == 0
    assert len(read_table(tmp_path / "study")) == 1
    assert search(tmp_path, "--trials", "4")[0] == 0
    rows = read_table(tmp_path / "study")
    finished = {row["action_mask"]: row for row in rows if row["state"] == "finished"}
    assert set(finished) <= {"True", "False"}
    assert len(rows) == 4
    assert len(list((tmp_path / "study").glob("trial_*"))) == len(finished)
    for row in rows:
        same = finished[row["action_mask"]]
        assert row is same or row["state"] == f"same as trial {same['trial']}"
        assert float(row["evaluation/smoothed_score"]) == float(same["evaluation/smoothed_score"])


def test_best_of_equal_values_has_the_highest_completion_and_is_the_later_one(tmp_path: Path) -> None:
    parameters = SMALL | {"seed": {"values": [0, 1, 2, 3, 4]}}
    sweep = read_sweep(write_sweep(tmp_path / "sweep.yaml", parameters))
    study = optuna.create_study(direction="maximize")
    for number, (score, completion) in enumerate([(0.0, 0.3), (0.0, 0.6), (0.0, 0.6), (-0.1, 0.9), (0.0, None)]):
        trial = optuna.trial.create_trial(params={"seed": number}, distributions=sweep.searched, value=score)
        study.add_trial(trial)
        if completion is not None:  # the last one is the same as another, and was not trained
            (tmp_path / trial_name(number)).mkdir()
            row = {"episode": 4, sweep.metric: score, "evaluation/smoothed_completion": completion}
            (tmp_path / trial_name(number) / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert "Best: trial 2," in _write_results(study, sweep, tmp_path)
    assert [row["trial"] for row in read_table(tmp_path)] == ["2", "1", "0", "4", "3"]


def test_search_without_any_result_exits_1_and_says_why(tmp_path: Path) -> None:
    metric = {"name": "evaluation/nothing"}
    write_sweep(tmp_path / "sweep.yaml", SMALL | {"batch_size": {"values": [16, 32]}}, metric=metric)
    code, said = search(tmp_path, "--trials", "1")
    assert code == 1, said
    (row,) = read_table(tmp_path / "study")
    assert row["state"] == "failed with exit code 0: there is no evaluation/nothing"
    assert "Best" not in said


@pytest.mark.parametrize("arguments", [["--trials", "0"], ["--jobs", "-1"], ["--seed", "-1"]])
def test_numbers_that_cannot_be_used_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert f"{arguments[0]}: '{arguments[1]}' is not a whole number of at least" in capsys.readouterr().err


def test_folders_that_cannot_be_used_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(study: Path) -> str:
        assert main(["--study", str(study)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "cannot be written" in refused(Path(__file__) / "below")
    (tmp_path / "study.db").write_text("something else" * 100)
    assert "study.db in" in refused(tmp_path)
    with (tmp_path / "search.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert f"uses {tmp_path}" in refused(tmp_path)


def test_windows_gets_a_sentence() -> None:
    path = PROJECT_ROOT / "reinforcement_learning" / "hyperparameter_search.py"
    script = f"import runpy, sys; sys.platform = 'win32'; runpy.run_path({str(path)!r}, run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "hyperparameter_search.py: error: it needs Linux or macOS.\n"


def test_rows_of_metrics_that_are_damaged_are_left_out(tmp_path: Path) -> None:
    rows = [b'{"episode": 1, "score": 0.5}', b"\x00" * 300, b'[{"score": 1}]', b'{"score": "x"}', b'{"score": NaN}']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*rows, b'{"episode": 2, "score": 0.75}', b'{"sco']))
    assert read_metric(tmp_path, "score")[0] == [0.5, 0.75]
