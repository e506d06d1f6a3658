"""MT19937, the random numbers of flatland-rl, in compiled code: word by word those of ``numpy.random.RandomState``.

Several streams stand side by side in two arrays: ``keys``, uint32 [streams, N_WORDS], a block of each, and
``positions``, int64 [streams, N_POSITIONS], where it has come to.

Source: Matsumoto and Nishimura, 1998; numpy's ``mt19937.c`` and ``distributions.c``.
"""

import numpy as np

from utils.system.compiled import compiled, compiled_helper

N_WORDS = 624
WORDS_OF_A_DOUBLE = 2

# Columns of ``positions``.
(
    WORD,  # the next to take, N_WORDS if all are taken, as in numpy
    BLOCK,  # how many blocks came before this one
    OWED,  # words that are still to be skipped, for users who put that off
    N_POSITIONS,
) = range(4)


@compiled_helper
def _twist(word: int, following: int, other: int) -> int:
    bits = (word & 0x80000000) | (following & 0x7FFFFFFF)
    return other ^ (bits >> 1) ^ ((0 - (bits & 1)) & 0x9908B0DF)


@compiled_helper
def _renew_words(keys: np.ndarray, stream: int) -> None:
    """Replace the block of a stream by the next one.

    The loop is cut in two where the index 397 words ahead passes the end, so that it can be vectorised.
    """
    for i in range(227):
        keys[stream, i] = _twist(keys[stream, i], keys[stream, i + 1], keys[stream, i + 397])
    for i in range(227, 623):
        keys[stream, i] = _twist(keys[stream, i], keys[stream, i + 1], keys[stream, i - 227])
    keys[stream, 623] = _twist(keys[stream, 623], keys[stream, 0], keys[stream, 396])


@compiled
def skip_words(keys: np.ndarray, positions: np.ndarray, stream: int, n_skipped: int) -> None:
    """Bring a stream to where it is after ``n_skipped`` more words, without working them all out."""
    word = positions[stream, WORD] + n_skipped
    n_blocks = word // N_WORDS
    for _ in range(n_blocks):
        _renew_words(keys, stream)
    positions[stream, WORD] = word - n_blocks * N_WORDS
    positions[stream, BLOCK] += n_blocks


@compiled_helper
def next_word(keys: np.ndarray, positions: np.ndarray, stream: int) -> int:
    """32 random bits."""
    if positions[stream, WORD] == N_WORDS:
        _renew_words(keys, stream)
        positions[stream, WORD] = 0
        positions[stream, BLOCK] += 1
    word = int(keys[stream, positions[stream, WORD]])
    positions[stream, WORD] += 1
    word ^= word >> 11
    word ^= (word << 7) & 0x9D2C5680
    word ^= (word << 15) & 0xEFC60000
    return word ^ (word >> 18)


@compiled_helper
def next_double(keys: np.ndarray, positions: np.ndarray, stream: int) -> float:
    """As ``RandomState.rand()``."""
    high = next_word(keys, positions, stream) >> 5
    low = next_word(keys, positions, stream) >> 6
    return (high * 67108864.0 + low) / 9007199254740992.0


@compiled_helper
def next_below(keys: np.ndarray, positions: np.ndarray, stream: int, n: int) -> int:
    """As ``RandomState.randint(n)``, for n from 1 to 2**31: words are masked, and drawn again until one is small."""
    if n == 1:
        return 0  # numpy takes no word for it
    mask = n - 1
    for shift in (1, 2, 4, 8, 16):
        mask |= mask >> shift
    value = next_word(keys, positions, stream) & mask
    while value >= n:
        value = next_word(keys, positions, stream) & mask
    return value
