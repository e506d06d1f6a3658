"""The effects of an environment: which of them can make trains break down, and as arrays for ``effect_steps``."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flatland.core.effects_generator import EffectsGenerator, MultiEffectsGeneratorWrapped, find_all_effects_generators
from flatland.envs.malfunction_effects_generators import (
    ConditionalMalfunctionEffectsGenerator,
    IntermediateStopMalfunctionEffectsGenerator,
    MalfunctionEffectsGenerator,
    condition_stopped_cells_and_range,
    condition_stopped_intermediate_and_range,
    make_multi_malfunction_condition,
    on_map_state_condition,
)
from flatland.envs.malfunction_generators import FileMalfunctionGen, NoMalfunctionGen, ParamMalfunctionGen
from flatland.envs.rail_env import RailEnv
from flatland.envs.record_steps_effects_generator import RecordStepsEffectsGenerator

from utils.simulator.effect_steps import (
    ALWAYS,
    ANY_DIRECTION,
    N_CONDITION_ROWS,
    N_EFFECT_ROWS,
    N_GENERATOR_ROWS,
    N_PLACE_ROWS,
    ON_MAP,
    OWN_CONDITION,
    OWN_STREAM,
    STOPPED_AT,
    WORDS_OF_A_MILLION,
    EffectArrays,
    beginning_stream_of,
    current_stream_of,
    first_stream_ahead,
)
from utils.simulator.mersenne_twister import N_POSITIONS, N_WORDS, WORD, WORDS_OF_A_DOUBLE, skip_words
from utils.simulator.own_conditions import AskedCondition, OwnConditions, depends_on_its_arguments_only
from utils.simulator.state_arrays import OPEN_END
from utils.simulator.unsupported_level import UnsupportedLevel

_MALFUNCTION_GENERATORS = (ParamMalfunctionGen, NoMalfunctionGen, FileMalfunctionGen)
_ALL_STEPS = (-np.inf, np.inf)
_STEP_START, _STEP_END = "on_episode_step_start", "on_episode_step_end"

Places = set[tuple[int, int, int]]
"""Row, column and direction of each, with ANY_DIRECTION."""


def malfunction_effects_of(env: RailEnv) -> list[EffectsGenerator]:
    """The effects that can make trains break down, in the order in which ``env.step`` asks them.

    Raises:
        UnsupportedLevel: there are effects of another kind, or malfunctions of another kind.
    """
    effects = find_all_effects_generators(env.effects_generator, EffectsGenerator)
    effects = [effect for effect in effects if type(effect) is not MultiEffectsGeneratorWrapped]
    effects = [effect for effect in effects if not _does_nothing(effect)]
    for effect in effects:
        malfunctions = MalfunctionEffectsGenerator, ConditionalMalfunctionEffectsGenerator
        starts = any(_is_hook_of(kind, effect, _STEP_START) for kind in malfunctions)
        if not starts or not _is_hook_of(EffectsGenerator, effect, _STEP_END):
            raise UnsupportedLevel(f"effects of the type {type(effect).__name__} are not simulated")
        generator = generator_of(effect)
        if type(generator) not in _MALFUNCTION_GENERATORS:
            raise UnsupportedLevel(f"malfunctions of the type {type(generator).__name__} are not simulated")
    return effects


def generator_of(effect: Any) -> ParamMalfunctionGen:
    """What a malfunction effect draws from."""
    conditional = isinstance(effect, ConditionalMalfunctionEffectsGenerator)
    return effect._malfunction_generator if conditional else effect.malfunction_generator


def is_unconditional(effect: EffectsGenerator) -> bool:
    """Whether a malfunction effect draws for each train in each step, whatever the trains do."""
    return isinstance(effect, MalfunctionEffectsGenerator)


def _does_nothing(effect: EffectsGenerator) -> bool:
    """Whether an effect leaves the steps as they are, as an empty one does, and one that only records."""
    if not _is_hook_of(EffectsGenerator, effect, _STEP_START) or getattr(effect, f"_{_STEP_START}", None):
        return False
    if _is_hook_of(RecordStepsEffectsGenerator, effect, _STEP_END):
        return True
    return _is_hook_of(EffectsGenerator, effect, _STEP_END) and not getattr(effect, f"_{_STEP_END}", None)


def _is_hook_of(kind: type, effect: EffectsGenerator, name: str) -> bool:
    """Whether a method of an effect is the one of a class."""
    return getattr(getattr(effect, name), "__func__", None) is getattr(kind, name)


def effect_arrays_of(env: RailEnv, effects: list[EffectsGenerator]) -> tuple[EffectArrays, OwnConditions | None]:
    """The arrays of malfunction effects, with the random numbers at the place where the environment's are.

    Beside them the conditions that are a user's own, None if there are none of these.

    Raises:
        UnsupportedLevel: a condition is of another kind, durations cannot be drawn, or the random numbers are of
            another kind, or it is not known where they come from.
    """
    generators = list({id(generator_of(effect)): generator_of(effect) for effect in effects}.values())
    rows: list[tuple[float, ...]] = []
    conditions: list[tuple[float, ...]] = []
    all_places_of: list[Callable[[Any], Places]] = []
    asked: list[AskedCondition] = []
    for number, effect in enumerate(effects):
        earliest, most, n_begun, condition = _limits_of(effect)
        first = len(conditions)
        for part in _parts_of(condition):
            kind, (from_step, before_step), places_of = _condition_of(part)
            if kind == OWN_CONDITION:
                asked.append(AskedCondition(number, len(conditions), part))
            conditions.append((kind, from_step, before_step))
            all_places_of.append(places_of)
        # an effect may be there twice, and its malfunctions are counted together
        counted_in = next(i for i, other in enumerate(effects) if other is effect)
        generator = next(i for i, other in enumerate(generators) if other is generator_of(effect))
        rows.append((generator, first, len(conditions), earliest, most, counted_in, n_begun))
    keys, positions = _streams_of(env, generators)
    arrays = EffectArrays(
        _table(rows, N_EFFECT_ROWS, np.float64),
        _table(conditions, N_CONDITION_ROWS, np.float64),
        *_place_arrays(env.agents, all_places_of),
        _table([_generator_column(generator) for generator in generators], N_GENERATOR_ROWS, np.float64),
        keys,
        positions,
    )
    return arrays, OwnConditions(env, asked) if asked else None


def _table(columns: Sequence[tuple[float, ...]], n_rows: int, kind: type) -> np.ndarray:
    return np.array(columns, dtype=kind).reshape(-1, n_rows).T.copy()


def _limits_of(effect: Any) -> tuple[float, float, int, Callable | None]:
    """First step, most malfunctions, those that have begun, and condition of an effect."""
    if is_unconditional(effect):
        return -np.inf, np.inf, 0, None
    earliest, most = effect._earliest_condition, effect._max_num_malfunctions
    return (
        -np.inf if earliest is None else earliest,
        np.inf if most is None else most,
        effect._num_malfunctions,
        effect._condition,
    )


def _place_arrays(agents: list[Any], places_of: list[Callable[[Any], Places]]) -> tuple[np.ndarray, np.ndarray]:
    """``place_ranges`` and ``places`` of ``EffectArrays``, one condition after the other.

    Trains with the same places share them.
    """
    places: list[tuple[int, int, int]] = []
    known: dict[frozenset[tuple[int, int, int]], tuple[int, int]] = {}
    ranges: list[tuple[int, int]] = []
    for of_agent in places_of:
        for found in (frozenset(of_agent(agent)) for agent in agents):
            if found not in known:
                known[found] = len(places), len(places) + len(found)
                places += sorted(found)
            ranges.append(known[found])
    return _table(ranges, 2, np.int32).reshape(2, -1, len(agents)), _table(places, N_PLACE_ROWS, np.int32)


_Condition = tuple[int, tuple[float, float], Callable[[Any], Places]]
"""Kind, range of steps, and what places count for a train."""


def _parts_of(condition: Any) -> list[Any]:
    """The conditions of which one must hold."""
    if _was_made_by(make_multi_malfunction_condition, condition):
        return [part for one in _kept_by(condition)["conditions"] for part in _parts_of(one)]
    return [condition]


def _condition_of(condition: Any) -> _Condition:
    """A single condition; it must be one of flatland's, or depend on its arguments only."""
    if condition is None:
        return ALWAYS, _ALL_STEPS, _no_places
    if condition is on_map_state_condition:
        return ON_MAP, _ALL_STEPS, _no_places
    if condition is IntermediateStopMalfunctionEffectsGenerator._condition:
        return STOPPED_AT, _ALL_STEPS, _waypoints_of
    if _was_made_by(condition_stopped_intermediate_and_range, condition):
        return STOPPED_AT, _steps_of(condition), _cells_of_stops
    if _was_made_by(condition_stopped_cells_and_range, condition):
        cells = _kept_by(condition)["cells"]
        if not isinstance(cells, list | tuple | set | frozenset):
            raise UnsupportedLevel(f"a condition with cells in a {type(cells).__name__} is not simulated")
        found = {(*cell, ANY_DIRECTION) for cell in cells if isinstance(cell, tuple) and len(cell) == 2}
        return STOPPED_AT, _steps_of(condition), lambda agent: found
    if depends_on_its_arguments_only(condition):
        return OWN_CONDITION, _ALL_STEPS, _no_places
    name = getattr(condition, "__qualname__", type(condition).__name__)
    raise UnsupportedLevel(f"the condition {name} is not simulated: it is no function of its arguments alone")


