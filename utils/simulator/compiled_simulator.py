"""``CompiledSimulator``: flatland's ``RailEnv.step`` for training, about a hundred times faster.

It plays a level that a ``RailEnv`` has generated, with the same random stream of malfunctions, and every number that
it shows is the one that ``RailEnv`` would show: the tests play both side by side. Levels that need something
it cannot do are refused. It makes no observations; those are made from its ``state``.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version
from typing import Any

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
from flatland.envs.rewards import BaseDefaultRewards, DefaultRewards, DelayRewards, ECML2026Rewards, Rewards
from numpy.typing import ArrayLike, NDArray

from utils.simulator.rail_rewards import (
    CANCELLATION_FACTOR,
    CANCELLATION_TIME_BUFFER,
    COLLISION_FACTOR,
    EARLY_DEPARTURE_FACTOR,
    LATE_ARRIVAL_FACTOR,
    N_HALTS,
    N_WEIGHTS,
    NO_VISIT,
    NOT_HERE,
    NOT_REACHED_MINIMUM_PENALTY,
    NOT_SERVED_PENALTY,
)
from utils.simulator.rail_state import RailState
from utils.simulator.rail_step import (
    ACCELERATION,
    BRAKING,
    END_OF_HALTS,
    FIRST_HALT,
    N_PLANS,
    finish_trains,
    step_trains,
)
from utils.simulator.simulator import UnsupportedLevel
from utils.system.compiled import compiled, compiled_helper

# The version of flatland-rl against which the tests have shown this simulator to be equal.
PROVEN_FLATLAND_VERSION = "4.3.0"

_REWARDS = (DefaultRewards, ECML2026Rewards, DelayRewards)  # all DefaultRewards, with different parameters
_MALFUNCTION_GENERATORS = (ParamMalfunctionGen, NoMalfunctionGen, FileMalfunctionGen)
_ACTION_TYPE = np.dtype(np.int64)
_UNSEEN = (NOT_HERE, 0, NO_VISIT, NO_VISIT)  # the last rows of a column of ``halts``
_NOWHERE = ((-1, -1), -2)  # no train is ever there, not even one off the map


@lru_cache(maxsize=1)
def warn_if_flatland_is_unproven() -> None:
    """Warn, once in a process, if the installed flatland-rl is not the one that the simulator was compared with."""
    installed = version("flatland-rl")
    if installed != PROVEN_FLATLAND_VERSION:
        warnings.warn(
            f"the compiled simulator was proven equal to flatland-rl {PROVEN_FLATLAND_VERSION}, but {installed} is "
            "installed: run tests/test_rail_simulator.py, or train with flatland-rl's own simulator",
            stacklevel=2,
        )


class CompiledSimulator:
    """One episode of one level.

    Attributes:
        state: the level and its trains. It is filled in place by ``step``.
        rewards: float64 [trains], those of the last step; filled in place by ``step``.
        done: whether the episode is over.
        plans, malfunctions, halts, weights: what the compiled steps work with, beyond ``state``.
    """

    def __init__(
        self,
        state: RailState,
        plans: NDArray[np.int32],
        malfunctions: NDArray[np.int32],
        halts: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:
        """Takes over the arrays, which ``from_env`` makes; see ``rail_step.step_trains`` for what they hold."""
        self.state = state
        self.rewards = np.zeros(state.n_trains, dtype=np.float64)
        self.done = False
        self.plans = plans
        self.malfunctions = malfunctions
        self.halts = halts
        self.weights = weights
        self._shape = (state.n_trains,)
        self._step_tables = (
            state.grid,
            state.level_free,
            state.constants,
            state.dynamic,
            plans,
            np.zeros((2 * state.grid.size, 2), dtype=np.int32),
            malfunctions,
            halts,
            weights,
            self.rewards,
        )
        self._end_tables = (
            state.distance_map,
            state.constants,
            state.dynamic,
            plans,
            halts,
            weights,
            self.rewards,
        )

    @classmethod
    def from_env(cls, env: RailEnv, malfunctions: NDArray[np.int32] | None = None) -> "CompiledSimulator":
        """The twin of an environment; the environment itself is left as it is.

        Both go on independently: played with the same actions they show the same.

        Args:
            env: reset and not stepped since, unless ``malfunctions`` are given: then at any step before the last.
            malfunctions: int32 [max_episode_steps, trains], how long the malfunctions last that begin in each step,
                0 for none; instead of those that the environment's own random numbers would bring.

        Raises:
            UnsupportedLevel: the environment needs something that the simulator cannot do.
        """
        warn_if_flatland_is_unproven()
        _check_environment(env, at_start=malfunctions is None)
        generator = _malfunction_generator_of(env)
        try:
            state = RailState.from_env(env)
        except ValueError as error:
            raise UnsupportedLevel(str(error)) from error
        plans = np.zeros((N_PLANS, state.n_trains), dtype=np.int32)
        units = state.denominator.tolist()
        plans[ACCELERATION] = [int(Fraction(env.acceleration_delta) * unit) for unit in units]
        plans[BRAKING] = [int(Fraction(env.braking_delta) * unit) for unit in units]
        halts, plans[FIRST_HALT], plans[END_OF_HALTS] = _halts_of(env)
        if malfunctions is None:
            malfunctions = _draw_malfunctions(env, generator)
        return cls(state, plans, malfunctions, halts, _weights_of(env.rewards))

    def step(self, actions: ArrayLike) -> tuple[NDArray[np.float64], bool]:
        """Does what ``RailEnv.step`` does.

        Args:
            actions: whole numbers [trains]; int64 costs least. What is no action counts as doing nothing.

        Returns:
            The rewards, float64 [trains], in an array that the next step writes over, and whether the episode is over.

        Raises:
            ValueError: there is not one whole number for each train.
            RuntimeError: the episode is over.
        """
        if self.done:
            raise RuntimeError("the episode is over; a new one needs a new simulator")
        # Compiled code takes actions in one form only; asking whether they have it costs less than converting.
        if type(actions) is not np.ndarray or actions.dtype is not _ACTION_TYPE or not actions.flags.c_contiguous:
            actions = _as_whole_numbers(actions)
        if actions.shape != self._shape:
            raise ValueError(f"actions must have the shape {self._shape}, one for each train, not {actions.shape}")
        state = self.state
        state.elapsed_steps += 1
        self.done = step_trains(*self._step_tables, actions, state.elapsed_steps)
        if self.done:
            finish_trains(*self._end_tables, state.elapsed_steps)
        return self.rewards, self.done


def _as_whole_numbers(actions: ArrayLike) -> NDArray[np.int64]:
    """The actions as a contiguous array of int64.

    Raises:
        ValueError: they are no whole numbers.
    """
    given = np.asarray(actions)
    if given.dtype.kind not in "iu":
        raise ValueError(f"actions must be whole numbers, not {given.dtype}")
    return np.ascontiguousarray(given, dtype=_ACTION_TYPE)


def _check_environment(env: RailEnv, at_start: bool) -> None:
    """Raises ``UnsupportedLevel`` for what shows in the attributes of the environment."""
    if type(env).step is not RailEnv.step:
        raise UnsupportedLevel(f"{type(env).__name__} has a step of its own, which is not simulated")
    if env.dones is None or (any(env.dones.values()) if at_start else env.dones["__all__"]):
        raise UnsupportedLevel("the environment is not in an episode: reset it first")
    if at_start and env._elapsed_steps != 0:
        raise UnsupportedLevel("the environment is not at the beginning of an episode: reset it first")
    if env._elapsed_steps != 0 and any(len(agent.waypoints) > 2 for agent in env.agents):
        raise UnsupportedLevel("trains with intermediate stops can be simulated from the start of an episode only")
    if not env.remove_agents_at_target:
        raise UnsupportedLevel("trains that stay on the map at their target are not simulated")
    rewards = env.rewards
    if type(rewards) not in _REWARDS or type(rewards._proxy) is not BaseDefaultRewards:
        raise UnsupportedLevel(
            f"rewards of the type {type(rewards).__name__} are not simulated, "
            f"only {', '.join(known.__name__ for known in _REWARDS)}"
        )
    if rewards.collision_factor != 0 and not isinstance(rewards.collision_factor, float):
        # flatland's rewards are exact fractions then, which are rounded at another place.
        raise UnsupportedLevel("the collision factor of the rewards must be a float")


def _malfunction_generator_of(env: RailEnv) -> ParamMalfunctionGen:
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


def _weights_of(rewards: DefaultRewards) -> NDArray[np.float64]:
    """The parameters of the rewards, float64 [N_WEIGHTS]."""
    weights = np.empty(N_WEIGHTS, dtype=np.float64)
    weights[CANCELLATION_FACTOR] = rewards.cancellation_factor
    weights[CANCELLATION_TIME_BUFFER] = rewards.cancellation_time_buffer
    weights[NOT_REACHED_MINIMUM_PENALTY] = rewards.target_not_reached_minimum_penalty
    weights[NOT_SERVED_PENALTY] = rewards.intermediate_not_served_penalty
    weights[LATE_ARRIVAL_FACTOR] = rewards.intermediate_late_arrival_penalty_factor
    weights[EARLY_DEPARTURE_FACTOR] = rewards.intermediate_early_departure_penalty_factor
    weights[COLLISION_FACTOR] = rewards.collision_factor
    return weights


def _halts_of(env: RailEnv) -> tuple[NDArray[np.float64], list[int], list[int]]:
    """The ``halts`` of ``rail_rewards`` and, for each train, its first column in them and the one after its last.

    Raises:
        UnsupportedLevel: a stop has no times, or the rewards remember the stops of an earlier episode.
    """
    columns: list[tuple[float, ...]] = []
    first, end = [], []
    for agent in env.agents:
        first.append(len(columns))
        stops = zip(  # as flatland's own loop, which does not mind lists that are too short either
            agent.waypoints[1:-1],
            agent.waypoints_latest_arrival[1:-1],
            agent.waypoints_earliest_departure[1:-1],
            strict=False,
        )
        for number, (waypoints, latest_arrival, earliest_departure) in enumerate(stops):
            if latest_arrival is None or earliest_departure is None:
                raise UnsupportedLevel(f"stop {number + 1} of train {agent.handle} has no time of arrival or departure")
            for (row, column), direction in _configurations_of(waypoints):
                columns.append((number, row, column, direction, latest_arrival, earliest_departure, *_UNSEEN))
        end.append(len(columns))
    if columns and any(env.rewards._proxy.arrivals.values()):
        raise UnsupportedLevel("the rewards remember the stops of an earlier episode: use a new environment for each")
    return np.array(columns, dtype=np.float64).reshape(-1, N_HALTS).T.copy(), first, end


def _configurations_of(waypoints: list[Any]) -> list[tuple[tuple[int, int], int]]:
    """Where a stop can be served; a stop that no train can ever serve keeps one place all the same."""
    configurations = [Rewards._sanitize_waypoint(waypoint) for waypoint in waypoints]
    return [(position, direction) for position, direction in configurations if direction is not None] or [_NOWHERE]


def malfunction_chance(env: RailEnv) -> tuple[float, int, int]:
    """How likely a malfunction begins in a step for a train that has none, and its least and greatest length in steps.

    The length is the one that the tables of malfunctions tell.

    Raises:
        UnsupportedLevel: the environment's malfunctions are of a kind that the simulator does not know.
    """
    generator = _malfunction_generator_of(env)
    parameters = generator.MFP
    return float(generator._malfunction_prob), parameters.min_duration + 1, parameters.max_duration + 1


def _draw_malfunctions(env: RailEnv, generator: ParamMalfunctionGen) -> NDArray[np.int32]:
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
            _skip_draws(random, n_skipped)
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


def _skip_draws(random: np.random.RandomState, n_skipped: int) -> None:
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
