"""The schedule of epsilon."""

import pytest

from reinforcement_learning.multi_policy.assignment import EpsilonSchedule


def test_decays_from_the_first_episode_and_stops_at_the_end() -> None:
    epsilon = EpsilonSchedule(start=1.0, end=0.2, decay=0.5)
    assert [epsilon(episode) for episode in range(5)] == [1.0, 0.5, 0.25, 0.2, 0.2]


def test_constant_schedules() -> None:
    assert EpsilonSchedule(0.3, 0.1, 1.0)(10_000) == pytest.approx(0.3)
    assert EpsilonSchedule(0.0, 0.0, 0.9)(7) == 0.0
