"""Conditions of malfunctions that are functions of a user's own: they are asked about copies of flatland's trains."""

import copy
from collections.abc import Callable
from enum import Enum
from fractions import Fraction
from inspect import isbuiltin, isfunction, ismodule
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
from flatland.envs.agent_utils import EnvAgent
from flatland.envs.rail_env import RailEnv
from flatland.envs.step_utils.states import TrainState

from utils.simulator.effect_steps import EffectArrays, begin_malfunctions
from utils.simulator.rail_state import RailState
from utils.system.compiled import Arrays


class AskedCondition(NamedTuple):
    """A function that takes a train and the number of a step, and the columns of its effect and condition."""

    effect: int
    condition: int
    function: Callable[[EnvAgent, int], bool]


class OwnConditions:
    """What ``begin_malfunctions`` does, for effects of which some have conditions of a user's own.

    It is slower: the copies are kept equal to what flatland's trains would be in all that changes in an episode.

    Args:
        env: is copied from, and left as it is.
        asked: the conditions, ordered by their effects.
    """

    def __init__(self, env: RailEnv, asked: list[AskedCondition]) -> None:
        self._agents = copy.deepcopy(env.agents)
        self._asked = asked

    def begin_malfunctions(self, state: RailState, effects: EffectArrays) -> None:
        """At the beginning of a step, in place."""
        arrays: Arrays = tuple(effects)
        elapsed_steps, first = state.elapsed_steps, 0
        for asked in self._asked:
            begin_malfunctions(state.dynamic, arrays, elapsed_steps, first, asked.effect)
            first = asked.effect
            self._follow(state)  # the effects before may have broken trains
            answers = [bool(asked.function(agent, elapsed_steps)) for agent in self._agents]
            effects.place_ranges[1, asked.condition] = answers
        begin_malfunctions(state.dynamic, arrays, elapsed_steps, first, effects.effects.shape[1])
        for agent in self._agents:  # as it will be when the next step begins
            agent.old_configuration = agent.current_configuration

    def _follow(self, state: RailState) -> None:
        """The opposite of ``RailState.update``."""
        columns = state.dynamic.T.tolist()
        for agent, denominator, values in zip(self._agents, state.denominator.tolist(), columns, strict=True):
            train_state, previous, row, column, direction, distance, speed, broken, n_broken, arrival, *arrived = values
            agent.state_machine._state = TrainState(train_state)
            agent.state_machine.previous_state = None if previous < 0 else TrainState(previous)
            agent.current_configuration = None if row < 0 else ((row, column), direction)
            agent.speed_counter._distance = Fraction(distance, denominator)
            agent.speed_counter._speed = Fraction(speed, denominator)
            agent.malfunction_handler._malfunction_down_counter = broken
            agent.malfunction_handler.num_malfunctions = n_broken
            agent.arrival_time = None if arrival < 0 else arrival
            agent.target_configuration = None if arrived[0] < 0 else ((arrived[0], arrived[1]), arrived[2])


def depends_on_its_arguments_only(function: Any) -> bool:
    """Whether nothing that belongs to an environment shows in what a function refers to."""
    return isfunction(function) and _is_fixed(function, set())


def _is_fixed(value: Any, seen: set[int]) -> bool:
    if id(value) in seen or isbuiltin(value) or ismodule(value):
        return True
    seen.add(id(value))
    if isinstance(value, tuple | list | set | frozenset):
        return all(_is_fixed(part, seen) for part in value)
    if isinstance(value, dict):
        return all(_is_fixed(part, seen) for part in value.values())
    if isfunction(value):
        kept = [cell.cell_contents for cell in value.__closure__ or ()]
        kept += [value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__]
        return _is_fixed([*kept, value.__defaults__, value.__kwdefaults__], seen)
    return value is None or isinstance(value, Number | str | bytes | Enum | type | np.ndarray)
