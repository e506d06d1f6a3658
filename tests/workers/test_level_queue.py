"""Each level is handed out once, whoever asks and whatever gets lost on the way."""

from hypothesis import given
from hypothesis import strategies as st

from reinforcement_learning.workers.level_queue import LevelQueue


@given(st.integers(0, 60), st.integers(1, 5), st.data())
def test_each_level_is_finished_once(n_levels: int, n_players: int, data: st.DataObject) -> None:
    queue = LevelQueue(n_levels, n_players)
    open_levels: list[int] = []
    finished: list[int] = []
    while queue.n_left or open_levels:
        open_levels += queue.take(data.draw(st.integers(0, 9)) if open_levels else 1)
        n_over = data.draw(st.integers(0, len(open_levels)))
        over, open_levels = open_levels[:n_over], open_levels[n_over:]
        if data.draw(st.integers(0, 3)) == 0:
            queue.give_back(over)
        else:
            finished += over
    assert sorted(finished) == list(range(n_levels))
    assert queue.next_level == n_levels


def test_lost_levels_come_first_and_in_their_order() -> None:
    queue = LevelQueue(20, 1)
    assert queue.take(6) == [0, 1, 2, 3, 4, 5]
    queue.give_back([4, 5])
    queue.give_back([1, 2])
    assert queue.lost == [1, 2, 4, 5]
    assert queue.take(6) == [1, 2, 4, 5, 6, 7]


def test_nobody_takes_more_than_a_share_of_the_last_levels() -> None:
    queue = LevelQueue(10, 3)
    assert [queue.take(100) for _ in range(6)] == [[0, 1, 2, 3], [4, 5], [6, 7], [8], [9], []]


def test_resumed_with_fewer_episodes_than_were_begun() -> None:
    queue = LevelQueue(5, 1)
    queue.resume(9, [7, 3, 8, 2, 1, 0])
    assert queue.n_left == 2
    assert queue.take(9) == [0, 1]
