"""The replay buffer: a bounded ring, and files that are read without running code."""

import io
import math
import os
import pickle
import resource
import signal
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.learning.replay_buffer import ReplayBuffer, ReplayBufferError, bytes_needed
from reinforcement_learning.playing.episode_rows import EpisodeRows
from tests.helpers.rows import PLAIN, made_up_rows
from utils.observation.feature_sets import FeatureSet

FEATURES = FeatureSet("test", 1, max_depth=1)
N = FEATURES.n_features
FLOATS = ("observations", "reward_parts", "part_steps", "potentials")


def numbered(first: int, count: int) -> EpisodeRows:
    """Decisions of one train; every field tells which one it is, as far as it can."""
    ids = np.arange(first, first + count)
    return made_up_rows(
        count,
        N,
        rewards=-ids,
        observations=np.repeat(ids[:, None], N, axis=1),
        action_masks=masks_of(ids),
        actions=ids % 5,
        shown=ids % 6 - 1,
        next_row=ids < first + count - 1,
        n_steps=ids % 7 + 1,
    )


def masks_of(ids: np.ndarray) -> np.ndarray:
    """Some of five actions, at least one."""
    return ((ids[:, None] % 31 + 1) >> np.arange(5)) % 2 == 1


def make_buffer(capacity: int, seed: int = 0, feature_set: FeatureSet = FEATURES) -> ReplayBuffer:
    return ReplayBuffer(capacity, feature_set, np.random.default_rng(seed))


def ids_by_place(buffer: ReplayBuffer) -> list[int]:
    return (-buffer.rows()["reward_parts"][:, 0, 0]).astype(int).tolist()


def ids_in(buffer: ReplayBuffer) -> set[int]:
    """Which transitions a buffer can give, by asking it; every field must belong to the same one."""
    batch = buffer.sample(40 * len(buffer) + 40, PLAIN, 1)
    ids = (-batch.rewards).long()
    follows = batch.discounts > 0
    assert batch.observations.equal(ids.float().unsqueeze(1).expand(-1, N))
    assert batch.next_observations[follows].equal((ids[follows] + 1.0).unsqueeze(1).expand(-1, N))
    assert batch.actions.equal(ids % 5)
    assert batch.shown.equal(ids % 6 - 1)
    assert batch.discounts[follows].equal(0.5 ** (ids[follows] % 7 + 1.0))
    assert batch.action_masks.numpy().tolist() == masks_of(ids.numpy()).tolist()
    assert batch.next_action_masks[follows].numpy().tolist() == masks_of(ids[follows].numpy() + 1).tolist()
    return set(ids.tolist())


@given(capacity=st.integers(1, 12), sizes=st.lists(st.integers(0, 30), max_size=12))
@settings(max_examples=60, deadline=None)
def test_ring_holds_the_newest_transitions(capacity: int, sizes: list[int]) -> None:
    buffer, model, added = make_buffer(capacity), deque[int](maxlen=capacity), 0
    for size in sizes:
        buffer.add(numbered(added, size))
        model.extend(range(added, added + size))
        added += size
        assert len(buffer) == len(model) <= capacity
        assert buffer.n_added == added
        assert sorted(ids_by_place(buffer)) == list(model)
    if model:
        assert ids_in(buffer) <= set(model)


def test_sample_reaches_every_transition_and_no_other() -> None:
    buffer = make_buffer(8)
    buffer.add(numbered(1, 3))  # 0 would be an empty place
    assert ids_in(buffer) == {1, 2, 3}
    buffer.add(numbered(4, 9))
    assert ids_in(buffer) == set(range(5, 13))


def test_samples_follow_the_random_state() -> None:
    first, second = make_buffer(50, seed=1), make_buffer(50, seed=1)
    for buffer in (first, second):
        buffer.add(numbered(0, 50))
    assert first.sample(20, PLAIN, 3).actions.equal(second.sample(20, PLAIN, 3).actions)
    assert not first.sample(20, PLAIN, 3).actions.equal(make_filled(seed=2).sample(20, PLAIN, 3).actions)


def make_filled(seed: int) -> ReplayBuffer:
    buffer = make_buffer(50, seed)
    buffer.add(numbered(0, 50))
    return buffer


def test_sample_is_a_copy() -> None:
    buffer = make_buffer(4)
    buffer.add(numbered(0, 4))
    buffer.sample(8, PLAIN, 1).observations.fill_(99)
    assert ids_in(buffer) == {0, 1, 2, 3}


def test_empty_buffer_cannot_be_sampled() -> None:
    with pytest.raises(ReplayBufferError, match="empty"):
        make_buffer(4).sample(1, PLAIN, 1)


def test_impossible_size_is_a_sentence() -> None:
    with pytest.raises(ReplayBufferError, match="GB"):
        make_buffer(10**15)


def test_bytes_needed_is_what_the_arrays_take() -> None:
    buffer = make_buffer(100)
    buffer.add(numbered(0, 100))
    assert bytes_needed(100, FEATURES) == sum(array.nbytes for array in buffer.rows().values())


