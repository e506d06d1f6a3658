"""What this machine could do at best: arithmetic and memory, measured on one core."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.frame import seconds_of
from reinforcement_learning.dddqn_policy import DDDQNPolicy

_MATRIX = 768  # rows and columns: large enough for the highest rate, small enough for the caches
_ROUNDS = 25


def _seconds(work: Callable[[], object], times: int) -> float:
    """The shortest of several measurements, per call: a limit is what is possible, not what is usual."""
    return min(seconds_of(work, times, time.process_time) for _ in range(_ROUNDS))


def matmul_rate() -> float:
    """Floating-point operations a second in a product of float32 matrices."""
    first, second = torch.rand(_MATRIX, _MATRIX), torch.rand(_MATRIX, _MATRIX)
    product = torch.empty(_MATRIX, _MATRIX)
    return 2 * _MATRIX**3 / _seconds(lambda: torch.mm(first, second, out=product), 3)


def copy_rate(n_bytes: int) -> float:
    """Bytes a second, read and written, in copying so many; what fits into a cache goes faster."""
    source, target = np.ones(n_bytes, dtype=np.uint8), np.ones(n_bytes, dtype=np.uint8)
    return 2 * n_bytes / _seconds(lambda: np.copyto(target, source), 1 + 2**25 // n_bytes)


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products in some work, backward passes included."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def parameter_bytes(policy: DDDQNPolicy) -> int:
    """The size of the network that learns."""
    return 4 * sum(parameter.numel() for parameter in policy.q_network.parameters())


def update_bytes(policy: DDDQNPolicy) -> int:
    """Bytes that the optimizer and the averages read and write in one learning step."""
    # Adam reads a value, its gradient and two moments and writes all but the gradient
    adam, average, n_averages = 4 + 3, 2 + 1, 2
    return parameter_bytes(policy) * (adam + n_averages * average)
