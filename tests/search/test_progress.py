"""What a running search says where there is no terminal."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reinforcement_learning.search import progress as progress_module
from reinforcement_learning.search.progress import Progress, describe
from reinforcement_learning.search.trial_process import MetricFile


def running(number: int, episode: int, values: list[float]) -> Any:
    metrics = MetricFile(Path("none"), "metric")
    metrics.episode, metrics.values = episode, values
    return SimpleNamespace(number=number, metrics=metrics)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock.now)
    return clock


def test_one_line_a_minute_says_where_the_trials_are(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(n_trials=10, n_done=4, n_episodes=2000)
    trials = [running(4, 500, [-0.5, -0.25]), running(5, 12, [])]
    for _ in range(100):
        clock.now += 0.5
        progress.running(trials)
    assert capsys.readouterr().out == ""
    clock.now += 11
    progress.running(trials)
    where = "running: trial 4 episode 500/2000 -0.250, trial 5 episode 12/2000\n"
    assert capsys.readouterr().out == f"4/10 trials done; {where}"
    progress.done()
    progress.done()
    clock.now = 1000.0 + 150  # two trials, so 75 seconds for each of the four that are left
    progress.running(trials)
    assert capsys.readouterr().out == f"6/10 trials done, about 0:05:00 left; {where}"


def test_episodes_of_a_training_are_left_out_where_trials_differ(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(n_trials=2, n_done=0, n_episodes=None)
    clock.now += 60
    progress.running([running(0, 7, [])])
    assert capsys.readouterr().out == "0/2 trials done; running: trial 0 episode 7\n"


def test_values_are_short() -> None:
    chosen = {"learning_rate": 0.000123456789, "hidden_size": 128, "feature_set": "tree", "safe_moves": True}
    assert describe(chosen) == "learning_rate 0.0001235, hidden_size 128, feature_set tree, safe_moves True"
