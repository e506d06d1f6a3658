"""Replay buffer: a ring of preallocated arrays. No Python object is touched when it is filled or sampled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from reinforcement_learning.dddqn_policy import Batch
from reinforcement_learning.learning.saved_replay_buffer import (
    ReplayBufferError,
    SavedReplayBuffer,
    read_saved,
    row_layout,
    write_saved,
)
from reinforcement_learning.playing.transitions import Transitions
from utils.observation.feature_sets import FeatureSet


class DeviceMirror:
    """A copy of a replay buffer's arrays on the learner's device, so that a GPU need not wait for its batches.

    A batch is then a list of row numbers that goes to the device. Rows that were added since the last batch go there
    first: once, not each time that they are drawn. With pinned memory the device computes meanwhile.

    Args:
        arrays: all of the same length, on the CPU; they are not copied before they are asked for.
        device: where the copy lives; it takes as much memory as the arrays.

    Raises:
        torch.OutOfMemoryError: the device has too little memory.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], device: torch.device) -> None:
        self.device = device
        self._arrays = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self._copies = {name: torch.empty_like(array, device=device) for name, array in self._arrays.items()}
        self._n_copied = 0  # of all rows that were ever added

    def rows(self, numbers: npt.NDArray[Any], n_added: int) -> dict[str, Tensor]:
        """The rows of those numbers, on the device, when ``n_added`` rows were ever added to the ring."""
        self._catch_up(n_added)
        index = self._sent(torch.from_numpy(numbers))
        return {name: copy.index_select(0, index) for name, copy in self._copies.items()}

    def _catch_up(self, n_added: int) -> None:
        for name, array in self._arrays.items():
            capacity = len(array)
            first = max(self._n_copied, n_added - capacity)
            while first < n_added:
                start = first % capacity
                end = min(capacity, start + n_added - first)
                self._copies[name][start:end] = self._sent(array[start:end])
                first += end - start
        self._n_copied = n_added

    def _sent(self, tensor: Tensor) -> Tensor:
        """A tensor on the device; nobody waits for it, except on a device that has no queue of its own."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


class ReplayBuffer:
    """The newest ``capacity`` transitions, sampled uniformly with replacement.

    Args:
        capacity: bound on the number of transitions.
        feature_set: what the observations hold; a saved buffer of another one is refused.
        random: draws the samples; its state belongs to the checkpoint.

    Raises:
        ReplayBufferError: the system refuses that much memory.
    """

    def __init__(self, capacity: int, feature_set: FeatureSet, random: np.random.Generator) -> None:
        self.capacity = capacity
        self.feature_set = feature_set
        self.random = random
        self.size = 0
        self.n_added = 0  # over the whole life of the buffer; the place of the next one is n_added % capacity
        self._mirror: DeviceMirror | None = None
        needed = bytes_needed(capacity, feature_set.n_features)
        try:
            self._arrays: dict[str, npt.NDArray[Any]] = {
                name: np.zeros((capacity, *shape), dtype)
                for name, (shape, dtype) in row_layout(feature_set.n_features).items()
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
        return self.size

    def add(self, transitions: Transitions) -> None:
        """Appends transitions; the oldest ones give way."""
        n = len(transitions.actions)
        kept = min(n, self.capacity)  # of more than a bufferful only the newest can stay
        places = (self.n_added + np.arange(n - kept, n)) % self.capacity
        for name, array in self._arrays.items():
            array[places] = getattr(transitions, name)[n - kept :]
        self.n_added += n
        self.size = min(self.size + n, self.capacity)

    def rows(self) -> dict[str, npt.NDArray[Any]]:
        """The transitions, field by field, in the order of their places; they change when others are added."""
        return {name: array[: self.size] for name, array in self._arrays.items()}

    def sample(self, batch_size: int, device: torch.device | str = "cpu") -> Batch:
        """A batch drawn uniformly with replacement. On another device than the CPU a copy of the buffer is kept.

        Raises:
            ReplayBufferError: the buffer is empty, or does not fit onto the device.
        """
        if self.size == 0:
            raise ReplayBufferError("The replay buffer is empty: add transitions before sampling.")
        rows = self.random.integers(self.size, size=batch_size)
        device = torch.device(device)
        if device.type != "cpu":
            return Batch(**self._mirror_on(device).rows(rows, self.n_added))
        return Batch(**{name: torch.from_numpy(array[rows]) for name, array in self._arrays.items()})

    def _mirror_on(self, device: torch.device) -> DeviceMirror:
        if self._mirror is None or self._mirror.device != device:
            try:
                self._mirror = DeviceMirror(self._arrays, device)
            except torch.OutOfMemoryError as error:
                needed = bytes_needed(self.capacity, self.feature_set.n_features)
                raise ReplayBufferError(
                    f"A replay buffer of {self.capacity} transitions takes {needed / 1e9:.1f} GB, which {device} does "
                    "not have: choose a smaller --buffer_size."
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
        return SavedReplayBuffer(self.capacity, self.n_added, self.rows())

    def restore(self, path: str | Path) -> None:
        """Takes over a saved buffer; of more than ``capacity`` transitions the newest stay.

        Raises:
            ReplayBufferError: the file is missing, damaged, or holds other observations; nothing was changed.
        """
        self.take_over(read_saved(Path(path), self.feature_set))

    def take_over(self, saved: SavedReplayBuffer) -> None:
        """Holds a copy of another buffer's content from now on; of more than ``capacity`` transitions the newest."""
        self._mirror = None
        size = len(saved.rows["actions"])
        if saved.capacity == self.capacity:
            for name, array in self._arrays.items():
                array[:size] = saved.rows[name]
            self.size, self.n_added = size, saved.n_added
            return
        self.size = self.n_added = 0
        oldest_first = (saved.n_added + np.arange(size)) % size if size == saved.capacity else np.arange(size)
        rows = {name: saved.rows[name][oldest_first] for name in self._arrays}
        self.add(Transitions(**rows, policy_of_train=np.zeros(size, dtype=np.int64)))


def bytes_needed(capacity: int, n_features: int) -> int:
    """Memory of a full buffer, and about its size on the disk, in bytes."""
    return capacity * sum(
        int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        for shape, dtype in row_layout(n_features).values()
    )
