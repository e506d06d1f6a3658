"""The schedule of epsilon."""

from typing import Any

import numpy as np
import pytest

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.multi_policy.assignment import Assignment, learning_of
from reinforcement_learning.settings.config import TrainingConfig
from tests.helpers.playing import ListSink
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.simulator.rail_state import RailState


@pytest.mark.parametrize(
    ("start", "end", "decay", "wanted"),
    [(1.0, 0.2, 0.5, [1.0, 0.5, 0.25, 0.2, 0.2]), (0.3, 0.1, 1.0, [0.3] * 5), (0.0, 0.0, 0.9, [0.0] * 5)],
)
def test_epsilon_decays_from_the_first_episode_and_stops_at_the_end(
    start: float, end: float, decay: float, wanted: list[float]
) -> None:
    config = TrainingConfig(eps_start=start, eps_end=end, eps_decay=decay)
    assignment, given = Assignment(config), Hyperparameters.of(config)
    assert [assignment.epsilon(given, episode, 2) for episode in range(5)] == wanted


def test_the_share_of_demonstrations_falls_to_nothing() -> None:
    config = TrainingConfig(demonstrations=0.8, n_episodes=1000)
    state = RailState.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 0))
    shown = [
        Assignment(config).train_settings(episode, state, [Hyperparameters.of(config)]).demonstration
        for episode in range(1000)
    ]
    assert 0.6 < np.mean(shown[:200]) < 0.85
    assert 0.2 < np.mean(shown[400:600]) < 0.6
    assert np.mean(shown[950:]) < 0.2
    again = Assignment(config)
    assert [again.train_settings(k, state, [Hyperparameters.of(config)]).demonstration for k in range(50)] == shown[:50]


@pytest.mark.parametrize(
    ("options", "asks"),
    [({}, True), ({"dagger": False}, False), ({"demonstrations": 0.0}, False), ({"feature_set": "tree_routes"}, False)],
)
def test_the_plan_is_asked_where_it_is_a_teacher_and_known_anyway(options: dict[str, Any], asks: bool) -> None:
    assert learning_of(TrainingConfig(**options), ListSink()).asks_plan == asks
