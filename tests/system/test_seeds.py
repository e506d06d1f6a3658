"""Random streams: reproducible, apart from each other, independent of the order of use."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.system.seeds import MAX_USER_SEED, Stream, generator, level_seed

SEEDS = st.integers(0, 2**40)
INDICES = st.integers(0, 2**31)


@given(SEEDS, INDICES, SEEDS, INDICES)
@settings(max_examples=100)
def test_training_evaluation_and_user_levels_lie_in_ranges_of_their_own(
    seed: int, index: int, other_seed: int, other_index: int
) -> None:
    training = level_seed(seed, Stream.TRAINING_LEVELS, index)
    evaluation = level_seed(other_seed, Stream.EVALUATION_LEVELS, other_index)
    assert MAX_USER_SEED < evaluation < 2**31 <= training < 2**32


def test_level_seeds_do_not_depend_on_the_order_in_which_they_are_asked_for() -> None:
    forward = [level_seed(3, Stream.TRAINING_LEVELS, k) for k in range(50)]
    backward = [level_seed(3, Stream.TRAINING_LEVELS, k) for k in reversed(range(50))]
    assert forward == backward[::-1]


def test_level_seeds_differ_by_index_and_by_seed() -> None:
    seeds = [level_seed(seed, Stream.TRAINING_LEVELS, k) for seed in range(10) for k in range(100)]
    assert len(set(seeds)) == len(seeds)


def test_streams_of_one_seed_are_independent() -> None:
    draws = [generator(0, stream).random(4) for stream in Stream]
    assert len({draw.tobytes() for draw in draws}) == len(Stream)
    assert np.array_equal(generator(0, Stream.EXPLORATION).random(4), generator(0, Stream.EXPLORATION).random(4))


def test_numbers_of_the_streams_are_a_file_format() -> None:
    numbers = {stream.name: int(stream) for stream in Stream}
    wanted = {"TRAINING_LEVELS": 0, "EVALUATION_LEVELS": 1, "NETWORK": 2, "EXPLORATION": 3, "REPLAY_SAMPLING": 4}
    wanted |= {"POLICY_MAPPING": 5, "POLICY_TURNS": 6, "PAST_SELVES": 7, "EXCHANGE": 8}
    assert wanted.items() <= numbers.items()


def test_a_stream_that_holds_no_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="NETWORK"):
        level_seed(0, Stream.NETWORK, 0)
