"""The memory of a search: what is chosen, with the real Optuna, and that it outlives its process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reinforcement_learning.search.study import DATABASE, State, Study, StudyError, Trial
from tests.helpers.searches import make_sweep

SEARCHED = {"hidden_size": {"values": [16, 32, 64, 128]}, "learning_rate": {"min": 0.001, "max": 0.1}}


def open_study(folder: Path, seed: int = 0, parameters: dict[str, Any] = SEARCHED, **keys: Any) -> Study:
    return Study(folder, make_sweep(folder, parameters, **keys), seed)


def score(trial: Trial) -> float:
    """A metric that is best, 0, at a learning rate of 0.03 and a hidden size of 64."""
    wrong_size = 0.5 * (trial.chosen["hidden_size"] != 64)
    return -abs(float(trial.chosen["learning_rate"]) - 0.03) * 10 - wrong_size


def search(study: Study, n_trials: int, judge: Callable[[Trial], float] = score) -> list[Trial]:
    for _ in range(n_trials):
        trial = study.next()
        assert trial is not None
        study.finish(trial, State.FINISHED, judge(trial))
    return study.trials()


def test_choices_follow_from_the_seed_whether_the_search_is_interrupted_or_not(tmp_path):
    folders = [tmp_path / name for name in ("whole", "parts", "other")]
    for folder in folders:
        folder.mkdir()
    whole = search(open_study(folders[0], method="bayes"), 13)
    search(open_study(folders[1], method="bayes"), 6)
    parts = search(open_study(folders[1], method="bayes"), 7)
    assert parts == whole
    assert len({tuple(trial.chosen.values()) for trial in whole}) == 13
    other = search(open_study(folders[2], seed=1, method="bayes"), 2)
    assert other[0].chosen != whole[0].chosen


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_bayes_looks_where_it_was_good(tmp_path, goal):
    def distance(trial: Trial) -> float:
        return abs(float(trial.chosen["learning_rate"]) - 0.03)

    metric = {"name": "training/loss", "goal": goal}
    parameters = {"learning_rate": SEARCHED["learning_rate"]}
    study = open_study(tmp_path, parameters=parameters, method="bayes", metric=metric)
    trials = search(study, 24, judge=lambda trial: distance(trial) * (1 if goal == "minimize" else -1))
    assert sum(map(distance, trials[14:])) < 0.6 * sum(map(distance, trials[:10]))  # the first ten are random


def test_grid_is_searched_in_order_to_its_end_and_goes_on_after_a_kill(tmp_path):
    parameters = {"hidden_size": {"values": [32, 16]}, "n_step": {"min": 1, "max": 3}}
    study = open_study(tmp_path, parameters=parameters, method="grid")
    search(study, 2, judge=lambda trial: 0.0)
    study._study.enqueue_trial({"hidden_size": 32, "n_step": 3})  # as by a search that is killed at that moment
    study = open_study(tmp_path, parameters=parameters, method="grid")
    assert len(study.trials()) == 2
    trials = search(study, 4, judge=lambda trial: 0.0)
    assert [tuple(trial.chosen.values()) for trial in trials] == [(h, n) for h in (32, 16) for n in (1, 2, 3)]
    assert study.next() is None


def test_states_values_and_notes_are_remembered(tmp_path):
    study = open_study(tmp_path)
    trials = [study.next() for _ in range(4)]
    study.finish(trials[0], State.STOPPED, -0.5)
    study.finish(trials[1], State.FAILED, note="out of memory")
    study.finish(trials[2], State.REPEATED, -0.5, "trial 0")
    remembered = open_study(tmp_path).trials()
    assert [trial.state for trial in remembered] == [State.STOPPED, State.FAILED, State.REPEATED, State.RUNNING]
    assert [trial.note for trial in remembered] == ["", "out of memory", "trial 0", ""]
    assert [trial.value for trial in remembered[::2]] == [-0.5, -0.5]
    assert [trial.chosen for trial in remembered] == [trial.chosen for trial in trials]


def test_the_same_values_once_more_are_noticed(tmp_path):
    study = open_study(tmp_path, parameters={"hidden_size": {"values": [16, 32]}})
    trials = [study.next() for _ in range(8)]
    first = trials[0]
    same = next(trial for trial in trials[1:] if trial.chosen == first.chosen)
    assert study.repeated(same) is None  # it has no result yet
    study.finish(first, State.FINISHED, -0.25)
    assert study.repeated(same).number == 0
    assert study.repeated(same).value == -0.25


def test_what_matters_is_told_once_there_are_enough_trials(tmp_path):
    study = open_study(tmp_path)
    search(study, 5)
    assert study.importances() == {}
    search(study, 15, judge=lambda trial: -float(trial.chosen["learning_rate"]))
    importances = study.importances()
    assert sum(importances.values()) == pytest.approx(1)
    assert importances["learning_rate"] > 0.8


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"method": "bayes"}, "another method"),
        ({"metric": {"name": "evaluation/smoothed_score"}}, "another maximize"),
        ({"parameters": SEARCHED | {"n_episodes": {"value": 9}}}, "another fixed"),
        ({"parameters": SEARCHED | {"hidden_size": {"values": [16, 32]}}}, "another searched"),
    ],
)
def test_another_sweep_is_refused(tmp_path, changed, words):
    open_study(tmp_path)
    with pytest.raises(StudyError, match=words):
        open_study(tmp_path, **changed)


def test_file_that_is_no_study_is_named(tmp_path):
    (tmp_path / DATABASE).write_text("something else" * 100)
    with pytest.raises(StudyError, match=DATABASE):
        open_study(tmp_path)


def test_without_optuna_the_sentence_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(StudyError, match="pip install optuna=="):
        open_study(tmp_path)
