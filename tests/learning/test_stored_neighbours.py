"""Observations with neighbours: stored in parts and put together when drawn, they are those that trains decided by."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcement_learning.dddqn_policy import Batch
from reinforcement_learning.learning.replay_buffer import ReplayBuffer, ReplayBufferError, bytes_needed
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.playing.recorder import Decisions, Recorder
from reinforcement_learning.playing.rollout import Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from tests.helpers.playing import ListSink, RandomPolicy, all_transitions, play_out
from tests.helpers.rail_envs import sparse_env
from tests.helpers.rows import PLAIN
from tests.helpers.trainings import assert_same
from utils.observation.feature_sets import FeatureSet, get_feature_set
from utils.observation.neighbour_rows import NeighbourRows
from utils.observation.neighbours import N_RELATIONS
from utils.observation.observer import Observer
from utils.simulator.compiled_simulator import CompiledSimulator

FEATURES = FeatureSet("test", 1, max_depth=1, n_neighbours=2)
N_OWN, N_TRAINS = FEATURES.n_own_features, 4


def make_buffer(capacity: int, feature_set: FeatureSet = FEATURES) -> ReplayBuffer:
    return ReplayBuffer(capacity, feature_set, np.random.default_rng(0))


def observed(random: np.random.Generator, number: int) -> tuple[NeighbourRows, np.ndarray]:
    """What trains see in a step, and whether they decide; the first features are numbers that come once."""
    decides = random.random(N_TRAINS) < 0.5
    own = np.full((N_TRAINS, N_OWN), number, dtype=np.float32) + np.arange(N_TRAINS, dtype=np.float32)[:, np.newaxis]
    neighbours = np.full((N_TRAINS, 2), -1)
    for train in np.flatnonzero(decides):
        others = random.permutation([other for other in range(N_TRAINS) if other != train])
        n = random.integers(3)
        neighbours[train, :n] = others[:n]
    relations = np.where(neighbours[:, :, np.newaxis] >= 0, random.random((N_TRAINS, 2, N_RELATIONS)), 0.0)
    is_observed = decides.copy()
    is_observed[neighbours[neighbours >= 0]] = True
    own[~is_observed] = np.nan  # of another time
    return NeighbourRows(own, neighbours, relations.astype(np.float32), is_observed), decides


def whole(seen: NeighbourRows, train: int) -> np.ndarray:
    """The observation of a train."""
    of_neighbours = [
        [*relations, *(seen.own[other] if other >= 0 else np.zeros(N_OWN))]
        for other, relations in zip(seen.neighbours[train], seen.relations[train], strict=True)
    ]
    return np.concatenate([seen.own[train], *of_neighbours])


def episode(seed: int, n_steps: int, first: int = 0) -> tuple[EpisodeRows, EpisodeRows] | None:
    """The rows of an episode, and those with whole observations, one for each decision; None without decisions."""
    random = np.random.default_rng(seed)
    recorders = Recorder(1, N_TRAINS), Recorder(1, N_TRAINS)
    for recorder in recorders:
        recorder.begin(0, TrainSettings(policy_of_train=np.array([0, 1, 1, 2])), np.zeros(N_TRAINS))
    for step in range(n_steps):
        seen, decides = observed(random, first + N_TRAINS * step)
        trains = np.flatnonzero(decides)
        recorders[0].see(0, seen)
        observations = np.array([whole(seen, train) for train in trains], dtype=np.float32).reshape(
            len(trains), FEATURES.n_features
        )
        masks, actions = random.random((len(trains), 5)) < 0.5, random.integers(5, size=len(trains))
        masks[:, 0] = True
        parts = np.zeros((4, N_TRAINS))
        parts[0] = random.integers(5, size=N_TRAINS)
        for recorder in recorders:
            recorder.decide(Decisions(trains, observations, masks, actions, actions))
            recorder.reward(0, parts)
        seen.own[:] = np.nan  # the memory is used again
    joint, flat = (recorder.finish(0) for recorder in recorders)
    return None if joint is None or flat is None else (joint, flat)


def assert_same_transitions(joint: EpisodeRows, flat: EpisodeRows, n_step: int) -> None:
    found, wanted = all_transitions(joint, PLAIN, n_step), all_transitions(flat, PLAIN, n_step)
    for name, value in vars(wanted).items():
        assert torch.equal(getattr(found, name)[torch.from_numpy(joint.decided)], value[flat.decided]), name


class TestRows:
    @pytest.mark.parametrize("n_step", [1, 3])
    def test_of_real_episodes_give_the_transitions_that_were_seen(
        self, n_step: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two side by side. A recorder that is not told of neighbours keeps whole observations."""
        sinks = ListSink(), ListSink()
        feature_set = replace(get_feature_set("tree_routes"), n_neighbours=3)
        for sink in sinks:
            observer = Observer(feature_set, safe_moves=True)
            rollout = Rollout(observer, [RandomPolicy()], 6, n_slots=2, learning=Learning(sink))
            for slot in range(2):
                rollout.start(slot, CompiledSimulator.from_env(sparse_env(slot, 6, size=25)))
            play_out(rollout)
            monkeypatch.setattr(Recorder, "see", lambda *_: None)
        for joint, flat in zip(*(sink.received for sink in sinks), strict=True):
            assert flat.observations.shape == (joint.n_transitions, feature_set.n_features)
            assert joint.n_transitions > 30
            assert (joint.neighbours != 0).any()
            assert sum(array.nbytes for array in vars(joint).values()) < flat.observations.nbytes
            assert_same_transitions(joint, flat, n_step)

    @given(seed=st.integers(0, 10_000), n_steps=st.integers(1, 6), n_step=st.integers(1, 3), n=st.integers(1, 20))
    @settings(max_examples=60, deadline=None)
    def test_of_a_policy_and_of_parts_keep_what_they_look_at(
        self, seed: int, n_steps: int, n_step: int, n: int
    ) -> None:
        rows = episode(seed, n_steps)
        if rows is None:
            return
        assert_same_transitions(*rows, n_step)
        for policy in range(3):
            joint, flat = (each.of_policy(policy) for each in rows)
            assert (joint.policy_of_train[joint.decided] == policy).all()
            if not len(flat):
                assert not len(joint)
                continue
            assert_same_transitions(joint, flat, n_step)
            if n < len(flat):
                for of_joint, of_flat in zip(joint.cut(n, n_step), flat.cut(n, n_step), strict=True):
                    assert_same_transitions(of_joint, of_flat, n_step)

    def test_that_nobody_needs_are_not_kept(self) -> None:
        joint, _ = episode(1, 6) or pytest.fail("nobody decides")
        looked_at = (np.arange(len(joint))[:, np.newaxis] + joint.neighbours)[joint.decided]
        assert {*np.flatnonzero(joint.decided), *looked_at.ravel()} == set(range(len(joint)))
        own = joint.of_policy(0)
        assert len(own) < len(joint)
        assert not own.neighbours[~own.decided].any()


