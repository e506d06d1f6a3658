"""The metric of a trial, read while its training writes it."""

import json
from pathlib import Path

from reinforcement_learning.search.trial_process import MetricFile
from reinforcement_learning.tracking.json_lines_sink import JsonLinesSink

METRIC = "evaluation/smoothed_score"


def evaluate(sink: JsonLinesSink, episode: int, value: float) -> None:
    sink.log(episode, {"training/score": -1.0, "timer/total": 2.0 * episode})
    sink.log(episode, {METRIC: value})


def test_follows_what_the_sink_writes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricFile(path, METRIC)
    metrics.read()  # there is no file yet
    assert (metrics.values, metrics.episode) == ([], 0)
    sink = JsonLinesSink(path)
    evaluate(sink, 10, -0.5)
    metrics.read()
    metrics.read()
    assert (metrics.values, metrics.episode, metrics.seconds) == ([-0.5], 10, 20.0)
    evaluate(sink, 20, float("nan"))
    evaluate(sink, 30, -0.25)
    metrics.read()
    assert (metrics.values, metrics.episode, metrics.seconds) == ([-0.5, -0.25], 30, 60.0)
    sink.close()
    once = MetricFile(path, METRIC)
    once.read()
    assert (once.values, once.episode, once.seconds) == (metrics.values, metrics.episode, metrics.seconds)


def test_a_resumed_training_takes_rows_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricFile(path, METRIC)
    sink = JsonLinesSink(path)
    for episode in (10, 20, 30):
        evaluate(sink, episode, -1.0 / episode)
    sink.close()
    metrics.read()
    assert len(metrics.values) == 3
    resumed = JsonLinesSink(path, resume_episode=20)
    metrics.read()
    assert metrics.values == [-0.1, -0.05]
    evaluate(resumed, 30, 7.0)
    metrics.read()
    assert metrics.values == [-0.1, -0.05, 7.0]
    new = JsonLinesSink(path)  # from the beginning, in the same file
    evaluate(new, 10, 3.0)
    metrics.read()
    assert metrics.values == [3.0]


def test_half_a_line_waits_for_the_other_half(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = json.dumps({"episode": 5, METRIC: -0.125}) + "\n"
    metrics = MetricFile(path, METRIC)
    for end in range(len(line)):
        path.write_text(line[:end])
        metrics.read()
        assert metrics.values == []
    path.write_text(line + "[1]\nnothing\n")
    metrics.read()
    assert (metrics.values, metrics.episode) == ([-0.125], 5)
