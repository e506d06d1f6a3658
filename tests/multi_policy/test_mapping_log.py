"""The file that tells who has driven which train."""

import json
from pathlib import Path

import numpy as np

from reinforcement_learning.multi_policy.mapping_log import MappingLog


def rows(log: MappingLog) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def test_a_resumed_training_writes_no_line_twice(tmp_path: Path) -> None:
    log = MappingLog(tmp_path, None)
    for episode in (1, 2, 3):
        log.add(episode, episode - 1, np.array([episode, 0]))
    resumed = MappingLog(tmp_path, 2)
    resumed.add(3, 2, np.array([7, 7]))
    assert rows(resumed) == [
        {"episode": 1, "level_number": 0, "policy_of_train": [1, 0]},
        {"episode": 2, "level_number": 1, "policy_of_train": [2, 0]},
        {"episode": 3, "level_number": 2, "policy_of_train": [7, 7]},
    ]
    anew = MappingLog(tmp_path, None)
    anew.add(1, 0, np.array([4, 0]))
    assert rows(anew) == [{"episode": 1, "level_number": 0, "policy_of_train": [4, 0]}]
