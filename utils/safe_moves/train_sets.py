"""Sets of trains, a bit each, in words of 64, and their order by some value. Compiled."""

import numpy as np

from utils.system.compiled import allocating_helper, compiled_helper

_BITS = 64  # in a word


def words_for(n_trains: int) -> int:
    """How long a set is, int64 [words]."""
    return (n_trains + _BITS - 1) // _BITS


@compiled_helper
def put_bit(bits: np.ndarray, handle: int) -> None:
    """Enter a train into a set."""
    bits[handle // _BITS] |= 1 << (handle % _BITS)


@compiled_helper
def clear_bit(bits: np.ndarray, handle: int) -> None:
    """Take a train out of a set."""
    bits[handle // _BITS] &= ~(1 << (handle % _BITS))


@compiled_helper
def has_bit(bits: np.ndarray, handle: int) -> bool:
    """Whether a train is in a set."""
    return (bits[handle // _BITS] >> (handle % _BITS)) & 1 == 1


@compiled_helper
def next_bit(bits: np.ndarray, after: int) -> int:
    """The first train in a set after ``after``, which is -1 for the first of all; -1 if there is none."""
    n_trains = bits.shape[0] * _BITS
    handle = after + 1
    while handle < n_trains:
        rest = bits[handle // _BITS] >> (handle % _BITS)
        if rest == 0:
            handle = (handle // _BITS + 1) * _BITS
        elif rest & 1 == 1:
            return handle
        else:
            handle += 1 if rest & 255 != 0 else 8
    return -1


@compiled_helper
def add_set(bits: np.ndarray, to: np.ndarray) -> bool:
    """Enter the trains of one set into another one; returns whether any was not there yet."""
    grows = False
    for word in range(bits.shape[0]):
        grows = grows or bits[word] & ~to[word] != 0
        to[word] |= bits[word]
    return grows


@compiled_helper
def add_new(bits: np.ndarray, to: np.ndarray, new: np.ndarray) -> None:
    """Enter the trains of one set into another one; ``new`` becomes those that were not there yet."""
    for word in range(bits.shape[0]):
        new[word] = bits[word] & ~to[word]
        to[word] |= bits[word]


@compiled_helper
def copy_set(bits: np.ndarray, to: np.ndarray) -> None:
    """Make a set the same as another one."""
    for word in range(bits.shape[0]):  # numba asks for memory to assign one array to another
        to[word] = bits[word]


@allocating_helper
def lowest_first(values: np.ndarray) -> np.ndarray:
    """The trains, int64 [trains], by their ``values``, float64 [trains]; by number where these are equal.

    By insertion: there are few trains, and compiling ``np.argsort`` takes more than a second.
    """
    order = np.empty(values.shape[0], dtype=np.int64)
    for n_sorted in range(values.shape[0]):
        place = n_sorted
        while place > 0 and values[order[place - 1]] > values[n_sorted]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = n_sorted
    return order