def _was_made_by(factory: Callable, condition: Any) -> bool:
    """Whether a condition is the function that one of flatland's functions defines and returns."""
    code = getattr(condition, "__code__", None)
    return code is not None and code in factory.__code__.co_consts


def _kept_by(condition: Callable) -> dict[str, Any]:
    """The variables that a function has kept from where it was defined."""
    code: Any = condition.__code__
    cells: Any = condition.__closure__
    return {name: cell.cell_contents for name, cell in zip(code.co_freevars, cells, strict=True)}


def _steps_of(condition: Callable) -> tuple[float, float]:
    kept = _kept_by(condition)
    return kept["start_step_incl"], kept["end_step_excl"]


def _no_places(agent: Any) -> Places:
    return set()


def _waypoints_of(agent: Any) -> Places:
    """Start and target are among them."""
    waypoints = (waypoint for stop in agent.waypoints for waypoint in stop)
    return {(*waypoint.position, int(waypoint.direction)) for waypoint in waypoints if waypoint.direction is not None}


def _cells_of_stops(agent: Any) -> Places:
    return {(*waypoint.position, ANY_DIRECTION) for stop in agent.waypoints[1:-1] for waypoint in stop}


def _generator_column(generator: ParamMalfunctionGen) -> tuple[float, ...]:
    """A column of ``generators``; its durations must be such that they can be drawn."""
    probability, shortest, longest = generator._malfunction_prob, generator.MFP.min_duration, generator.MFP.max_duration
    if probability > 0 and not -OPEN_END < shortest <= longest < OPEN_END:
        raise UnsupportedLevel(f"malfunctions of at least {shortest} and at most {longest} steps cannot be drawn")
    return probability, int(shortest), int(longest), generator._rand_idx, generator._cached_rand is not None


