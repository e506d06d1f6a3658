"""The order of trains by some value, against numpy's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from utils.safe_moves.train_sets import lowest_first
from utils.system.compiled import compiled


@compiled
def compiled_order(values: np.ndarray) -> np.ndarray:
    return lowest_first(values)


@settings(deadline=None)
@given(arrays.arrays(np.float64, st.integers(0, 40), elements=st.sampled_from([-1.0, 0.0, 0.5, 7.0, np.inf])))
def test_lowest_first_and_equal_ones_by_number(values: np.ndarray) -> None:
    np.testing.assert_array_equal(compiled_order(values), np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(lowest_first(values), np.argsort(values, kind="stable"))
