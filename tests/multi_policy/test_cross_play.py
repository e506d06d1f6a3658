"""The cross-play table: every line-up on the same levels."""

import json
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from reinforcement_learning.multi_policy.cross_play import as_json, as_text, cross_play
from reinforcement_learning.playing.play_levels import play_levels
from tests.helpers.playing import TIMETABLE, ForwardPolicy, GreedyDistancePolicy
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.observer import Observer
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import FlatlandSimulator

OBSERVER = Observer(TIMETABLE, safe_moves=False)


class NeverDeparts:
    """Nothing but waiting."""

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float | np.ndarray = 0.0) -> np.ndarray:
        return np.zeros(len(observations), dtype=np.int64)


def only(policy: int) -> Callable[[int, RailState], np.ndarray]:
    return lambda number, level: np.full(level.n_trains, policy, dtype=np.int64)


def levels(n: int = 6) -> Iterator[FlatlandSimulator]:
    return (FlatlandSimulator(make_rail_env(ENV_CONFIGS["Tiny"], seed)) for seed in range(n))


def test_line_ups() -> None:
    table = cross_play([GreedyDistancePolicy(), NeverDeparts()], only(0), levels, OBSERVER)
    assert [line.who for line in table] == [
        "policy 0 alone",
        "policy 1 alone",
        "policies 0 and 1, half and half",
        "training mapping",
    ]
    alone, idle, half, mapped = table
    wanted = play_levels(levels(), OBSERVER, GreedyDistancePolicy())
    assert alone.score == pytest.approx(np.mean([result.score for result in wanted]))
    assert idle.completion == 0.0
    assert 0.0 < half.completion <= 0.5  # of two trains one never departs
    assert (mapped.score, mapped.completion) == (alone.score, alone.completion)
    text = as_text(table)
    assert len(text.splitlines()) == 5
    assert f"{half.score:.3f}" in text
    assert json.loads(json.dumps(as_json(table)))[2]["who"] == half.who


def test_error_of_a_single_level_is_not_known() -> None:
    table = cross_play([ForwardPolicy()], only(0), lambda: levels(1), OBSERVER)
    assert math.isnan(table[0].score_error)
    assert as_json(table)[0]["score_error"] is None
    header, row, _ = as_text(table).splitlines()
    assert "nan" not in row
    assert "±" not in header + row
    assert f"{table[0].score:.3f}" in row


def test_ends_early_when_asked_to() -> None:
    assert cross_play([ForwardPolicy()], only(0), levels, OBSERVER, lambda: True) == []
