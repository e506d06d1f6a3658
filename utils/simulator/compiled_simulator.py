"""``CompiledSimulator``: flatland's ``RailEnv.step`` for training, about a hundred times faster.

It plays a level that a ``RailEnv`` has generated, with the same random stream of malfunctions, and every number that
it shows is the one that ``RailEnv`` would show: the tests play both side by side. Levels that need something
it cannot do are refused. It makes no observations; those are made from its ``state``.
"""

import warnings
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from flatland.envs.rail_env import RailEnv
from numpy.typing import ArrayLike, NDArray

from utils.simulator.effect_steps import EffectArrays, begin_malfunctions
from utils.simulator.effects import effect_arrays_of, generator_of, is_unconditional, malfunction_effects_of
from utils.simulator.halts import halts_of
from utils.simulator.malfunction_draws import draw_malfunctions
from utils.simulator.own_conditions import OwnConditions
from utils.simulator.rail_rewards import CLIPS_LOSSES, reward_stops_and_end
from utils.simulator.rail_state import RailState
from utils.simulator.rail_step import ACCELERATION, BRAKING, N_CLAIMS, N_PLANS, StepArrays, step_trains
from utils.simulator.reward_weights import weights_of
from utils.simulator.unsupported_level import UnsupportedLevel
from utils.system.compiled import Arrays

# The version of flatland-rl against which the tests have shown this simulator to be equal.
PROVEN_FLATLAND_VERSION = "4.3.0"

_ACTION_TYPE = np.dtype(np.int64)


@lru_cache(maxsize=1)
def warn_if_flatland_is_unproven() -> None:
    """Warn, once in a process, if the installed flatland-rl is not the one that the simulator was compared with."""
    installed = version("flatland-rl")
    if installed != PROVEN_FLATLAND_VERSION:
        warnings.warn(
            f"the compiled simulator was proven equal to flatland-rl {PROVEN_FLATLAND_VERSION}, but {installed} is "
            "installed: run tests/simulator/test_compiled_simulator.py, or train with flatland-rl's own simulator",
            stacklevel=2,
        )


class CompiledSimulator:
    """One episode of one level.

    Attributes:
        state: the level and its trains. It is filled in place by ``step``.
        rewards: float64 [trains], those of the last step; filled in place by ``step``.
        done: whether the episode is over.
        plans, malfunctions, halts, effects, own_conditions: what the steps work with, beyond ``state``.
    """

    def __init__(
        self,
        state: RailState,
        plans: NDArray[np.int32],
        malfunctions: NDArray[np.int32],
        halts: NDArray[np.float64],
        effects: EffectArrays,
        own_conditions: OwnConditions | None = None,
    ) -> None:
        """Takes over the arrays, which ``from_env`` makes; ``rail_step`` and ``effect_steps`` say what they hold."""
        self.state = state
        self.rewards = np.zeros(state.n_trains, dtype=np.float64)
        self.done = False
        self.plans = plans
        self.malfunctions = malfunctions
        self.halts = halts
        self.effects = effects
        self.own_conditions = own_conditions
        self._n_effects = effects.effects.shape[1]
        self._effect_arrays: Arrays = tuple(effects)
        self._shape = (state.n_trains,)
        claims = np.zeros((2 * state.grid.size, N_CLAIMS), dtype=np.int32)
        self._step_arrays: Arrays = tuple(StepArrays(plans, claims, state.reward_weights, self.rewards))

    @classmethod
    def from_env(cls, env: RailEnv) -> "CompiledSimulator":
        """The twin of an environment; the environment itself is left as it is.

        Both go on independently: played with the same actions they show the same.

        Args:
            env: at any step before the last.

        Raises:
            UnsupportedLevel: the environment needs something that the simulator cannot do.
        """
        warn_if_flatland_is_unproven()
        weights = weights_of(env.rewards)
        _check_environment(env)
        effects = malfunction_effects_of(env)
        try:
            state = RailState.from_env(env)
        except ValueError as error:
            raise UnsupportedLevel(str(error)) from error
        plans = np.zeros((N_PLANS, state.n_trains), dtype=np.int32)
        units = state.denominator.tolist()
        plans[ACCELERATION] = [int(Fraction(env.acceleration_delta) * unit) for unit in units]
        plans[BRAKING] = [int(Fraction(env.braking_delta) * unit) for unit in units]
        halts = halts_of(env, state.stops, weights)
        if len(effects) == 1 and is_unconditional(effects[0]):
            malfunctions = draw_malfunctions(env, generator_of(effects.pop()))
        else:
            malfunctions = np.zeros((state.max_episode_steps, state.n_trains), dtype=np.int32)
        return cls(state, plans, malfunctions, halts, *effect_arrays_of(env, effects))

    @property
    def clips_losses(self) -> bool:
        """See :class:`~utils.simulator.simulator.Simulator`."""
        return bool(self.state.reward_weights[CLIPS_LOSSES])

    def losses(self, train_rewards: NDArray[np.float64]) -> None:
        """Trainings do not tell causes apart."""

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
        if self._n_effects:
            self._begin_malfunctions()
        self.done = step_trains(state.arrays, self._step_arrays, self.malfunctions, actions, state.elapsed_steps)
        if state.has_stops:
            state.follow_stops()
        if state.has_stops or self.done:
            halts, weights, rewards = self.halts, state.reward_weights, self.rewards
            arguments = state.arrays, state.stop_arrays, state.served, halts, weights
            reward_stops_and_end(*arguments, state.elapsed_steps, self.done, rewards)
        return self.rewards, self.done

    def _begin_malfunctions(self) -> None:
        """Those that depend on what the trains do."""
        state = self.state
        if self.own_conditions is not None:
            self.own_conditions.begin_malfunctions(state, self.effects)
        else:
            begin_malfunctions(state.dynamic, self._effect_arrays, state.elapsed_steps, 0, self._n_effects)


def _as_whole_numbers(actions: ArrayLike) -> NDArray[np.int64]:
    """The actions as a contiguous array of int64."""
    given = np.asarray(actions)
    if given.dtype.kind not in "iu":
        raise ValueError(f"actions must be whole numbers, not {given.dtype}")
    return np.ascontiguousarray(given, dtype=_ACTION_TYPE)


def _check_environment(env: RailEnv) -> None:
    """Raises ``UnsupportedLevel`` for what shows in the attributes of the environment."""
    if type(env).step is not RailEnv.step:
        raise UnsupportedLevel(f"{type(env).__name__} has a step of its own, which is not simulated")
    if env.dones is None or env.dones["__all__"]:
        raise UnsupportedLevel("the environment is not in an episode: reset it first")
    if not env.remove_agents_at_target:
        raise UnsupportedLevel("trains that stay on the map at their target are not simulated")
    if env.rewards.collision_factor != 0 and not isinstance(env.rewards.collision_factor, float):
        # flatland's rewards are exact fractions then, which are rounded at another place.
        raise UnsupportedLevel("the collision factor of the rewards must be a float")
