"""A replay buffer's copy on a GPU, so that a GPU need not wait for its batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reinforcement_learning.dddqn_policy import Batch
from reinforcement_learning.learning.neighbour_batches import seen_on_device


@dataclass(frozen=True)
class Draw:
    """A batch but for its wide parts, which are still where they are stored."""

    whole: Tensor  # int64 [4, batch]: actions, what was shown, rows where transitions begin, rows where they end
    floats: Tensor  # float32 [2, batch]: rewards, discounts

    def batch(self, first: Mapping[str, Tensor], last: Mapping[str, Tensor]) -> Batch:
        """The batch, with the rows where its transitions begin and end."""
        return Batch(
            observations=first["observations"],
            action_masks=first["action_masks"],
            actions=self.whole[0],
            rewards=self.floats[0],
            discounts=self.floats[1],
            next_observations=last["observations"],
            next_action_masks=last["action_masks"],
            shown=self.whole[1],
        )


class DeviceMirror:
    """A copy of a replay buffer's wide arrays on the learner's device: those that ``neighbour_batches.SEEN`` names.

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
        self._copies = {name: torch.zeros_like(array, device=device) for name, array in self._arrays.items()}
        self._n_copied = 0  # of all rows that were ever added

    def catch_up(self, n_added: int) -> None:
        """Copies what is new when ``n_added`` rows were ever added to the ring."""
        for name, array in self._arrays.items():
            capacity = len(array)
            first = max(self._n_copied, n_added - capacity)
            while first < n_added:
                start = first % capacity
                end = min(capacity, start + n_added - first)
                self._copies[name][start:end].copy_(pinned(array[start:end], self.device), non_blocking=True)
                first += end - start
        self._n_copied = n_added

    def forget(self) -> None:
        """All rows are to be copied anew; the copy stays where it is."""
        self._n_copied = 0

    def batch(self, draw: Draw) -> Batch:
        """The batch of a draw that is on the device."""
        first, last = (seen_on_device(rows, self._copies) for rows in draw.whole[2:])
        return draw.batch(first, last)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the CPU, where a GPU can fetch it while this process goes on."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def empty_draw(batch_size: int, device: torch.device) -> Draw:
    """Room for a draw on a device; as it is, the first row of the buffer again and again."""
    whole = torch.zeros((4, batch_size), dtype=torch.int64, device=device)
    return Draw(whole, torch.zeros((2, batch_size), dtype=torch.float32, device=device))


def draw_of(whole: list[npt.NDArray[np.int64]], floats: list[npt.NDArray[np.float64]]) -> Draw:
    """A draw on the CPU, of its rows."""
    return Draw(torch.from_numpy(np.stack(whole)), torch.from_numpy(np.stack(floats).astype(np.float32)))
