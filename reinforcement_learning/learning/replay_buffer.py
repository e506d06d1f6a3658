"""Replay buffer: a ring of preallocated arrays. No Python object is touched when it is filled or sampled."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from reinforcement_learning.dddqn_policy import Batch
from reinforcement_learning.playing.transitions import Transitions
from utils.observation.feature_sets import FeatureSet
from utils.simulator.rail_grid import N_ACTIONS
from utils.system.files import atomic_write

FORMAT_VERSION = 1


class ReplayBufferError(ValueError):
    """A saved replay buffer cannot be used; the message is one sentence."""


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
                for name, (shape, dtype) in _row_layout(feature_set.n_features).items()
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
        header = {
            "format_version": FORMAT_VERSION,
            "feature_set": self.feature_set.name,
            "feature_set_version": self.feature_set.version,
            "capacity": self.capacity,
            "n_added": self.n_added,
        }
        if more := self.feature_set.more:
            header["more_features"] = f"{more.name} version {more.version}"
        # what np.savez does, which on a full disk would leave its archive open to complain later
        with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, value in (header | self.rows()).items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(value), allow_pickle=False)

    def restore(self, path: str | Path) -> None:
        """Takes over a saved buffer; of more than ``capacity`` transitions the newest stay.

        Raises:
            ReplayBufferError: the file is missing, damaged, or holds other observations; nothing was changed.
        """
        saved = _read_arrays(Path(path))
        self._check(path, saved)
        self._mirror = None
        size = len(saved["actions"])
        n_added, saved_capacity = int(saved["n_added"]), int(saved["capacity"])
        if saved_capacity == self.capacity:
            for name, array in self._arrays.items():
                array[:size] = saved[name]
            self.size, self.n_added = size, n_added
            return
        self.size = self.n_added = 0
        oldest_first = (n_added + np.arange(size)) % size if size == saved_capacity else np.arange(size)
        rows = {name: saved[name][oldest_first] for name in self._arrays}
        self.add(Transitions(**rows, policy_of_train=np.zeros(size, dtype=np.int64)))

    def _check(self, path: str | Path, saved: dict[str, npt.NDArray[Any]]) -> None:
        header = {"format_version", "feature_set", "feature_set_version", "capacity", "n_added"}
        missing = (header | set(self._arrays)) - set(saved)
        if missing:
            raise ReplayBufferError(f"{path} is not a saved replay buffer: it lacks {', '.join(sorted(missing))}.")
        if any(saved[name].ndim != 0 for name in header) or saved["actions"].ndim != 1:
            raise ReplayBufferError(f"{path} is not a saved replay buffer: its arrays have other shapes.")
        if saved["format_version"] != FORMAT_VERSION:
            raise ReplayBufferError(
                f"{path} has replay buffer format {saved['format_version']}, but this version reads {FORMAT_VERSION}."
            )
        found = f"{saved['feature_set']} version {saved['feature_set_version']}"
        found += f" with {saved['more_features']}" if "more_features" in saved else ""
        if found != self.feature_set.label:
            raise ReplayBufferError(
                f"{path} holds observations of feature set {found}, but this run uses {self.feature_set.label}."
            )
        size = len(saved["actions"])
        for name, array in self._arrays.items():
            shape, dtype = saved[name].shape, saved[name].dtype
            wanted_shape = (size, *array.shape[1:])
            if (shape, dtype) != (wanted_shape, array.dtype):
                raise ReplayBufferError(
                    f"{path} holds {name} of shape {shape} and type {dtype}, "
                    f"but this run needs {wanted_shape} and {array.dtype}."
                )
        if size != min(saved["capacity"], saved["n_added"]):
            raise ReplayBufferError(f"{path} is damaged: it holds other transitions than it counts.")


def bytes_needed(capacity: int, n_features: int) -> int:
    """Memory of a full buffer, and about its size on the disk, in bytes."""
    return capacity * sum(
        int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        for shape, dtype in _row_layout(n_features).values()
    )


def _row_layout(n_features: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    return {
        "observations": ((n_features,), np.float32),
        "action_masks": ((N_ACTIONS,), np.bool_),
        "actions": ((), np.int64),
        "rewards": ((), np.float32),
        "discounts": ((), np.float32),
        "next_observations": ((n_features,), np.float32),
        "next_action_masks": ((N_ACTIONS,), np.bool_),
    }


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ReplayBufferError(f"{path} does not exist; give a replay buffer (.npz) that was saved before.") from None
    # A damaged file can raise anything. numpy's own words are left out: for a pickle they say how to open it unsafely.
    except Exception as error:
        raise ReplayBufferError(f"{path} is not a saved replay buffer, or is damaged.") from error
