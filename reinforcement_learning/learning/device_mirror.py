"""A copy of the replay buffer on the learner's device, so that a GPU need not wait for its batches.

A batch is then a list of row numbers that goes to the device; what was added since the last batch goes there ahead of
it, once, instead of each time that it is drawn. From pinned memory both happen while the device computes.
"""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


class DeviceMirror:
    """The rows of some arrays, which are filled as a ring, on another device.

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