def add_episodes(
    buffers: list[ReplayBuffer], seeds: list[int], first: int = 0
) -> tuple[list[EpisodeRows], list[EpisodeRows]]:
    """Adds made-up episodes to buffers; returns them, and the same with whole observations."""
    added: tuple[list[EpisodeRows], list[EpisodeRows]] = [], []
    for k, seed in enumerate(seeds):
        rows = episode(seed, 1 + seed % 5, first=first + 100 * k)
        if rows is not None:
            for buffer in buffers:
                buffer.add(rows[0])
            for kind, of_kind in zip(added, rows, strict=True):
                kind.append(of_kind)
    return added


def by_number(batch: Batch) -> dict[int, tuple[bytes, ...]]:
    """Transitions by the first number that is seen where they begin."""
    found: dict[int, tuple[bytes, ...]] = {}
    for number, *values in zip(batch.observations[:, 0].int().tolist(), *vars(batch).values(), strict=True):
        of_number = tuple(value.numpy().tobytes() for value in values)
        assert found.setdefault(number, of_number) == of_number
    return found


def drawn(buffer: ReplayBuffer, n_step: int) -> dict[int, tuple[bytes, ...]]:
    return by_number(buffer.sample(20 * buffer.capacity, PLAIN, n_step)) if len(buffer) else {}


SEEDS = st.lists(st.integers(0, 10_000), min_size=1, max_size=5)