def _streams_of(env: RailEnv, generators: list[ParamMalfunctionGen]) -> tuple[np.ndarray, np.ndarray]:
    """``keys`` and ``positions`` of ``EffectArrays``."""
    first_ahead = first_stream_ahead(len(generators))
    n_streams = first_ahead + sum(generator._cached_rand is None for generator in generators)
    keys = np.zeros((n_streams, N_WORDS), dtype=np.uint32)
    positions = np.zeros((n_streams, N_POSITIONS), dtype=np.int64)
    if not generators:
        return keys, positions
    keys[OWN_STREAM], positions[OWN_STREAM, WORD] = _key_and_word(env.np_random.get_state(legacy=False))
    for number, generator in enumerate(generators):
        if generator._cached_rand is not None and generator._malfunction_prob > 0:
            current = current_stream_of(number)
            key, word = _key_and_word(generator._cached_random_state)
            for stream in (current, beginning_stream_of(number)):
                keys[stream], positions[stream, WORD] = key, word
            skip_words(keys, positions, current, WORDS_OF_A_DOUBLE * (generator._rand_idx + 1))
    before = OWN_STREAM
    for stream in range(first_ahead, n_streams):
        keys[stream], positions[stream] = keys[before], positions[before]
        skip_words(keys, positions, stream, WORDS_OF_A_MILLION)
        before = stream
    return keys, positions


def _key_and_word(state: Any) -> tuple[Any, int]:
    """Of numpy's MT19937, in one of the two forms in which numpy gives its state."""
    if isinstance(state, dict) and state["bit_generator"] == "MT19937":
        return state["state"]["key"], state["state"]["pos"]
    if isinstance(state, tuple | list) and state[0] == "MT19937":
        return state[1], state[2]
    raise UnsupportedLevel("effects that depend on the trains are simulated with random numbers of MT19937 only")
