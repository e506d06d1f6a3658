"""Evaluation: every level once, numbers computed by hand, a way out in the middle."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from reinforcement_learning.playing.episode_result import EpisodeResult, evaluation_metrics, mean_and_standard_error
from reinforcement_learning.playing.play_levels import LEVELS_AT_A_TIME, play_levels, warm_up
from tests.helpers.playing import ForwardPolicy, RandomPolicy
from tests.helpers.tiny_training import stop_after
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.safe_moves.safe_moves import SafeMoves
from utils.simulator.simulator import FlatlandSimulator

TINY = ENV_CONFIGS["Tiny"]


def result(score: float, completion: float, n_steps: int, deadlocked: float, never_departed: float) -> EpisodeResult:
    of_no_train = np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64), np.zeros(0)
    return EpisodeResult(score, completion, deadlocked, never_departed, n_steps, 2, 1, np.zeros(5, int), *of_no_train)


def test_metrics_by_hand() -> None:
    metrics = evaluation_metrics([result(-0.5, 0.5, 40, 0.0, 0.5), result(-0.1, 1.0, 20, 0.5, 0.0)])
    assert metrics == pytest.approx(
        {
            "evaluation/scores_min": -0.5,
            "evaluation/scores_max": -0.1,
            "evaluation/scores_mean": -0.3,
            "evaluation/scores_std": 0.2,
            "evaluation/completions_min": 0.5,
            "evaluation/completions_max": 1.0,
            "evaluation/completions_mean": 0.75,
            "evaluation/completions_std": 0.25,
            "evaluation/nb_steps_min": 20,
            "evaluation/nb_steps_max": 40,
            "evaluation/nb_steps_mean": 30,
            "evaluation/nb_steps_std": 10,
            "evaluation/nb_episodes": 2,
            "evaluation/deadlocked": 0.25,
            "evaluation/never_departed": 0.25,
        }
    )


def test_mean_and_standard_error() -> None:
    assert mean_and_standard_error([1.0, 3.0]) == pytest.approx((2.0, 1.0))
    mean, error = mean_and_standard_error([4.0])
    assert mean == 4.0
    assert math.isnan(error)


def play(should_stop: Callable[[], bool] = lambda: False, n_levels: int = LEVELS_AT_A_TIME) -> list[EpisodeResult]:
    levels = (FlatlandSimulator(make_rail_env(TINY, seed)) for seed in range(n_levels))
    return play_levels(
        levels, Observer(get_feature_set("tree"), safe_moves=False), ForwardPolicy(), should_stop=should_stop
    )


def test_every_level_is_played_to_its_end_and_alike_each_time() -> None:
    first, second = play(), play()
    assert len(first) == LEVELS_AT_A_TIME
    assert [(r.score, r.n_steps) for r in first] == [(r.score, r.n_steps) for r in second]
    assert len({r.score for r in first}) > 1


def test_stops_between_two_steps_with_what_was_played() -> None:
    lengths = [r.n_steps for r in play()]  # all at a time
    assert len(play(stop_after(1))) == 0
    assert len(play(stop_after(min(lengths)))) == 0
    assert len(play(stop_after(min(lengths) + 1))) == lengths.count(min(lengths)) < len(lengths)
    assert len(play(stop_after(max(lengths)))) == len(lengths) - lengths.count(max(lengths))
    assert len(play(stop_after(max(lengths) + 1))) == len(lengths)


def test_levels_may_differ_in_their_number_of_trains() -> None:
    configs = [ENV_CONFIGS[name] for name in ("Tiny", "Tiny", "Test_0", "Tiny", "Test_1", "Test_0")]
    observer = Observer(get_feature_set("tree"), safe_moves=False)
    levels = [FlatlandSimulator(make_rail_env(config, 1)) for config in configs]
    together = play_levels(levels, observer, ForwardPolicy())
    assert [r.n_trains for r in together] == [2, 2, 5, 2, 10, 5]
    for config, found in zip(configs, together, strict=True):
        (alone,) = play_levels([FlatlandSimulator(make_rail_env(config, 1))], observer, ForwardPolicy())
        assert (alone.score, alone.n_steps, alone.n_decisions) == (found.score, found.n_steps, found.n_decisions)


@pytest.mark.parametrize("n_levels", [0, 1, LEVELS_AT_A_TIME - 1, LEVELS_AT_A_TIME, 2 * LEVELS_AT_A_TIME + 1])
def test_results_are_in_the_order_of_the_levels(n_levels: int) -> None:
    levels = (FlatlandSimulator(make_rail_env(TINY, seed)) for seed in range(n_levels))
    alone = [
        play_levels([level], Observer(get_feature_set("tree"), safe_moves=False), ForwardPolicy())[0]
        for level in levels
    ]
    together = play(n_levels=n_levels)
    # that they end in another order is what makes this worth asking
    assert n_levels < LEVELS_AT_A_TIME or (lengths := [r.n_steps for r in alone]) != sorted(lengths)
    assert [(r.score, r.n_steps, r.n_decisions) for r in together] == [
        (r.score, r.n_steps, r.n_decisions) for r in alone
    ]


def test_warming_up_compiles_what_judges_moves_where_a_plan_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as all follow the plan nothing is to be settled; later on nothing may be left to compile."""
    settled = []
    monkeypatch.setattr(SafeMoves, "settle", lambda *arguments: settled.append(arguments))
    warm_up(RandomPolicy(0), Observer(get_feature_set("tree_plan"), safe_moves=True))
    assert settled