class TestSaveAndRestore:
    @given(n_added=st.integers(1, 25), later=st.integers(0, 12))
    @settings(max_examples=30, deadline=None)
    def test_round_trip_goes_on_in_the_same_place(
        self, tmp_path_factory: pytest.TempPathFactory, n_added: int, later: int
    ) -> None:
        path = tmp_path_factory.mktemp("buffer") / "buffer.npz"
        original, restored = make_buffer(10), make_buffer(10)
        original.add(numbered(0, n_added))
        original.save(path)
        restored.add(numbered(500, 7))  # is to be forgotten
        restored.restore(path)
        for buffer in (original, restored):
            buffer.add(numbered(n_added, later))
        assert (len(restored), restored.n_added) == (len(original), original.n_added)
        assert ids_by_place(restored) == ids_by_place(original)
        assert ids_in(restored) <= set(ids_by_place(original))

    @given(n_added=st.integers(1, 25), saved_capacity=st.integers(1, 12), capacity=st.integers(1, 12))
    @settings(max_examples=40, deadline=None)
    def test_another_capacity_keeps_its_bound_and_the_newest(
        self, tmp_path_factory: pytest.TempPathFactory, n_added: int, saved_capacity: int, capacity: int
    ) -> None:
        path = tmp_path_factory.mktemp("buffer") / "buffer.npz"
        saved, restored = make_buffer(saved_capacity), make_buffer(capacity)
        saved.add(numbered(0, n_added))
        saved.save(path)
        restored.restore(path)
        kept = min(n_added, saved_capacity, capacity)
        assert sorted(ids_by_place(restored)) == list(range(n_added - kept, n_added))
        # what comes now pushes out the oldest
        restored.add(numbered(n_added, 1))
        kept = min(kept + 1, capacity)
        assert sorted(ids_by_place(restored)) == list(range(n_added + 1 - kept, n_added + 1))

    def test_saved_file_holds_no_more_than_was_added(self, tmp_path: Path) -> None:
        buffer = make_buffer(100_000)
        buffer.add(numbered(0, 3))
        buffer.save(tmp_path / "buffer.npz")
        assert (tmp_path / "buffer.npz").stat().st_size < 20_000


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return open, (str(self.path), "w")


def saved_arrays(path: Path) -> dict[str, Any]:
    buffer = make_buffer(10)
    buffer.add(numbered(0, 14))
    buffer.save(path)
    with np.load(path) as archive:
        return dict(archive)


