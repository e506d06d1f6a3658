"""Every random number of a training derives from one seed through named streams.

``SeedSequence([seed, stream, index])`` makes stream members independent of each other and of the order
in which they are drawn: level 17 is the same level whichever process makes it, and whenever.
"""

from enum import IntEnum

import numpy as np

# RailEnv takes 32-bit seeds. Three disjoint ranges keep training levels, the evaluation levels of a training,
# and the levels that a person asks for by a small number (evaluate_agent.py --seed 1000) apart for certain.
_TRAINING_LEVELS_FROM = 2**31
_EVALUATION_LEVELS_FROM = 2**30
MAX_USER_SEED = _EVALUATION_LEVELS_FROM - 1


class Stream(IntEnum):
    """Names of the random streams; the numbers are part of the file format of checkpoints: never reuse one."""

    TRAINING_LEVELS = 0
    EVALUATION_LEVELS = 1
    NETWORK = 2
    EXPLORATION = 3
    REPLAY_SAMPLING = 4
    POLICY_MAPPING = 5  # which policy drives which train
    POLICY_TURNS = 6  # who is next where trains cannot be shared out evenly
    PAST_SELVES = 7  # which trains older copies drive
    EXCHANGE = 8  # population-based training
    PLANNING = 9  # what a planner tries
    DEMONSTRATIONS = 10  # which training episodes a plan plays
    STAGES = 11  # which environment of a mixture a training level is made of


def seed_sequence(seed: int, stream: Stream, index: int = 0) -> np.random.SeedSequence:
    """The seed sequence of member ``index`` of a stream; ``seed`` and ``index`` are non-negative."""
    return np.random.SeedSequence([seed, int(stream), index])


def generator(seed: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """A numpy generator for member ``index`` of a stream."""
    return np.random.default_rng(seed_sequence(seed, stream, index))


def level_seed(seed: int, stream: Stream, index: int) -> int:
    """The seed that ``RailEnv`` gets for level ``index``.

    Training levels lie in [2**31, 2**32), evaluation levels in [2**30, 2**31), so the two never meet.

    Raises:
        ValueError: ``stream`` is not a stream of levels.
    """
    draw = int(seed_sequence(seed, stream, index).generate_state(1, np.uint32)[0])
    if stream is Stream.TRAINING_LEVELS:
        return _TRAINING_LEVELS_FROM + draw % 2**31
    if stream is Stream.EVALUATION_LEVELS:
        return _EVALUATION_LEVELS_FROM + draw % 2**30
    raise ValueError(f"{stream!r} is not a stream of levels")
