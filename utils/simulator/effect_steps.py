"""Malfunctions that depend on what the trains do: drawn in the step in which they begin, compiled.

Departure delays are such: they may begin only while a train stands at one of its stops. How many random numbers an
effect takes then depends on the trains, and all effects take theirs from one stream: none can be drawn ahead.

flatland's malfunction generators draw a million numbers when they are first asked, keep them, and take one at each
question, round and round; how long a malfunction lasts is drawn from the stream that goes on behind the million.
Here each generator keeps a copy of the stream from where its million begins, and the stream itself skips the million
when it is needed again. That would cost as much as some hundred steps, so it goes on from copies that were taken ahead.

Sources, all in flatland-rl: ``envs/malfunction_effects_generators.py``, ``envs/malfunction_generators.py``,
``envs/step_utils/malfunction_handler.py``.
"""

from typing import NamedTuple

import numpy as np
from flatland.envs.malfunction_generators import NBR_CHACHED_RAND
from numpy.typing import NDArray

from utils.simulator.mersenne_twister import (
    BLOCK,
    N_WORDS,
    OWED,
    WORD,
    WORDS_OF_A_DOUBLE,
    next_below,
    next_double,
    skip_words,
)
from utils.simulator.state_arrays import (
    COLUMN,
    DIRECTION,
    MALFUNCTION,
    MALFUNCTION_COUNTER,
    MOVING,
    N_MALFUNCTIONS,
    ROW,
    STATE,
    STOPPED,
)
from utils.system.compiled import Arrays, compiled, compiled_helper

WORDS_OF_A_MILLION = WORDS_OF_A_DOUBLE * NBR_CHACHED_RAND

# Rows of ``effects``, one column for each effect, in flatland's order.
(
    GENERATOR,  # the column of ``generators`` that it draws from
    FIRST_CONDITION,  # the columns of ``conditions``, one of which must hold for a train, up to END_OF_CONDITIONS
    END_OF_CONDITIONS,
    FIRST_STEP,  # the first step in which a malfunction can begin
    MOST_BEGUN,  # how many can begin, inf for no limit
    COUNTED_IN,  # the column in which those that have begun are counted: the effect's own, unless it comes twice
    N_BEGUN,
    N_EFFECT_ROWS,
) = range(8)

# Rows of ``conditions``.
(KIND, FROM_STEP, BEFORE_STEP, N_CONDITION_ROWS) = range(4)
# Kinds of conditions: always; on the map; standing at one of the places that count for the train; where the end of the
# train's range of places is not 0, see ``own_conditions``.
ALWAYS, ON_MAP, STOPPED_AT, OWN_CONDITION = range(4)

# Rows of ``places``.
PLACE_ROW, PLACE_COLUMN, PLACE_DIRECTION, N_PLACE_ROWS = range(4)
ANY_DIRECTION = -1  # where the direction does not matter

# Rows of ``generators``.
(
    PROBABILITY,  # that a question brings a malfunction
    SHORTEST_DRAWN,  # what is drawn for the duration, which is one step longer
    LONGEST_DRAWN,
    N_ASKED,  # flatland's ``_rand_idx``
    HAS_MILLION,  # 1 if the million has been drawn
    N_GENERATOR_ROWS,
) = range(6)

# Streams: the environment's own; for each generator its million, from where it goes on and from its beginning; the
# environment's own as it is after one million, after two and so on.
OWN_STREAM = 0


class EffectArrays(NamedTuple):
    """The effects of a level and where they have come to."""

    effects: NDArray[np.float64]  # [N_EFFECT_ROWS, effects]
    conditions: NDArray[np.float64]  # [N_CONDITION_ROWS, conditions]
    # [2, conditions, trains], the columns of ``places`` that count, from one up to the other
    place_ranges: NDArray[np.int32]
    places: NDArray[np.int32]  # [N_PLACE_ROWS, places]
    generators: NDArray[np.float64]  # [N_GENERATOR_ROWS, generators]
    keys: NDArray[np.uint32]  # the streams, see above and ``mersenne_twister``
    positions: NDArray[np.int64]


@compiled_helper
def current_stream_of(generator: int) -> int:
    """Where a generator's million goes on."""
    return 1 + 2 * generator


@compiled_helper
def beginning_stream_of(generator: int) -> int:
    """Where a generator's million begins."""
    return 2 + 2 * generator


@compiled_helper
def first_stream_ahead(n_generators: int) -> int:
    """The environment's own stream as it is after one million."""
    return 1 + 2 * n_generators


@compiled_helper
def _copy_stream(keys: np.ndarray, positions: np.ndarray, source: int, target: int) -> None:
    for i in range(keys.shape[1]):
        keys[target, i] = keys[source, i]
    positions[target, WORD] = positions[source, WORD]
    positions[target, BLOCK] = positions[source, BLOCK]


@compiled_helper
def _settle(arrays: EffectArrays) -> None:
    """Bring the stream of the environment to where flatland's is."""
    keys, positions = arrays.keys, arrays.positions
    owed = positions[OWN_STREAM, OWED]
    if owed > 0:
        here = positions[OWN_STREAM, BLOCK] * N_WORDS + positions[OWN_STREAM, WORD]
        for ahead in range(first_stream_ahead(arrays.generators.shape[1]), keys.shape[0]):
            there = positions[ahead, BLOCK] * N_WORDS + positions[ahead, WORD]
            if here + owed >= there > here:
                _copy_stream(keys, positions, ahead, OWN_STREAM)
                owed -= there - here
                here = there
        skip_words(keys, positions, OWN_STREAM, owed)
        positions[OWN_STREAM, OWED] = 0


