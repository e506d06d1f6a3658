"""``CompiledSimulator``: flatland's ``RailEnv.step`` for training, about a hundred times faster.

It plays a level that a ``RailEnv`` has generated, with the same random stream of malfunctions, and every number that
it shows is the one that ``RailEnv`` would show: the tests play both side by side. Levels that need something
it cannot do are refused. It makes no observations; those are made from its ``state``.
"""

import warnings
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from flatland.envs.rail_env import RailEnv
from flatland.envs.rewards import BaseDefaultRewards, DefaultRewards, DelayRewards, ECML2026Rewards, Rewards
from numpy.typing import ArrayLike, NDArray

from utils.simulator.malfunction_draws import draw_malfunctions, malfunction_generator_of
from utils.simulator.rail_losses import clips_losses
from utils.simulator.rail_rewards import (
    CANCELLATION_FACTOR,
    CANCELLATION_TIME_BUFFER,
    CLIPS_LOSSES,
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
    N_CLAIMS,
    N_PLANS,
    StepArrays,
    finish_trains,
    step_trains,
)
from utils.simulator.simulator import UnsupportedLevel
from utils.system.compiled import Arrays

# The version of flatland-rl against which the tests have shown this simulator to be equal.
PROVEN_FLATLAND_VERSION = "4.3.0"

_REWARDS = (DefaultRewards, ECML2026Rewards, DelayRewards)  # all DefaultRewards, with different parameters
_ACTION_TYPE = np.dtype(np.int64)
_UNSEEN = (NOT_HERE, 0, NO_VISIT, NO_VISIT)  # the last rows of a column of ``halts``
_NO_PLACE = ((-1, -1), -2)  # no train is ever there, not even one off the map


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
        """Takes over the arrays, which ``from_env`` makes; see ``rail_step`` for what they hold."""
        self.state = state
        self.rewards = np.zeros(state.n_trains, dtype=np.float64)
        self.done = False
        self.plans = plans
        self.malfunctions = malfunctions
        self.halts = halts
        self.weights = weights
        self._shape = (state.n_trains,)
        claims = np.zeros((2 * state.grid.size, N_CLAIMS), dtype=np.int32)
        self._step_arrays: Arrays = tuple(StepArrays(plans, claims, halts, weights, self.rewards))

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
        weights = weights_of(env.rewards)
        _check_environment(env, at_start=malfunctions is None)
        generator = malfunction_generator_of(env)
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
            malfunctions = draw_malfunctions(env, generator)
        return cls(state, plans, malfunctions, halts, weights)

    @property
    def clips_losses(self) -> bool:
        """See :class:`~utils.simulator.simulator.Simulator`."""
        return bool(self.weights[CLIPS_LOSSES])

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
        self.done = step_trains(state.arrays, self._step_arrays, self.malfunctions, actions, state.elapsed_steps)
        if self.done:
            finish_trains(state.arrays, self._step_arrays, state.elapsed_steps)
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
    if env.rewards.collision_factor != 0 and not isinstance(env.rewards.collision_factor, float):
        # flatland's rewards are exact fractions then, which are rounded at another place.
        raise UnsupportedLevel("the collision factor of the rewards must be a float")


def weights_of(rewards: Rewards) -> NDArray[np.float64]:
    """The parameters of flatland's ``DefaultRewards``, float64 [N_WEIGHTS].

    Raises:
        UnsupportedLevel: these are rewards of another kind.
    """
    if type(rewards) not in _REWARDS or type(rewards._proxy) is not BaseDefaultRewards:
        raise UnsupportedLevel(
            f"rewards of the type {type(rewards).__name__} are not simulated, "
            f"only {', '.join(known.__name__ for known in _REWARDS)}"
        )
    weights = np.empty(N_WEIGHTS, dtype=np.float64)
    weights[CANCELLATION_FACTOR] = rewards.cancellation_factor
    weights[CANCELLATION_TIME_BUFFER] = rewards.cancellation_time_buffer
    weights[NOT_REACHED_MINIMUM_PENALTY] = rewards.target_not_reached_minimum_penalty
    weights[NOT_SERVED_PENALTY] = rewards.intermediate_not_served_penalty
    weights[LATE_ARRIVAL_FACTOR] = rewards.intermediate_late_arrival_penalty_factor
    weights[EARLY_DEPARTURE_FACTOR] = rewards.intermediate_early_departure_penalty_factor
    weights[COLLISION_FACTOR] = rewards.collision_factor
    weights[CLIPS_LOSSES] = clips_losses(rewards)
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
    return [(position, direction) for position, direction in configurations if direction is not None] or [_NO_PLACE]
