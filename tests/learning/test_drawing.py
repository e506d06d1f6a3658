"""Batches are put together when they are drawn: along the decisions of a train, of rows at which transitions begin."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.learning.replay_buffer import ReplayBuffer, ReplayBufferError
from reinforcement_learning.playing.episode_rows import LOST, NOTHING_FOLLOWS, EpisodeRows
from tests.helpers.rows import PLAIN, made_up_rows
from utils.observation.feature_sets import FeatureSet

FEATURES = FeatureSet("test", 1, max_depth=1)
N = FEATURES.n_features


def make_buffer(capacity: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, FEATURES, np.random.default_rng(0))


def episode(first: int, train: list[int], **fields: np.ndarray) -> EpisodeRows:
    """Decisions of those trains in that order, numbered from ``first`` on; each is seen and rewarded by its number."""
    n = len(train)
    numbers = np.arange(first, first + n)
    later = [[j - i for j in range(i + 1, n) if train[j] == train[i]] for i in range(n)]
    next_row = np.array([after[0] if after else NOTHING_FOLLOWS for after in later], dtype=int)
    seen = np.repeat(numbers[:, np.newaxis], N, axis=1)
    return made_up_rows(n, N, **{"rewards": numbers, "observations": seen, "next_row": next_row} | fields)


def drawn(buffer: ReplayBuffer, n_step: int = 1) -> dict[int, tuple[float, float, float | None]]:
    """Reward, discount and next decision by decision, of all transitions that a buffer gives."""
    batch = buffer.sample(60 * buffer.capacity, PLAIN, n_step)
    found = {}
    for i, number in enumerate(batch.observations[:, 0].int().tolist()):
        discount = batch.discounts[i].item()
        follows = batch.next_observations[i, 0].item() if discount else None
        of_number = (batch.rewards[i].item(), discount, follows)
        assert found.setdefault(number, of_number) == of_number
    return found


@given(
    capacity=st.integers(1, 12),
    trains=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=16), min_size=1, max_size=5),
    n_step=st.integers(1, 4),
)
@settings(max_examples=100, deadline=None)
def test_transitions_follow_the_train_wherever_the_ring_begins(
    capacity: int, trains: list[list[int]], n_step: int
) -> None:
    buffer, wanted, first = make_buffer(capacity), {}, 0
    for of_episode in trains:
        buffer.add(episode(first, of_episode))
        for i, train in enumerate(of_episode):
            way = [first + j for j in range(i, len(of_episode)) if of_episode[j] == train]
            follows = way[n_step] if len(way) > n_step else None
            reward = sum(0.5**k * number for k, number in enumerate(way[:n_step]))
            wanted[first + i] = (reward, 0.0 if follows is None else 0.5**n_step, follows)
        first += len(of_episode)
    newest = range(max(0, first - capacity), first)
    assert drawn(buffer, n_step) == {number: wanted[number] for number in newest}
    assert (len(buffer), buffer.n_added, buffer.n_rows_added) == (len(newest), first, first)


def test_nothing_begins_at_rows_that_are_only_looked_at() -> None:
    buffer = make_buffer(8)
    buffer.add(episode(0, [0, 1, 0, 1, 0], decided=np.array([1, 0, 0, 0, 1])))
    assert drawn(buffer) == {0: (0.0, 0.5, 2.0), 4: (4.0, 0.0, None)}
    assert (len(buffer), buffer.n_added, buffer.n_rows) == (2, 2, 5)
    buffer.add(episode(5, [0] * 4))  # the row that gives way has a transition
    assert (len(buffer), buffer.n_added, buffer.n_rows) == (5, 6, 8)
    assert drawn(buffer).keys() == {4, 5, 6, 7, 8}


def test_nothing_begins_where_a_decision_on_the_way_is_lost() -> None:
    buffer = make_buffer(8)
    buffer.add(episode(0, [0, 0, 0, 1, 1], next_row=np.array([1, 1, LOST, 1, NOTHING_FOLLOWS])))
    assert [set(drawn(buffer, n_step)) for n_step in (1, 2, 3)] == [{0, 1, 3, 4}, {0, 3, 4}, {3, 4}]


def test_few_among_many_are_drawn_each_as_often() -> None:
    """Two in ten thousand rows."""
    buffer = make_buffer(10_000)
    decided = np.zeros(10_000)
    decided[[17, 9_000]] = 1
    buffer.add(episode(0, list(range(10_000)), decided=decided))
    numbers = buffer.sample(1000, PLAIN, 3).observations[:, 0].int().tolist()
    assert set(numbers) == {17, 9_000}
    assert 400 < numbers.count(17) < 600


def test_rows_without_any_transition_are_no_batch() -> None:
    buffer = make_buffer(4)
    buffer.add(episode(0, [0, 1], decided=np.zeros(2)))
    with pytest.raises(ReplayBufferError, match="empty"):
        buffer.sample(1, PLAIN, 1)


def test_a_smaller_one_that_is_taken_over_leaves_nothing_behind() -> None:
    """Rows that were there before are neither drawn nor counted when they give way."""
    buffer, other = make_buffer(6), make_buffer(6)
    buffer.add(episode(0, [0] * 6))
    other.add(episode(10, [0, 0]))
    buffer.take_over(other.content())
    assert len(buffer) == 2
    assert drawn(buffer).keys() == {10, 11}
    buffer.add(episode(12, [0] * 5))
    assert len(buffer) == 6
    assert drawn(buffer).keys() == {11, 12, 13, 14, 15, 16}


def test_weights_and_n_step_are_those_of_the_moment() -> None:
    """The environment's reward, an arrival after three steps, a deadlock, potentials; the same of all others."""
    rows = episode(0, [0, 0], n_steps=np.array([4, 4]))
    rows.reward_parts[0] = [[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]]
    rows.part_steps[0] = [[0.0, 3.0, 0.0], [0.0, 1.0, 2.0]]
    rows.potentials[0] = [[-0.5, -0.25], [-1.0, 0.0]]
    rows.reward_parts[1] = 0.0
    buffer = make_buffer(2)
    buffer.add(rows)

    def first(n_step: int = 1, **weights: float) -> tuple[float, float]:
        batch = buffer.sample(40, replace(PLAIN, **weights), n_step)
        i = batch.observations[:, 0].tolist().index(0.0)
        return batch.rewards[i].item(), batch.discounts[i].item()

    assert first() == (1.0, 0.5**4)
    assert first(arrival_reward=8.0) == (1.0 + 8.0 / 8, 0.5**4)
    assert first(shaping=2.0) == (1.0 + 2 * (0.5 - 0.25 / 16), 0.5**4)
    assert first(arrival_reward=8.0, deadlock_penalty=3.0, gamma=1.0) == (9.0, 1.0)
    own, others = 1.0 + 1.0 + 0.5 - 0.25 / 16, 8.0 * 2 / 2 - 4.0 / 4 + 1.0
    assert first(arrival_reward=8.0, deadlock_penalty=4.0, shaping=1.0, team_reward=0.5) == (own + others / 2, 0.5**4)
    assert first(n_step=2) == (1.0, 0.0)
