"""Transitions between decisions: a worked example, and a comparison with sums over the list of all rewards."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.playing.transitions import TransitionCollector, Transitions

N_FEATURES = 3


def observation_of(train: int, step: int) -> np.ndarray:
    return np.array([train, step, 1], dtype=np.float32)


def mask_of(train: int, step: int) -> np.ndarray:
    return np.array([True, *(step >> bit & 1 == 1 for bit in range(3)), train % 2 == 1])


def action_of(train: int, step: int) -> int:
    return (2 * train + step) % 5


def decide(collector: TransitionCollector, trains: list[int], step: int) -> Transitions:
    return collector.decide(
        np.array(trains, dtype=np.intp),
        np.array([observation_of(train, step) for train in trains], dtype=np.float32).reshape(-1, N_FEATURES),
        np.array([mask_of(train, step) for train in trains], dtype=bool).reshape(-1, 5),
        np.array([action_of(train, step) for train in trains], dtype=np.int64),
    )


def test_worked_example() -> None:
    """One train, gamma 1/2: it decides at steps 0, 1 and 4, and arrives with step 5."""
    collector = TransitionCollector(1, N_FEATURES, gamma=0.5)
    rewards = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    closed = []
    for step, reward in enumerate(rewards):
        if step in (0, 1, 4):
            closed.append(decide(collector, [0], step))
        collector.reward(np.array([reward]))
    closed.append(collector.finish(np.array([0])))

    first, second, third, last = closed
    assert len(first) == 0
    # step 0 to step 1: its own reward, gamma
    assert (second.rewards.tolist(), second.discounts.tolist()) == ([1.0], [0.5])
    assert second.observations.tolist() == [[0, 0, 1]]
    assert second.next_observations.tolist() == [[0, 1, 1]]
    # steps 1, 2, 3 until step 4: 2 + 4/2 + 8/4, gamma cubed
    assert (third.rewards.tolist(), third.discounts.tolist()) == ([6.0], [0.125])
    assert third.actions.tolist() == [action_of(0, 1)]
    assert third.next_action_masks.tolist() == [mask_of(0, 4).tolist()]
    # steps 4 and 5 until arrival: 16 + 32/2, and nothing follows
    assert (last.rewards.tolist(), last.discounts.tolist()) == ([32.0], [0.0])
    assert last.next_action_masks.all()


def test_trains_without_an_open_decision_give_nothing() -> None:
    collector = TransitionCollector(3, N_FEATURES, gamma=0.9)
    assert len(collector.finish(np.arange(3))) == 0
    decide(collector, [1], 0)
    collector.reward(np.ones(3))
    assert len(collector.finish(np.array([0, 2]))) == 0
    assert len(collector.finish(np.arange(3))) == 1
    assert len(collector.finish(np.arange(3))) == 0


def test_rewards_before_the_first_decision_belong_to_nobody() -> None:
    collector = TransitionCollector(1, N_FEATURES, gamma=1.0)
    collector.reward(np.array([100.0]))
    decide(collector, [0], 1)
    collector.reward(np.array([3.0]))
    assert collector.finish(np.array([0])).rewards.tolist() == [3.0]


def test_a_new_episode_leaves_nothing_of_the_one_before_and_its_neighbours_as_they_are() -> None:
    collector = TransitionCollector(2, 1, gamma=0.5, n_step=2)
    both, mask = np.arange(2), np.ones((2, 5), dtype=bool)
    collector.decide(both, np.array([[1.0], [2.0]], np.float32), mask, both)
    collector.reward(np.array([1.0, 1.0]))
    collector.begin(both[:1])
    finished = collector.finish(both)
    assert (finished.observations.tolist(), finished.rewards.tolist()) == ([[2.0]], [1.0])


def test_order_of_transitions_does_not_depend_on_the_episode_before() -> None:
    used, new = (TransitionCollector(1, N_FEATURES, gamma=0.5, n_step=2) for _ in range(2))
    decide(used, [0], 0)
    used.begin(np.arange(1))
    for collector in (used, new):
        decide(collector, [0], 1)
        decide(collector, [0], 2)
    observations = [collector.finish(np.arange(1)).observations.tolist() for collector in (used, new)]
    assert observations[0] == observations[1]


def test_finished_transitions_are_not_changed_by_what_follows() -> None:
    collector = TransitionCollector(1, N_FEATURES, gamma=0.5)
    decide(collector, [0], 0)
    collector.reward(np.array([1.0]))
    closed = decide(collector, [0], 1)
    collector.reward(np.array([50.0]))
    decide(collector, [0], 2)
    assert (closed.rewards.tolist(), closed.observations.tolist()) == ([1.0], [[0, 0, 1]])


@dataclass
class Episode:
    """Which trains decide at which step, when each train is finished, and all rewards ``[steps][trains]``."""

    n_trains: int
    rewards: list[list[float]]
    decides: list[list[bool]]
    finished_after: list[int]  # the last step that counts for each train
    expected: list[tuple] = field(default_factory=list)


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    n_trains, n_steps = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    table = st.lists
    rewards = draw(table(table(st.integers(-4, 4).map(float), min_size=n_trains, max_size=n_trains),
                         min_size=n_steps, max_size=n_steps))  # fmt: skip
    decides = draw(table(table(st.booleans(), min_size=n_trains, max_size=n_trains),
                         min_size=n_steps, max_size=n_steps))  # fmt: skip
    finished = draw(table(st.integers(0, n_steps - 1), min_size=n_trains, max_size=n_trains))
    return Episode(n_trains, rewards, decides, finished)


def brute_force(episode: Episode, gamma: float, n_step: int) -> list[tuple]:
    """(train, step, action, return, discount, next step or None), from the whole list of rewards."""
    expected = []
    for train in range(episode.n_trains):
        end = episode.finished_after[train] + 1
        steps = [step for step in range(end) if episode.decides[step][train]]
        for position, step in enumerate(steps):
            follows = position + n_step < len(steps)
            until = steps[position + n_step] if follows else end
            total = sum(gamma ** (k - step) * episode.rewards[k][train] for k in range(step, until))
            discount = gamma ** (until - step) if follows else 0.0
            expected.append((train, step, action_of(train, step), total, discount, until if follows else None))
    return expected


def collect(episode: Episode, gamma: float, n_step: int) -> list[tuple]:
    """The same from the collector."""
    collector = TransitionCollector(episode.n_trains, N_FEATURES, gamma, n_step)
    closed: list[Transitions] = []
    for step in range(len(episode.rewards)):
        running = [train for train in range(episode.n_trains) if step <= episode.finished_after[train]]
        closed.append(decide(collector, [train for train in running if episode.decides[step][train]], step))
        collector.reward(np.array(episode.rewards[step]))
        over = [train for train in running if step == episode.finished_after[train]]
        closed.append(collector.finish(np.array(over, dtype=np.intp)))
    found = []
    for transitions in closed:
        for i in range(len(transitions)):
            train, step, _ = transitions.observations[i].astype(int).tolist()
            following = None
            if transitions.discounts[i] > 0:
                assert transitions.next_observations[i][0] == train
                following = int(transitions.next_observations[i][1])
                assert transitions.next_action_masks[i].tolist() == mask_of(train, following).tolist()
            reward, discount = float(transitions.rewards[i]), float(transitions.discounts[i])
            found.append((train, step, int(transitions.actions[i]), reward, discount, following))
    return found


@given(episode=episodes(), n_step=st.integers(1, 4), gamma=st.sampled_from([0.5, 0.9, 1.0]))
@settings(max_examples=150, deadline=None)
def test_equals_sums_over_the_list_of_all_rewards(episode: Episode, n_step: int, gamma: float) -> None:
    found, expected = sorted(collect(episode, gamma, n_step)), sorted(brute_force(episode, gamma, n_step))
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert [row[5] for row in found] == [row[5] for row in expected]
    for row, wanted in zip(found, expected, strict=True):
        assert row[3:5] == pytest.approx(wanted[3:5], rel=1e-6, abs=1e-6)
