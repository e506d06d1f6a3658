"""Malfunctions that depend on nothing: what flatland's random numbers will bring, worked out in advance."""

import numpy as np
from flatland.envs.malfunction_generators import NBR_CHACHED_RAND, ParamMalfunctionGen
from flatland.envs.rail_env import RailEnv
from numpy.typing import NDArray

from utils.simulator.mersenne_twister import N_POSITIONS, WORD, WORDS_OF_A_DOUBLE, skip_words


def draw_malfunctions(env: RailEnv, generator: ParamMalfunctionGen) -> NDArray[np.int32]:
    """How long the malfunctions last that begin in each step: int32 [max_episode_steps, trains], 0 for none.

    Args:
        env: at any step; those that it has done are all 0.
        generator: draws for each train in each step, and nobody else draws.

    At its first use flatland's generator draws a million numbers, of which it takes one for each train and step, and
    goes round when they are used up. The durations are drawn after the million. A usual episode needs only the first
    few hundred; the others are skipped, which costs a twentieth of drawing them.
    """
    durations = np.zeros((env._max_episode_steps, len(env.agents)), dtype=np.int32)
    if generator._malfunction_prob <= 0:
        return durations
    to_come = durations[env._elapsed_steps :].ravel()
    first = generator._rand_idx + 1  # flatland counts up before it takes a number
    random, state = env.np_random, env.np_random.get_state()
    try:
        draws, n_skipped = generator._cached_rand, 0
        if draws is None:
            n_drawn = min(first + to_come.size, NBR_CHACHED_RAND)
            draws, n_skipped = random.rand(n_drawn), NBR_CHACHED_RAND - n_drawn
        begins = draws[(first + np.arange(to_come.size)) % NBR_CHACHED_RAND] < generator._malfunction_prob
        (places,) = np.nonzero(begins)
        if len(places):
            skip_draws(random, n_skipped)
            parameters = generator.MFP
            drawn = random.randint(parameters.min_duration, parameters.max_duration + 1, size=len(places))
            to_come[places] = drawn + 1
    finally:
        random.set_state(state)
    return durations


def skip_draws(random: np.random.RandomState, n_skipped: int) -> None:
    """Brings a random state to where ``random.rand(n_skipped)`` would, without working the numbers out."""
    state = random.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        random.rand(n_skipped)
        return
    words = state["state"]
    positions = np.zeros((1, N_POSITIONS), dtype=np.int64)
    positions[0, WORD] = words["pos"]
    skip_words(words["key"][np.newaxis], positions, 0, WORDS_OF_A_DOUBLE * n_skipped)
    words["pos"] = int(positions[0, WORD])
    random.set_state(state)