class TestReplayBuffer:
    @given(capacity=st.integers(1, 40), seeds=SEEDS, n_step=st.integers(1, 3))
    @settings(max_examples=60, deadline=None)
    def test_gives_what_was_seen_wherever_the_ring_begins(self, capacity: int, seeds: list[int], n_step: int) -> None:
        """All transitions whose neighbours are still there, and no others."""
        buffer = make_buffer(capacity)
        joint, flat = add_episodes([buffer], seeds)
        n_rows, there = sum(map(len, joint)), set()
        place = capacity - n_rows  # below 0: overwritten
        for rows in joint:
            for i in np.flatnonzero(rows.decided):
                if min(place + i, *(place + i + rows.neighbours[i])) >= 0:
                    there.add(int(rows.observations[i, 0]))
            place += len(rows)
        wanted = {k: v for rows in flat for k, v in by_number(all_transitions(rows, PLAIN, n_step)).items()}
        assert drawn(buffer, n_step) == {number: wanted[number] for number in there}
        assert len(buffer) == len(there)

    @given(capacity=st.integers(5, 40), again=st.integers(5, 40), seeds=SEEDS, later=SEEDS)
    @settings(max_examples=30, deadline=None)
    def test_that_is_restored_goes_on(
        self, tmp_path_factory: pytest.TempPathFactory, capacity: int, again: int, seeds: list[int], later: list[int]
    ) -> None:
        path = tmp_path_factory.mktemp("buffer") / "buffer.npz"
        original, restored, other = make_buffer(capacity), make_buffer(capacity), make_buffer(again)
        add_episodes([original], seeds)
        original.save(path)
        for buffer in (restored, other):
            buffer.restore(path)
        assert drawn(other, 2).items() <= drawn(original, 2).items()
        if again >= capacity:
            assert len(other) == len(original)
        add_episodes([original, restored, other], later, first=1000)
        assert_same(restored.rows(), original.rows())
        assert len(restored) == len(original)
        smaller, larger = sorted([original, other], key=lambda buffer: buffer.capacity)
        assert drawn(smaller, 2).items() <= drawn(larger, 2).items()

    def test_batches_on_a_device_are_those_of_the_cpu(self) -> None:
        """By the way of other devices."""
        here, there = make_buffer(30), make_buffer(30)
        mirror = there.mirror_on(torch.device("cpu"))
        for seeds in ([2, 3], [4], [5, 6, 7]):
            add_episodes([here, there], seeds)
            mirror.catch_up(there.n_rows_added)
            assert_same(vars(mirror.batch(there.draw(40, PLAIN, 2))), vars(here.sample(40, PLAIN, 2)))

    def test_memory_is_counted(self) -> None:
        buffer = make_buffer(20)
        add_episodes([buffer], [3, 4, 8, 9])
        assert bytes_needed(20, FEATURES) == sum(array.nbytes for array in buffer.rows().values())
        sees_five = replace(get_feature_set("tree_routes"), n_neighbours=5)
        assert bytes_needed(1, sees_five) < 1.3 * bytes_needed(1, get_feature_set("tree_routes"))


class TestRefusal:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        buffer = make_buffer(30)
        add_episodes([buffer], [3, 4, 8, 9])
        assert buffer.n_rows_added > 30
        buffer.save(tmp_path / "buffer.npz")
        return tmp_path / "buffer.npz"

    @pytest.mark.parametrize(("n_saved", "n_neighbours"), [(2, 0), (2, 3), (0, 2)])
    def test_of_other_neighbours(self, tmp_path: Path, n_saved: int, n_neighbours: int) -> None:
        make_buffer(3, replace(FEATURES, n_neighbours=n_saved)).save(tmp_path / "x.npz")
        words = f"x.npz holds observations with {n_saved} neighbours, but the networks of this run look at"
        with pytest.raises(ReplayBufferError, match=f"{words} {n_neighbours}.$"):
            make_buffer(3, replace(FEATURES, n_neighbours=n_neighbours)).restore(tmp_path / "x.npz")

    @pytest.mark.parametrize("name", ["neighbours", "relations"])
    def test_of_a_missing_field(self, path: Path, name: str) -> None:
        with np.load(path) as archive:
            arrays = dict(archive)
        del arrays[name]
        np.savez(path, **arrays)
        with pytest.raises(ReplayBufferError, match=f"lacks {name}.$"):
            make_buffer(30).restore(path)

    @pytest.mark.parametrize("age", [0, 29])
    @pytest.mark.parametrize("ahead", [-1, 1])
    def test_of_neighbours_that_are_not_there(self, path: Path, age: int, ahead: int) -> None:
        """Next to the oldest and to the newest row there is one on one side only."""
        with np.load(path) as archive:
            arrays = dict(archive)
        row = (int(arrays["n_rows_added"]) + age) % 30
        arrays["decided"][row] = True
        arrays["neighbours"][row] = ahead
        np.savez(path, **arrays)
        if 0 <= age + ahead < 30:
            make_buffer(30).restore(path)
            return
        with pytest.raises(ReplayBufferError, match="is damaged: neighbours are not among the rows"):
            make_buffer(30).restore(path)

    @pytest.mark.parametrize(("name", "number", "words"), [
        ("neighbours", 30, "are not all from -29 to 29"), ("relations", np.nan, "are not all finite")
    ])  # fmt: skip
    def test_of_numbers_that_cannot_be(self, path: Path, name: str, number: float, words: str) -> None:
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays[name][3] = number
        np.savez(path, **arrays)
        with pytest.raises(ReplayBufferError, match=f"is damaged: {name} {words}"):
            make_buffer(30).restore(path)
