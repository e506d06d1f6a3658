"""What this machine could do at best: arithmetic, memory and calls of compiled functions, measured on one core."""

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from reinforcement_learning.dddqn_policy import DDDQNPolicy

_MATRIX = 768  # rows and columns: large enough for the highest rate, small enough for the caches
_ROUNDS = 25


def _seconds(work: Callable[[], object], times: int) -> float:
    """The shortest of several measurements, per call: a limit is what is possible, not what is usual."""
    best = np.inf
    for _ in range(_ROUNDS):
        started = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - started) / times)
    return float(best)


def matmul_rate() -> float:
    """Floating-point operations a second in a product of float32 matrices."""
    first, second = torch.rand(_MATRIX, _MATRIX), torch.rand(_MATRIX, _MATRIX)
    product = torch.empty(_MATRIX, _MATRIX)
    return 2 * _MATRIX**3 / _seconds(lambda: torch.mm(first, second, out=product), 3)


def copy_rate(n_bytes: int) -> float:
    """Bytes a second, read and written, in copying so many; what fits into a cache goes faster."""
    source, target = np.ones(n_bytes, dtype=np.uint8), np.ones(n_bytes, dtype=np.uint8)
    return 2 * n_bytes / _seconds(lambda: np.copyto(target, source), 1 + 2**25 // n_bytes)


def empty_call_us(function: Any) -> float:
    """Microseconds that Python takes to call a function that does nothing, with arguments like those of another one.

    Args:
        function: a compiled function that this process has called.
    """
    types = function.signatures[0]
    names = ", ".join(f"argument_{i}" for i in range(len(types)))
    scope: dict[str, Any] = {}
    # written out, because numba takes *arguments as one tuple, which costs something else
    exec(f"def nothing({names}): return False", scope)
    nothing = numba.njit(scope["nothing"])
    arguments = [_example_of(one) for one in types]
    nothing(*arguments)
    return 1e6 * _seconds(lambda: nothing(*arguments), 2000)


def _example_of(numba_type: Any) -> Any:
    """A value of a type: an array, a tuple of arrays, or a number."""
    if isinstance(numba_type, numba.types.BaseTuple):
        return tuple(_example_of(one) for one in numba_type)
    if isinstance(numba_type, numba.types.Array):
        return np.zeros((4,) * numba_type.ndim, dtype=str(numba_type.dtype))
    return 1


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
