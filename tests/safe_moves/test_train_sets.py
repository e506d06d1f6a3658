"""Sets of trains against Python's own, and the order of trains by some value against numpy's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from utils.safe_moves.train_sets import (
    add_new,
    add_set,
    clear_bit,
    copy_set,
    has_bit,
    lowest_first,
    next_bit,
    put_bit,
    words_for,
)
from utils.system.compiled import compiled

N_TRAINS = 200  # more than three words of 64
# Next to the ends of words as often as anywhere else; the last bit of a word is the sign of an int64.
TRAINS = st.sampled_from([0, 7, 8, 62, 63, 64, 127, 128, 191, 192, N_TRAINS - 1]) | st.integers(0, N_TRAINS - 1)
SETS = st.sets(TRAINS, max_size=20) | st.just(set(range(N_TRAINS)))


def packed(trains: set[int]) -> np.ndarray:
    bits = np.zeros(words_for(N_TRAINS), dtype=np.int64)
    _put_all(bits, np.array(sorted(trains), dtype=np.int64))
    return bits


@compiled
def _put_all(bits: np.ndarray, trains: np.ndarray) -> None:
    for handle in trains:
        put_bit(bits, handle)


@compiled
def _clear(bits: np.ndarray, handle: int) -> None:
    clear_bit(bits, handle)


@compiled
def _members(bits: np.ndarray) -> np.ndarray:
    return np.array([has_bit(bits, handle) for handle in range(bits.shape[0] * 64)])


@compiled
def _walk(bits: np.ndarray) -> list[int]:
    """The trains that ``next_bit`` finds one after the other, and the -1 behind them."""
    found = [next_bit(bits, -1)]
    while found[-1] >= 0:
        found.append(next_bit(bits, found[-1]))
    return found


@compiled
def _add_set(bits: np.ndarray, to: np.ndarray) -> bool:
    return add_set(bits, to)


@compiled
def _add_new(bits: np.ndarray, to: np.ndarray, new: np.ndarray) -> None:
    add_new(bits, to, new)


@compiled
def _copy_set(bits: np.ndarray, to: np.ndarray) -> None:
    copy_set(bits, to)


@compiled
def _order(values: np.ndarray) -> np.ndarray:
    return lowest_first(values)


@given(n_trains=st.integers(1, 1000))
def test_a_set_is_just_long_enough_for_its_trains(n_trains: int) -> None:
    assert 64 * (words_for(n_trains) - 1) < n_trains <= 64 * words_for(n_trains)


@settings(deadline=None)
@given(trains=SETS, gone=TRAINS)
def test_members_are_those_put_in_and_not_taken_out(trains: set[int], gone: int) -> None:
    bits = packed(trains)
    assert set(np.flatnonzero(_members(bits))) == trains
    _clear(bits, gone)  # whether it was there or not
    assert set(np.flatnonzero(_members(bits))) == trains - {gone}


@settings(deadline=None)
@given(trains=SETS)
def test_trains_are_found_in_rising_order(trains: set[int]) -> None:
    assert _walk(packed(trains)) == [*sorted(trains), -1]


@settings(deadline=None)
@given(trains=SETS, others=SETS)
def test_adding_a_set_says_whether_it_grows(trains: set[int], others: set[int]) -> None:
    bits, to = packed(trains), packed(others)
    assert _add_set(bits, to) == (not trains <= others)
    np.testing.assert_array_equal(to, packed(trains | others))
    np.testing.assert_array_equal(bits, packed(trains))
    assert not _add_set(bits, to)


@settings(deadline=None)
@given(trains=SETS, others=SETS, old=SETS)
def test_adding_a_set_says_who_is_new(trains: set[int], others: set[int], old: set[int]) -> None:
    bits, to, new = packed(trains), packed(others), packed(old)
    _add_new(bits, to, new)
    np.testing.assert_array_equal(new, packed(trains - others))
    np.testing.assert_array_equal(to, packed(trains | others))
    np.testing.assert_array_equal(bits, packed(trains))


@settings(deadline=None)
@given(trains=SETS, others=SETS)
def test_a_copy_is_the_same_and_apart(trains: set[int], others: set[int]) -> None:
    bits, to = packed(trains), packed(others)
    _copy_set(bits, to)
    np.testing.assert_array_equal(to, bits)
    _clear(to, min(trains, default=0))
    np.testing.assert_array_equal(bits, packed(trains))


@settings(deadline=None)
@given(arrays.arrays(np.float64, st.integers(0, 40), elements=st.sampled_from([-1.0, 0.0, 0.5, 7.0, np.inf])))
def test_lowest_first_and_equal_ones_by_number(values: np.ndarray) -> None:
    np.testing.assert_array_equal(_order(values), np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(lowest_first(values), np.argsort(values, kind="stable"))
