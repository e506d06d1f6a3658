"""The table of scores, of results that are made up."""

import numpy as np
import pytest

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.scoring.score_table import Played, Scored, table
from utils.simulator.rail_losses import CAUSES


def played(seed: int, policy_of_train: list[int], rewards: list[float]) -> Played:
    arrived = np.array(rewards) == 0.0
    result = EpisodeResult.of_trains(
        np.array(rewards),
        10,
        clips_losses=True,
        arrived=arrived,
        departed=np.ones_like(arrived),
        deadlocked=np.zeros_like(arrived),
        n_steps=9,
        action_counts=np.ones(5, np.int64),
        policy_of_train=np.array(policy_of_train),
        losses=np.zeros((len(rewards), len(CAUSES))),
    )
    return Played(seed, result, 0.001)


def test_trains_of_several_policies_are_told_apart() -> None:
    levels = [played(0, [0, 1, 1], [0.0, -5.0, 0.0]), played(1, [0, 0, 0], [-3.0, 0.0, 0.0])]
    several = Scored("run/last.pt", "Test_0", 0, levels)
    alone = Scored("one", "Test_0", 0, [played(seed, [0, 0, 0], [0.0, -1.0, 0.0]) for seed in (0, 1)])
    assert alone.by_policy == {}
    assert alone.as_dict()["by_policy"] == []
    assert several.as_dict()["by_policy"] == [
        {
            "policy": 0,
            "trains_per_level": 2.0,
            "score_mean": pytest.approx(-0.05),
            "completion_mean": pytest.approx(5 / 6),
        },
        {"policy": 1, "trains_per_level": 1.0, "score_mean": -0.25, "completion_mean": 0.5},
    ]
    lines = table([several, alone]).splitlines()
    at = lines.index("the trains of each policy of run/last.pt")
    first, second = (line.split("  ") for line in lines[at + 1 : at + 3])
    assert first[0] == "policy 0, 2.0 trains a level"
    assert [float(cell.split("±")[0]) for cell in first[1:] if cell.strip()] == [-0.05, 0.833]
    assert second[0] == "policy 1, 1.0 trains a level"
    assert [float(cell) for cell in second[1:] if cell.strip()] == [-0.25, 0.5]  # drives in one level only
    assert not any("trains of each policy of one" in line for line in lines)
