"""Replay buffer: a ring of preallocated arrays. No Python object is touched when it is filled or sampled.

A row is a decision of a train. A transition is put together when it is drawn, from up to ``n_step`` rows of that train:
their rewards in parts, and the observation of the row behind them. So each observation is stored once, and changed
hyper-parameters hold for everything that is stored. Where trains see neighbours an observation, too, is put together
then: from its own row and from those that it looks at, some of which are stored for that only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

from reinforcement_learning.dddqn_policy import Batch
from reinforcement_learning.learning.device_mirror import DeviceMirror, Draw, draw_of
from reinforcement_learning.learning.neighbour_batches import SEEN, seen_at
from reinforcement_learning.learning.saved_replay_buffer import (
    ReplayBufferError,
    SavedReplayBuffer,
    read_saved,
    write_saved,
)
from reinforcement_learning.playing.episode_rows import LOST, NOTHING_FOLLOWS, EpisodeRows, layout_of
from reinforcement_learning.playing.reward_parts import rewards_of_intervals
from reinforcement_learning.playing.reward_shaping import RewardWeights
from utils.observation.feature_sets import FeatureSet

_MOST_DRAWS = 30  # of rows, before those at which a transition can be drawn are counted


@dataclass(frozen=True)
class _Drawn:
    """Where transitions are in the ring, ``[batch]``, and the rows on their way ``[up to n_step, batch]``."""

    rows: npt.NDArray[np.int64]  # where they begin
    on_the_way: npt.NDArray[np.int64]  # rows whose intervals a transition is made of
    counts: npt.NDArray[np.bool_]  # which of those it has; the rest is to be passed over
    ends: npt.NDArray[np.int64]  # the row at which it ends, or its last one where nothing follows
    follows: npt.NDArray[np.bool_]
    can_be_drawn: npt.NDArray[np.bool_]


class ReplayBuffer:
    """The newest ``capacity`` rows, at which transitions are sampled uniformly with replacement.

    Rows of an episode lie one behind the other, so those that follow a row are always overwritten later than it. Of the
    oldest step that is left some neighbours may be gone: no transition begins any more at rows that look at those.

    Args:
        capacity: bound on the number of rows, and so of transitions.
        feature_set: what the observations hold; a saved buffer of another one is refused.
        random: draws the samples; its state belongs to the checkpoint.

    Raises:
        ReplayBufferError: the system refuses that much memory.
    """

    def __init__(self, capacity: int, feature_set: FeatureSet, random: np.random.Generator) -> None:
        self.capacity = capacity
        self.feature_set = feature_set
        self.random = random
        self.n_added = 0  # transitions, over the whole life of the buffer
        self.n_rows_added = 0  # the same of rows; the place of the next one is n_rows_added % capacity
        self._n_transitions = 0  # in it now
        self._reach = 0  # by how many rows a neighbour lies before the row that looks at it, at most
        self._mirror: DeviceMirror | None = None
        needed = bytes_needed(capacity, feature_set)
        try:
            self._arrays: dict[str, npt.NDArray[Any]] = {
                name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in layout_of(feature_set).items()
            }
        except (MemoryError, ValueError) as error:  # numpy raises ValueError for sizes beyond any memory
            raise ReplayBufferError(
                f"A replay buffer of {capacity} transitions takes {needed / 1e9:.0f} GB, "
                "which this machine cannot provide."
            ) from error
        # the system maps zeros lazily; written once, they are ours from the start and a run's memory stays flat
        if needed < psutil.virtual_memory().available:
            for array in self._arrays.values():
                array.fill(0)

    def __len__(self) -> int:
        """How many transitions are in it."""
        return self._n_transitions

    @property
    def n_rows(self) -> int:
        """How many rows are in it."""
        return min(self.n_rows_added, self.capacity)

    @property
    def is_full(self) -> bool:
        """Whether rows that are added take the place of others."""
        return self.n_rows_added >= self.capacity

    def add(self, rows: EpisodeRows) -> None:
        """Appends rows; the oldest ones give way."""
        n = len(rows)
        kept = min(n, self.capacity)  # of more than a bufferful only the newest can stay
        places = (self.n_rows_added + np.arange(n - kept, n)) % self.capacity
        decided = self._arrays["decided"]
        self._n_transitions -= np.count_nonzero(decided[places])
        for name, array in self._arrays.items():
            array[places] = getattr(rows, name)[n - kept :]
        self._n_transitions += np.count_nonzero(decided[places])
        self.n_rows_added += n
        self.n_added += rows.n_transitions
        self._reach = max(self._reach, -int(rows.neighbours.min(initial=0)))
        self._leave_out_torn()

    def _leave_out_torn(self) -> None:
        """No transition begins at the oldest rows whose neighbours are overwritten; none ends there either."""
        if not self._reach or self.n_rows_added <= self.capacity:
            return
        age = np.arange(min(self._reach, self.capacity))
        places = (self.n_rows_added + age) % self.capacity
        torn = places[age + self._arrays["neighbours"][places].min(axis=1) < 0]
        self._n_transitions -= np.count_nonzero(self._arrays["decided"][torn])
        self._arrays["decided"][torn] = False

    def rows(self) -> dict[str, npt.NDArray[Any]]:
        """The rows, field by field, in the order of their places; they change when others are added."""
        return {name: array[: self.n_rows] for name, array in self._arrays.items()}

    def sample(self, batch_size: int, weights: RewardWeights, n_step: int) -> Batch:
        """A batch on the CPU, drawn uniformly with replacement.

        Where nothing follows a transition the discount is 0, and the next observation is any.

        Args:
            batch_size: how many transitions.
            weights: what their rewards are made of.
            n_step: decisions between an observation and the next one, at most.

        Raises:
            ReplayBufferError: the buffer is empty.
        """
        draw = self.draw(batch_size, weights, n_step)
        first, last = (seen_at(rows, self._arrays) for rows in draw.whole[2:].numpy())
        return draw.batch(first, last)

    def draw(self, batch_size: int, weights: RewardWeights, n_step: int) -> Draw:
        """The same without observations and action masks, which are told by their rows."""
        drawn = self._draw(batch_size, n_step)
        rewards, discounts = self._returns(drawn, weights)
        actions, shown = (self._arrays[name][drawn.rows].astype(np.int64) for name in ("actions", "shown"))
        return draw_of([actions, shown, drawn.rows, drawn.ends], [rewards, discounts])

    def _draw(self, batch_size: int, n_step: int) -> _Drawn:
        """Transitions, each as likely as any other that can be drawn."""
        rows = np.zeros(batch_size, dtype=np.int64)
        missing = np.arange(batch_size)
        for _ in range(_MOST_DRAWS if self._n_transitions else 0):
            rows[missing] = self.random.integers(self.n_rows, size=len(missing))
            drawn = self._follow(rows, n_step)
            missing = np.flatnonzero(~drawn.can_be_drawn)
            if not len(missing):
                return drawn
        able = np.flatnonzero(self._follow(np.arange(self.n_rows), n_step).can_be_drawn)
        if not len(able):
            raise ReplayBufferError("The replay buffer is empty: add transitions before sampling.")
        rows[missing] = able[self.random.integers(len(able), size=len(missing))]
        return self._follow(rows, n_step)

    def _follow(self, rows: npt.NDArray[np.int64], n_step: int) -> _Drawn:
        """The ways of transitions that begin at ``rows``, decision by decision."""
        next_row = self._arrays["next_row"]
        current, follows = rows, np.ones(len(rows), dtype=bool)
        can_be_drawn = self._arrays["decided"][rows]
        on_the_way: list[npt.NDArray[np.int64]] = []
        counts: list[npt.NDArray[np.bool_]] = []
        while len(on_the_way) < n_step and follows.any():
            on_the_way.append(current)
            counts.append(follows)
            ahead = next_row[current]
            can_be_drawn = can_be_drawn & ~(follows & (ahead == LOST))
            follows = follows & (ahead > NOTHING_FOLLOWS)
            current = np.where(follows, current + ahead, current) % self.capacity
        return _Drawn(rows, np.array(on_the_way), np.array(counts), current, follows, can_be_drawn)

    def _returns(
        self, drawn: _Drawn, weights: RewardWeights
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Rewards and discounts of transitions, ``[batch]`` each."""
        n_steps, *parts = (
            self._arrays[name][drawn.on_the_way] for name in ("n_steps", "reward_parts", "part_steps", "potentials")
        )
        rewards = rewards_of_intervals(weights, n_steps, *parts)
        n_steps = np.where(drawn.counts, n_steps, 0)
        until = np.cumsum(n_steps, axis=0)
        rewards *= np.where(drawn.counts, weights.gamma ** (until - n_steps), 0.0)
        return rewards.sum(axis=0), np.where(drawn.follows, weights.gamma ** until[-1], 0.0)

    def mirror_on(self, device: torch.device) -> DeviceMirror:
        """Its copy on a device, the only one that there is.

        Raises:
            ReplayBufferError: it does not fit there.
        """
        if self._mirror is None or self._mirror.device != device:
            arrays = {name: self._arrays[name] for name in SEEN if name in self._arrays}
            try:
                self._mirror = DeviceMirror(arrays, device)
            except torch.OutOfMemoryError as error:
                needed = sum(array.nbytes for array in arrays.values())
                raise ReplayBufferError(
                    f"A replay buffer of {self.capacity} transitions takes {needed / 1e9:.1f} GB on {device}, which it "
                    "does not have: choose a smaller --buffer_size."
                ) from error
        return self._mirror

    def save(self, path: str | Path) -> None:
        """Writes plain arrays (.npz) in one atomic step.

        Raises:
            OSError: the file cannot be written; one that was there before is unharmed.
        """
        write_saved(path, self.feature_set, self.content())

    def content(self) -> SavedReplayBuffer:
        """All that is in it; it changes when others are added."""
        return SavedReplayBuffer(self.capacity, self.n_added, self.n_rows_added, self.rows())

    def restore(self, path: str | Path) -> None:
        """Takes over a saved buffer; of more than ``capacity`` rows the newest stay.

        Raises:
            ReplayBufferError: the file is missing, damaged, or holds other observations; nothing was changed.
        """
        self.take_over(read_saved(Path(path), self.feature_set))

    def take_over(self, saved: SavedReplayBuffer) -> None:
        """Holds a copy of another buffer's content from now on; of more than ``capacity`` rows the newest."""
        if self._mirror is not None:
            self._mirror.forget()
        size = len(saved.rows["actions"])
        self._arrays["decided"].fill(False)  # nothing begins at a row that is not there any more
        self.n_added = self.n_rows_added = self._n_transitions = self._reach = 0
        if saved.capacity == self.capacity:
            for name, array in self._arrays.items():
                array[:size] = saved.rows[name]
            self.n_added, self.n_rows_added = saved.n_added, saved.n_rows_added
            self._n_transitions = np.count_nonzero(self._arrays["decided"])
            if "neighbours" in saved.rows:
                self._reach = -int(saved.rows["neighbours"].min(initial=0))
            return
        oldest_first = (saved.oldest + np.arange(size)) % max(size, 1)
        rows = {name: saved.rows[name][oldest_first] for name in self._arrays}
        self.add(EpisodeRows.of(rows, np.zeros(size, dtype=np.int64)))


def bytes_needed(capacity: int, feature_set: FeatureSet) -> int:
    """Memory of a full buffer, and about its size on the disk, in bytes."""
    return capacity * sum(
        int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        for shape, dtype in layout_of(feature_set).values()
    )
