"""When malfunctions begin and how long they last: what flatland's random numbers will bring, worked out in advance."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from flatland.core.effects_generator import (
    EffectsGenerator,
    MultiEffectsGeneratorWrapped,
    find_all_effects_generators,
)
from flatland.envs.malfunction_effects_generators import MalfunctionEffectsGenerator
from flatland.envs.malfunction_generators import (
    NBR_CHACHED_RAND,
    FileMalfunctionGen,
    NoMalfunctionGen,
    ParamMalfunctionGen,
)
from flatland.envs.rail_env import RailEnv
from numpy.typing import NDArray

from utils.simulator.simulator import UnsupportedLevel
from utils.system.compiled import compiled, compiled_helper

_MALFUNCTION_GENERATORS = (ParamMalfunctionGen, NoMalfunctionGen, FileMalfunctionGen)


def malfunction_generator_of(env: RailEnv) -> ParamMalfunctionGen:
    """The generator that ``env.step`` draws from.

    Raises:
        UnsupportedLevel: there are other effects than malfunctions, or malfunctions of another kind.
    """
    effects = find_all_effects_generators(env.effects_generator, EffectsGenerator)
    effects = [effect for effect in effects if type(effect) is not MultiEffectsGeneratorWrapped]
    if len(effects) != 1 or type(effects[0]) is not MalfunctionEffectsGenerator:
        names = ", ".join(type(effect).__name__ for effect in effects) or "none"
        raise UnsupportedLevel(f"one MalfunctionEffectsGenerator is the only effect that is simulated, not {names}")
    generator = effects[0].malfunction_generator
    if type(generator) not in _MALFUNCTION_GENERATORS:
        raise UnsupportedLevel(f"malfunctions of the type {type(generator).__name__} are not simulated")
    return generator


def draw_malfunctions(env: RailEnv, generator: ParamMalfunctionGen) -> NDArray[np.int32]:
    """How long the malfunctions last that begin in each step: int32 [max_episode_steps, trains], 0 for none.

    At its first use flatland's generator draws a million numbers, of which it takes one for each train and step, and
    goes round when they are used up. The durations are drawn after the million. A usual episode needs only the first
    few hundred; the others are skipped, which costs a twentieth of drawing them.
    """
    durations = np.zeros((env._max_episode_steps, len(env.agents)), dtype=np.int32)
    if generator._malfunction_prob <= 0:
        return durations
    first = generator._rand_idx + 1  # flatland counts up before it takes a number
    with _kept_state(env.np_random) as random:
        draws, n_skipped = generator._cached_rand, 0
        if draws is None:
            n_drawn = min(first + durations.size, NBR_CHACHED_RAND)
            draws, n_skipped = random.rand(n_drawn), NBR_CHACHED_RAND - n_drawn
        begins = draws[(first + np.arange(durations.size)) % NBR_CHACHED_RAND] < generator._malfunction_prob
        (places,) = np.nonzero(begins)
        if len(places):
            skip_draws(random, n_skipped)
            parameters = generator.MFP
            drawn = random.randint(parameters.min_duration, parameters.max_duration + 1, size=len(places))
            durations.ravel()[places] = drawn + 1
    return durations


@contextmanager
def _kept_state(random: np.random.RandomState) -> Iterator[np.random.RandomState]:
    """Lends a random state and puts it back to where it was."""
    state = random.get_state()
    try:
        yield random
    finally:
        random.set_state(state)


def skip_draws(random: np.random.RandomState, n_skipped: int) -> None:
    """Brings a random state to where ``random.rand(n_skipped)`` would, without working the numbers out."""
    state = random.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        random.rand(n_skipped)
        return
    words = state["state"]
    # Each number takes two words of 32 bits.
    n_rounds, words["pos"] = divmod(words["pos"] + 2 * n_skipped, len(words["key"]))
    _advance_mersenne_twister(words["key"], n_rounds)
    random.set_state(state)


@compiled_helper
def _twist(word: int, following: int, other: int) -> int:
    bits = (word & 0x80000000) | (following & 0x7FFFFFFF)
    return other ^ (bits >> 1) ^ ((0 - (bits & 1)) & 0x9908B0DF)


@compiled
def _advance_mersenne_twister(key: np.ndarray, n_rounds: int) -> None:
    """Replace all 624 words, uint32, of MT19937 (Matsumoto and Nishimura, 1998) ``n_rounds`` times.

    The loop is cut in two where the index 397 words ahead passes the end, so that it can be vectorised.
    """
    for _ in range(n_rounds):
        for i in range(227):
            key[i] = _twist(key[i], key[i + 1], key[i + 397])
        for i in range(227, 623):
            key[i] = _twist(key[i], key[i + 1], key[i - 227])
        key[623] = _twist(key[623], key[0], key[396])