class TestRefusal:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "buffer.npz"

    def refused(self, path: Path, match: str, feature_set: FeatureSet = FEATURES) -> None:
        """Restoring raises one line, and the buffer stays as it was."""
        buffer = make_buffer(10, feature_set=feature_set)
        with pytest.raises(ReplayBufferError, match=match) as error_info:
            buffer.restore(path)
        assert "\n" not in str(error_info.value)
        sentence = str(error_info.value)
        assert str(path) in sentence
        assert "pickle" not in sentence.replace(str(path), "")  # no word on how to open it unsafely
        assert (len(buffer), buffer.n_added) == (0, 0)

    def test_missing_file(self, path: Path) -> None:
        self.refused(path, "does not exist")

    @pytest.mark.parametrize("feature_set", [FeatureSet("other", 1, max_depth=1), FeatureSet("test", 2, max_depth=1)])
    def test_another_feature_set_names_both(self, path: Path, feature_set: FeatureSet) -> None:
        saved_arrays(path)
        names = f"test version 1.*{feature_set.name} version {feature_set.version}"
        self.refused(path, names, feature_set)

    def test_another_number_of_features(self, path: Path) -> None:
        saved_arrays(path)
        self.refused(path, "observations of shape", FeatureSet("test", 1, max_depth=2))

    @pytest.mark.parametrize("name", ["observations", "actions", "next_row", "action_masks"])
    def test_another_dtype(self, path: Path, name: str) -> None:
        arrays = saved_arrays(path)
        np.savez(path, **{**arrays, name: arrays[name].astype(np.float16)})
        self.refused(path, f"{name} .*float16")

    def test_another_format(self, path: Path) -> None:
        np.savez(path, **{**saved_arrays(path), "format_version": 99})
        self.refused(path, "format 99")

    def test_the_format_of_before_which_had_transitions(self, path: Path) -> None:
        arrays = saved_arrays(path)
        for name in ("reward_parts", "part_steps", "potentials", "next_row", "n_steps", "shown", "n_rows_added"):
            del arrays[name]
        np.savez(path, **arrays | {"format_version": 2, "rewards": np.zeros(10, np.float32)})
        self.refused(path, "has replay buffer format 2, but this version reads 3")

    @pytest.mark.parametrize(("place", "ahead"), [(3, 0), (2, 1), (9, 4), (4, 9)])
    def test_next_row_past_the_newest(self, path: Path, place: int, ahead: int) -> None:
        """The newest of the ten rows is in place 3, the oldest in place 4."""
        arrays = saved_arrays(path)
        arrays["next_row"][place] = ahead
        np.savez(path, **arrays)
        make_buffer(10).restore(path)
        if ahead < 9:
            arrays["next_row"][place] = ahead + 1
            np.savez(path, **arrays)
            self.refused(path, "is damaged: next_row leads past the newest row")

    @pytest.mark.parametrize(
        "name", ["reward_parts", "next_row", "n_added", "n_rows_added", "feature_set", "format_version"]
    )
    def test_missing_field(self, path: Path, name: str) -> None:
        arrays = saved_arrays(path)
        del arrays[name]
        np.savez(path, **arrays)
        self.refused(path, f"lacks {name}")

    @pytest.mark.parametrize(
        "counts",
        [
            {"capacity": 5},
            {"n_added": 9},
            {"n_added": -1},
            {"n_added": 15},
            {"n_rows_added": 3},
            {"capacity": [10, 10]},
        ],
    )
    def test_counts_that_do_not_fit(self, path: Path, counts: dict[str, Any]) -> None:
        np.savez(path, **{**saved_arrays(path), **counts})
        self.refused(path, "damaged|not a saved")

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
    def test_half_a_file(self, path: Path, share: float) -> None:
        saved_arrays(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        self.refused(path, "damaged")

    def test_flipped_bits(self, path: Path) -> None:
        saved_arrays(path)
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 0xFF
        path.write_bytes(content)
        self.refused(path, "damaged|not a saved")

    @pytest.mark.parametrize("content", [b"rubbish" * 100, b"\x93NUMPY", b"PK\x03\x04 not really"])
    def test_rubbish(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.refused(path, "not a saved")

    def test_single_array(self, path: Path) -> None:
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
        self.refused(path, "not a saved")

    def test_folder(self, path: Path) -> None:
        path.mkdir()
        self.refused(path, "is a folder")

    def test_pipe_is_not_waited_for(self, path: Path) -> None:
        os.mkfifo(path)
        self.refused(path, "is no regular file")

    def test_file_that_unpacks_to_more_than_its_size(self, path: Path) -> None:
        np.savez_compressed(path, **{**saved_arrays(path), "observations": np.zeros((10, N), np.float32)})
        self.refused(path, "is compressed")

    @pytest.mark.parametrize(
        ("name", "number", "words"),
        [
            *((name, math.nan, "are not all finite") for name in FLOATS),
            *((name, math.inf, "are not all finite") for name in FLOATS),
            ("actions", 77, "are not all from 0 to 4"),
            ("actions", -9, "are not all from 0 to 4"),
            ("shown", 5, "are not all from -1 to 4"),
            ("shown", -2, "are not all from -1 to 4"),
            ("next_row", -2, "are not all from -1 to 9"),
            ("next_row", 10, "are not all from -1 to 9"),
            ("n_steps", 0, "are not all from 1 to"),
            ("part_steps", -1, "are not all from 0 to"),
            ("action_masks", False, "leave some train no action"),
        ],
    )
    def test_numbers_that_nobody_can_learn_from(self, path: Path, name: str, number: float, words: str) -> None:
        arrays = saved_arrays(path)
        arrays[name][3] = number
        np.savez(path, **arrays)
        self.refused(path, f"is damaged: {name} {words}")

    @pytest.mark.parametrize("value", [np.array("many"), np.array(10 + 1j), np.array(10.0), np.array("2020", "M8[D]")])
    @pytest.mark.parametrize("name", ["capacity", "n_added", "n_rows_added", "format_version", "feature_set_version"])
    def test_header_of_another_type(self, path: Path, name: str, value: np.ndarray) -> None:
        np.savez(path, **{**saved_arrays(path), name: value})
        self.refused(path, f"{name} is of another type")

    def test_name_that_is_no_text(self, path: Path) -> None:
        np.savez(path, **{**saved_arrays(path), "feature_set": 3})
        self.refused(path, "feature_set is of another type")

    def test_pickle_is_never_opened(self, path: Path, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        path.write_bytes(pickle.dumps(Bomb(trace)))
        self.refused(path, "not a saved")
        assert not trace.exists()

    def test_object_array_is_never_opened(self, path: Path, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        np.savez(path, **{**saved_arrays(path), "actions": np.array([Bomb(trace)] * 10, dtype=object)})
        with zipfile.ZipFile(path) as archive:  # the trap works: numpy would step into it
            np.load(io.BytesIO(archive.read("actions.npy")), allow_pickle=True)[0].close()
        trace.unlink()
        self.refused(path, "not a saved")
        assert not trace.exists()


@contextmanager
def files_no_larger_than(n_bytes: int) -> Iterator[None]:
    """As on a full disk, writing beyond ``n_bytes`` raises OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "buffer.npz"
    buffer = make_buffer(1000)
    buffer.add(numbered(0, 10))
    buffer.save(path)
    buffer.add(numbered(10, 900))
    with files_no_larger_than(50_000), pytest.raises(OSError, match="File too large"):
        buffer.save(path)
    assert os.listdir(tmp_path) == ["buffer.npz"]
    restored = make_buffer(1000)
    restored.restore(path)
    assert ids_by_place(restored) == list(range(10))
