"""Metrics as JSON lines: strict JSON, whole rows, and no row twice after a resume."""

import json
import math
from pathlib import Path

import pytest

from reinforcement_learning.tracking.json_lines_sink import JsonLinesSink


def read_rows(path: Path) -> list[dict]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_json_lines_are_there_at_once_and_strict_json(tmp_path):
    path = tmp_path / "new" / "folder" / "metrics.jsonl"
    sink = JsonLinesSink(path)
    sink.log(5, {"training/score": -0.25, "training/loss": math.nan, "x": math.inf, "y": -math.inf})
    assert read_rows(path) == [{"episode": 5, "training/score": -0.25, "training/loss": None, "x": None, "y": None}]
    sink.close()


def test_new_training_starts_a_new_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"episode": 99}\n')
    JsonLinesSink(path).close()
    assert path.read_text() == ""


@pytest.mark.parametrize(
    "torn", ['{"episode": 2, "a": 0.', '{"episode": 2, "a": 1.0}', '"episode"\n', "[1]\n", "\x00\x00\n", ""]
)
def test_resume_leaves_no_doubles_and_no_torn_line(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLinesSink(path)
    for episode in (1, 2, 2, 3, 4):  # training and evaluation rows may share an episode
        sink.log(episode, {"a": float(episode)})
    sink.close()
    with path.open("a") as file:
        file.write(torn)
    sink = JsonLinesSink(path, resume_episode=2)
    sink.log(3, {"a": 30.0})
    sink.close()
    assert [(row["episode"], row["a"]) for row in read_rows(path)] == [(1, 1.0), (2, 2.0), (2, 2.0), (3, 30.0)]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_resumed_without_a_row_leaves_all_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLinesSink(path)
    for episode in (1, 2, 3, 4):
        sink.log(episode, {"training/score": 0.0})
    sink.close()
    before = path.read_bytes()
    JsonLinesSink(path, resume_episode=2, evaluated_episode=2).close()
    assert path.read_bytes() == before


def test_evaluation_that_the_checkpoint_has_not_seen_comes_again_and_stands_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLinesSink(path)
    evaluation, exchange = {"evaluation/scores_mean": -1.0}, {"policy_00/pbt/tau": 0.1}
    for row in ({"training/score": -0.5}, evaluation, exchange):
        for episode in (3, 6):
            sink.log(episode, row)
    sink.close()
    sink = JsonLinesSink(path, resume_episode=6, evaluated_episode=3)  # interrupted in the evaluation of episode 6
    sink.log(6, evaluation)
    sink.close()
    assert [(row.pop("episode"), row) for row in read_rows(path)] == [
        (3, {"training/score": -0.5}),
        (6, {"training/score": -0.5}),
        (3, evaluation),
        (3, exchange),
        (6, evaluation),
    ]


def test_resume_without_a_file_starts_one(tmp_path):
    sink = JsonLinesSink(tmp_path / "metrics.jsonl", resume_episode=7)
    sink.log(8, {"a": 1.0})
    sink.close()
    assert read_rows(tmp_path / "metrics.jsonl") == [{"episode": 8, "a": 1.0}]


def test_rows_of_another_kind_are_not_doubled_either(tmp_path):
    path = tmp_path / "policy_mapping.jsonl"
    sink = JsonLinesSink(path)
    for episode in (1, 2, 3):
        sink.write({"episode": episode, "policy_of_train": [episode, 0]})
    sink.close()
    resumed = JsonLinesSink(path, resume_episode=2)
    resumed.write({"episode": 3, "policy_of_train": [7, 7]})
    resumed.close()
    assert [row["policy_of_train"] for row in read_rows(path)] == [[1, 0], [2, 0], [7, 7]]