@compiled_helper
def _begin_million(generator: int, arrays: EffectArrays) -> None:
    """What flatland does when a generator is asked first."""
    keys, positions = arrays.keys, arrays.positions
    if arrays.generators[PROBABILITY, generator] > 0:
        _settle(arrays)
        current = current_stream_of(generator)
        _copy_stream(keys, positions, OWN_STREAM, beginning_stream_of(generator))
        _copy_stream(keys, positions, OWN_STREAM, current)
        n_taken = int(arrays.generators[N_ASKED, generator]) + 1  # flatland counts up before it takes a number
        skip_words(keys, positions, current, WORDS_OF_A_DOUBLE * n_taken)
    positions[OWN_STREAM, OWED] += WORDS_OF_A_MILLION
    arrays.generators[HAS_MILLION, generator] = 1


@compiled_helper
def _drawn_duration(generator: int, arrays: EffectArrays) -> int:
    """How many steps the malfunction lasts that a question brings, 0 or less for none."""
    generators, current = arrays.generators, current_stream_of(generator)
    if generators[HAS_MILLION, generator] == 0:
        _begin_million(generator, arrays)
    if generators[PROBABILITY, generator] <= 0:
        return 0
    generators[N_ASKED, generator] += 1
    if generators[N_ASKED, generator] >= NBR_CHACHED_RAND:
        generators[N_ASKED, generator] = 0
        _copy_stream(arrays.keys, arrays.positions, beginning_stream_of(generator), current)
    if next_double(arrays.keys, arrays.positions, current) >= generators[PROBABILITY, generator]:
        return 0
    _settle(arrays)
    shortest, longest = int(generators[SHORTEST_DRAWN, generator]), int(generators[LONGEST_DRAWN, generator])
    return shortest + next_below(arrays.keys, arrays.positions, OWN_STREAM, longest - shortest + 1) + 1


@compiled_helper
def _is_at_a_place(condition: int, handle: int, dynamic: np.ndarray, arrays: EffectArrays) -> bool:
    row, column, direction = dynamic[ROW, handle], dynamic[COLUMN, handle], dynamic[DIRECTION, handle]
    places, ranges = arrays.places, arrays.place_ranges
    for place in range(ranges[0, condition, handle], ranges[1, condition, handle]):
        is_here = row == places[PLACE_ROW, place] and column == places[PLACE_COLUMN, place]
        wanted = places[PLACE_DIRECTION, place]
        if is_here and (wanted < 0 or wanted == direction):
            return True
    return False


@compiled_helper
def _one_holds(effect: int, handle: int, elapsed_steps: int, dynamic: np.ndarray, arrays: EffectArrays) -> bool:
    """Whether one of the conditions of an effect holds for a train."""
    state = dynamic[STATE, handle]
    first, end = int(arrays.effects[FIRST_CONDITION, effect]), int(arrays.effects[END_OF_CONDITIONS, effect])
    for condition in range(first, end):
        kind = arrays.conditions[KIND, condition]
        if kind == ALWAYS or (kind == ON_MAP and MOVING <= state <= MALFUNCTION):
            return True
        if kind == OWN_CONDITION and arrays.place_ranges[1, condition, handle] != 0:
            return True
        if kind == STOPPED_AT and state == STOPPED:
            in_time = arrays.conditions[FROM_STEP, condition] <= elapsed_steps
            in_time = in_time and elapsed_steps < arrays.conditions[BEFORE_STEP, condition]
            if in_time and _is_at_a_place(condition, handle, dynamic, arrays):
                return True
    return False


@compiled
def begin_malfunctions(
    dynamic: np.ndarray, effect_arrays: Arrays, elapsed_steps: int, first_effect: int, end_of_effects: int
) -> None:
    """What effects do at the beginning of a step, in place.

    Args:
        dynamic: see ``RailState``.
        effect_arrays: the fields of ``EffectArrays``.
        elapsed_steps: this step's number, from 1 on.
        first_effect, end_of_effects: those from the first up to the other.
    """
    arrays = EffectArrays(*effect_arrays)
    effects = arrays.effects
    for effect in range(first_effect, end_of_effects):
        generator, counted_in = int(effects[GENERATOR, effect]), int(effects[COUNTED_IN, effect])
        if elapsed_steps < effects[FIRST_STEP, effect]:
            continue
        for handle in range(dynamic.shape[1]):
            if effects[N_BEGUN, counted_in] >= effects[MOST_BEGUN, effect]:
                break
            if _one_holds(effect, handle, elapsed_steps, dynamic, arrays):
                duration = _drawn_duration(generator, arrays)
                if duration > 0 and dynamic[MALFUNCTION_COUNTER, handle] == 0:
                    dynamic[MALFUNCTION_COUNTER, handle] = duration
                    dynamic[N_MALFUNCTIONS, handle] += 1
                    effects[N_BEGUN, counted_in] += 1
