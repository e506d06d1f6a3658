"""What a search has found: tables and the command line of the best trial."""

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from reinforcement_learning.search.results import as_text, best_of, command_line, read_results, write_tables
from reinforcement_learning.search.study import State, Study
from reinforcement_learning.search.sweep_file import Sweep
from reinforcement_learning.settings.command_line import given_options
from reinforcement_learning.settings.config import make_config
from tests.helpers.searches import METRIC, make_sweep

SEARCHED = {"hidden_size": {"values": [16, 32]}, "learning_rate": {"min": 0.001, "max": 0.1}}


def search(folder: Path, outcomes: Sequence[tuple[State, float]], goal: str = "maximize") -> tuple[Study, Sweep]:
    """A study whose trials have ended in certain ways; the metric was 1 better at some time."""
    metric = {"name": METRIC, "goal": goal}
    sweep = make_sweep(folder, SEARCHED | {"action_mask": {"value": True}}, metric=metric)
    study = Study(folder, sweep, seed=0)
    for number, (state, value) in enumerate(outcomes):
        trial = study.next()
        assert trial is not None
        if state is not State.RUNNING:
            study.finish(trial, state, value, "a | b" if state is State.FAILED else "")
        if state is not State.FAILED:
            better = value + (1 if goal == "maximize" else -1)
            rows = [{"episode": 10, METRIC: better}, {"episode": 20, METRIC: value, "timer/total": 90.0}]
            (folder / f"trial_{number:04d}").mkdir()
            (folder / f"trial_{number:04d}" / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return study, sweep


OUTCOMES = [
    (State.FINISHED, -3.0),
    (State.FAILED, 0.0),
    (State.FINISHED, -2.0),
    (State.STOPPED, -1.0),
    (State.RUNNING, -0.5),
]


def test_best_is_the_best_of_those_that_were_not_stopped(tmp_path: Path) -> None:
    results = read_results(*search(tmp_path, OUTCOMES), tmp_path)
    assert [result.trial.number for result in results] == [2, 0, 3, 4, 1]
    assert best_of(results) is results[0]
    assert (results[0].best, results[0].episode, results[0].seconds) == (-1.0, 20, 90.0)


def test_smaller_may_be_better(tmp_path: Path) -> None:
    results = read_results(*search(tmp_path, OUTCOMES, goal="minimize"), tmp_path)
    assert [result.trial.number for result in results] == [0, 2, 3, 4, 1]
    assert results[0].best == -4.0


@pytest.mark.parametrize("outcomes", [[], [(State.FAILED, 0.0)], [(State.RUNNING, 0.0)]])
def test_without_a_result_there_is_no_best(tmp_path: Path, outcomes: Sequence[tuple[State, float]]) -> None:
    results = read_results(*search(tmp_path, outcomes), tmp_path)
    assert best_of(results) is None


def test_tables_hold_every_trial(tmp_path: Path) -> None:
    study, sweep = search(tmp_path, OUTCOMES)
    results = read_results(study, sweep, tmp_path)
    write_tables(results, sweep, tmp_path)
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["2", "0", "3", "4", "1"]
    assert [row["state"] for row in rows] == ["finished", "finished", "stopped early", "running", "failed: a | b"]
    assert [row[METRIC] for row in rows] == ["-2.0000", "-3.0000", "-1.0000", "", ""]
    for row, result in zip(rows, results, strict=True):
        assert float(row["learning_rate"]) == pytest.approx(result.trial.chosen["learning_rate"], rel=1e-5)
    markdown = (tmp_path / "results.md").read_text()
    table = [line.replace("\\|", "") for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(OUTCOMES)
    assert len({line.count("|") for line in table}) == 1
    assert command_line(results[0], sweep) in markdown
    lines = as_text(results, sweep).splitlines()
    assert len(lines) == 1 + len(OUTCOMES)
    assert len({len(line) for line in lines}) == 1


def test_command_line_is_the_training_of_the_trial(tmp_path: Path) -> None:
    study, sweep = search(tmp_path, OUTCOMES)
    best = best_of(read_results(study, sweep, tmp_path))
    assert best is not None
    python, script, *options = shlex.split(command_line(best, sweep))
    assert python == "python"
    assert Path(script).is_file()
    config = make_config(given_options(options))
    assert config.hidden_size == best.trial.chosen["hidden_size"]
    assert config.learning_rate == best.trial.chosen["learning_rate"]
    assert config.action_mask
