"""A replay buffer's copy on another device; on machines without one, on the CPU by the same way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.learning.device_mirror import empty_draw
from reinforcement_learning.learning.replay_buffer import ReplayBuffer, ReplayBufferError
from tests.helpers.rows import PLAIN
from tests.helpers.trainings import assert_same
from tests.learning.test_replay_buffer import make_buffer, numbered

CPU = torch.device("cpu")


def rows_on_cpu(buffer: ReplayBuffer, numbers: np.ndarray) -> dict[str, torch.Tensor]:
    """By the way of other devices, which ``sample`` does not take."""
    mirror = buffer.mirror_on(CPU)
    mirror.catch_up(buffer.n_rows_added)
    draw = empty_draw(len(numbers), CPU)
    draw.whole[2:] = torch.from_numpy(numbers)
    batch = mirror.batch(draw)
    assert torch.equal(batch.observations, batch.next_observations)
    return {"observations": batch.observations, "action_masks": batch.action_masks}


def assert_mirrored(buffer: ReplayBuffer) -> None:
    mirrored = rows_on_cpu(buffer, np.arange(buffer.n_rows))
    for name, copy in mirrored.items():
        assert torch.equal(copy, torch.from_numpy(buffer.rows()[name])), name


@given(capacity=st.integers(1, 12), sizes=st.lists(st.integers(0, 30), max_size=12), asked=st.sets(st.integers(0, 11)))
@settings(max_examples=60, deadline=None)
def test_holds_what_the_buffer_holds(capacity: int, sizes: list[int], asked: set[int]) -> None:
    """However often it is asked between the additions."""
    buffer, added = make_buffer(capacity), 0
    for turn, size in enumerate(sizes):
        buffer.add(numbered(added, size))
        added += size
        if turn in asked:
            assert_mirrored(buffer)
    assert_mirrored(buffer)


def test_rows_are_in_the_order_that_was_asked_for() -> None:
    buffer = make_buffer(6)
    buffer.add(numbered(0, 8))
    rows = rows_on_cpu(buffer, np.array([3, 0, 3]))
    assert rows["observations"][:, 0].tolist() == [3, 6, 3]


def test_batches_are_those_of_the_cpu() -> None:
    first, second, added = make_buffer(50), make_buffer(50), 0
    for size in (20, 1, 0, 45, 200, 7):
        for buffer in (first, second):
            buffer.add(numbered(added, size))
        added += size
        mirror = second.mirror_on(CPU)
        mirror.catch_up(second.n_rows_added)
        assert_same(vars(mirror.batch(second.draw(40, PLAIN, 3))), vars(first.sample(40, PLAIN, 3)))


@pytest.mark.parametrize("capacity", [6, 4])
def test_restored_buffer_is_mirrored_anew(tmp_path: Path, capacity: int) -> None:
    """Also where as many were added to it as to the one before."""
    saved, buffer = make_buffer(6), make_buffer(capacity)
    saved.add(numbered(100, 7))
    saved.save(tmp_path / "buffer.npz")
    buffer.add(numbered(0, 7))
    assert_mirrored(buffer)
    buffer.restore(tmp_path / "buffer.npz")
    assert_mirrored(buffer)


def test_device_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    buffer = make_buffer(6)
    buffer.add(numbered(0, 3))
    monkeypatch.setattr(torch, "zeros_like", refuse)
    with pytest.raises(ReplayBufferError, match=r"6 transitions takes .* choose a smaller --buffer_size"):
        buffer.mirror_on(torch.device("cuda"))
