"""The loop of a search, with trainings that are played by the test."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from reinforcement_learning.search import local_search
from reinforcement_learning.search.local_search import LocalSearch
from reinforcement_learning.search.progress import Progress
from reinforcement_learning.search.study import State, Study
from reinforcement_learning.search.sweep_file import Sweep
from reinforcement_learning.search.trial_process import METRICS_FILE, MetricFile, trial_name
from tests.helpers.searches import METRIC, make_sweep


class Played:
    """Stands in for a process: writes one evaluation at each look, and counts how many there are at a time."""

    scripts: dict[int, Sequence[float]]  # the metric of each trial, evaluation by evaluation
    codes: dict[int, int]
    now: int
    most: int

    def __init__(self, study: Path, number: int, options: Sequence[str], metric: str, lock: int) -> None:
        self.number, self.stopped_early, self.goes_on = number, False, False
        self._script = list(Played.scripts[number])
        self._path = study / trial_name(number) / METRICS_FILE
        self._path.parent.mkdir()
        self.metrics = MetricFile(self._path, metric)
        self._code: int | None = None
        Played.now += 1
        Played.most = max(Played.most, Played.now)

    def poll(self) -> int | None:
        if self._code is None and not self._script:
            self._end(Played.codes.get(self.number, 0))
        if self._code is None:
            with self._path.open("a") as file:
                row = {"episode": 100 - len(self._script), METRIC: self._script.pop(0)}
                file.write(json.dumps(row) + "\n")
        self.metrics.read()
        return self._code

    def _end(self, code: int) -> None:
        self._code = code
        Played.now -= 1

    def stop(self) -> None:
        if self._code is None:
            self._end(143)

    def last_words(self) -> str:
        return "out of memory"


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_search, "TrialProcess", Played)
    monkeypatch.setattr(local_search, "_SECONDS_BETWEEN_LOOKS", 0)
    Played.codes, Played.now, Played.most = {}, 0, 0


def play(
    folder: Path,
    scripts: Sequence[Sequence[float]],
    n_jobs: int,
    n_trials: int | None = None,
    questions: int | None = None,
    goal: str = "maximize",
) -> tuple[bool, Study]:
    """Searches a grid with these trainings; stops when it is asked for the ``questions``-th time."""
    rule = {"type": "hyperband", "min_iter": 2, "eta": 2}
    parameters = {"n_step": {"min": 1, "max": len(scripts)}}
    metric = {"name": METRIC, "goal": goal}
    sweep: Sweep = make_sweep(folder, parameters, method="grid", metric=metric, early_terminate=rule)
    study = Study(folder, sweep, seed=0)
    Played.scripts = dict(enumerate(scripts))
    asked = iter(range(10_000))
    search = LocalSearch(
        study,
        sweep,
        folder,
        lock=0,
        n_trials=n_trials or len(scripts),
        n_jobs=n_jobs,
        progress=Progress(len(scripts), 0, None),
        stop_requested=lambda: questions is not None and next(asked) >= questions,
    )
    return search.run(), study


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_all_trials_are_trained_no_more_at_a_time_than_there_may_be(tmp_path, n_jobs):
    finished, study = play(tmp_path, [[-0.5], [-0.25], [-0.75], [-0.1]], n_jobs)
    assert finished
    assert Played.most == n_jobs
    assert [(trial.state, trial.value) for trial in study.trials()] == [
        (State.FINISHED, value) for value in (-0.5, -0.25, -0.75, -0.1)
    ]


@pytest.mark.parametrize(("goal", "sign"), [("maximize", 1), ("minimize", -1)])
def test_trial_that_falls_behind_is_stopped(tmp_path, goal, sign):
    scripts = [[sign * value for value in script] for script in ([3, 3, 3], [4, 4, 4], [1, 1, 9])]
    _, study = play(tmp_path, scripts, n_jobs=1, goal=goal)
    assert [trial.state for trial in study.trials()] == [State.FINISHED, State.FINISHED, State.STOPPED]
    assert study.trials()[2].value == sign


def test_failures_are_told_with_their_reason_and_do_not_end_the_search(tmp_path):
    Played.codes = {0: -9, 1: 1}
    finished, study = play(tmp_path, [[-0.5], [], [], [-0.1]], n_jobs=1)
    assert finished
    states = [(trial.state, trial.note) for trial in study.trials()]
    assert states == [
        (State.FAILED, "was ended by signal 9: out of memory"),
        (State.FAILED, "ended with exit code 1: out of memory"),
        (State.FAILED, f"its metrics have no {METRIC}"),
    ]


def test_one_that_ends_well_keeps_a_search_going(tmp_path):
    Played.codes = {0: 1, 1: 1, 3: 1}
    _, study = play(tmp_path, [[], [], [-0.5], [], [-0.1]], n_jobs=1)
    assert [trial.state for trial in study.trials()] == [
        State.FAILED, State.FAILED, State.FINISHED, State.FAILED, State.FINISHED,
    ]  # fmt: skip


def test_number_of_trials_counts_those_before(tmp_path):
    scripts = [[-0.5]] * 5
    play(tmp_path, scripts, n_jobs=2, n_trials=2)
    finished, study = play(tmp_path, scripts, n_jobs=2, n_trials=3)
    assert finished
    assert len(study.trials()) == 3


def test_a_stop_ends_the_trainings_which_go_on_first_the_next_time(tmp_path):
    scripts = [[-0.5] * 50, [-0.25] * 50, [-0.1]]
    finished, study = play(tmp_path, scripts, n_jobs=2, questions=6)
    assert not finished
    assert Played.now == 0
    assert [trial.state for trial in study.trials()] == [State.RUNNING] * 2
    for number in (0, 1):
        (tmp_path / trial_name(number) / METRICS_FILE).unlink()
        (tmp_path / trial_name(number)).rmdir()
    finished, study = play(tmp_path, scripts, n_jobs=1)
    assert finished
    assert [trial.value for trial in study.trials()] == [-0.5, -0.25, -0.1]
