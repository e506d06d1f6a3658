"""Planning while it plays: tries on the compiled simulator what would come of other plans, and takes the best.

Every few steps the state of the level is copied into a compiled simulator, and *plans* are played there to the end of
the episode. A plan is a rule (``rule_rollouts``) with some trains held back, given way to, or sent another way;
the first one is the rule as it is. The plan that is followed is changed a little, again and again; a change stays if
the episode would end better with it. That is asked in the *expected* future first, in which no train breaks down any
more, and only if it is better there in a few sampled ones: malfunctions drawn from the level's rate and durations,
never from its own random numbers. One look at the expected future rejects most changes, so many can be tried: what is
there to be gained is mostly who goes first, now, and hardly depends on what breaks later. When something breaks, the
next search finds out what is better then.

Where there is no plan, because the time did not suffice or the level cannot be planned, the trained policy plays.

Sources: rollouts that improve a policy, Bertsekas, Tsitsiklis and Wu 1997; replanning for the expected future,
certainty equivalence, Bertsekas, Dynamic Programming and Optimal Control, section 6.1.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from flatland.envs.rail_env import RailEnv
from numpy.typing import NDArray

from reinforcement_learning.playing.policy import Policy, drive
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.rules.rule_rollouts import (
    AVOIDED,
    HANDICAP,
    HELD_UNTIL,
    begin,
    choose_actions,
    fill_branches,
    no_variation,
    play_of,
    roll_out,
    worth,
)
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.malfunction_draws import malfunction_chance, sample_malfunctions
from utils.simulator.rail_state import DONE, READY_TO_DEPART, ROW, RailState
from utils.simulator.simulator import FlatlandSimulator, UnsupportedLevel
from utils.system.seeds import Stream, generator

Clock = Callable[[], float]


@dataclass(frozen=True)
class PlanningOptions:
    """How much is tried, and when a plan counts as better.

    Attributes:
        seconds: most that a step may take to plan. What was found by then is followed; the first plan must be done.
        every: steps from one search to the next.
        n_tries: changes of the plan that a search tries.
        n_futures: sampled futures; a change must be better on average over them and the expected one.
        min_gain: by how much, in the units of ``completion_weight``; below lies what is only luck.
        completion_weight: what the arrival of all trains counts beside the normalized score.
    """

    seconds: float
    every: int = 3
    n_tries: int = 60
    n_futures: int = 2
    min_gain: float = 0.002
    completion_weight: float = 0.3

    @classmethod
    def of_seconds(cls, seconds: float) -> "PlanningOptions | None":
        """The usual options with that many seconds a step; None, no planning, for 0."""
        return cls(seconds) if seconds > 0 else None


def seconds_to_plan(text: str) -> float:
    """What ``--plan_seconds`` and FLATLAND_PLAN_SECONDS may be.

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 on")
    return seconds


class Live(Protocol):
    """A level in play on flatland-rl itself: :class:`~utils.simulator.simulator.FlatlandSimulator` is one."""

    @property
    def env(self) -> RailEnv:
        """The environment."""
        ...

    @property
    def state(self) -> RailState:
        """Its state; the same object for the whole episode."""
        ...


class _OutOfTimeError(Exception):
    """A search has used up its seconds."""


class Planner:
    """Drives all trains of one level: a :class:`~.heuristics.Rule`.

    It draws the same random numbers for each level and step, so it plays the same as long as its time suffices.

    Args:
        policy, observer: what plays where there is no plan.
        options: see there.
        clock: seconds.
    """

    def __init__(
        self, policy: Policy, observer: Observer, options: PlanningOptions, clock: Clock = time.perf_counter
    ) -> None:
        self._policy = policy
        self._observer = observer
        self._options = options
        self._clock = clock
        self._search: _Search | None = None
        self._begun = False
        self._next_search = 0  # step
        self._pause = options.every
        self.variation: NDArray[np.int64] | None = None
        """The plan that is followed; None as long as there is none and the policy plays."""

    def act(self, simulator: Live) -> NDArray[np.int64]:
        """An action for each train, int64 ``[trains]``; to be asked at each step of the level."""
        state = simulator.state
        if not self._begun:
            self._begun = True
            self._search = _Search.of_level(simulator, self._options, self._clock)
        if self._search is None:
            return drive(self._policy, self._observer, state)
        if state.elapsed_steps >= self._next_search and _has_something_to_plan(state):
            self._plan(self._search, state)
        if self.variation is None:
            return drive(self._policy, self._observer, state)
        return self._search.actions(state, self.variation)

    def _plan(self, search: "_Search", state: RailState) -> None:
        try:
            self.variation = search.better_plan(state, self.variation)
        except _OutOfTimeError:
            self._pause *= 2  # on a level that is too large for the time it is hardly tried again
        self._next_search = state.elapsed_steps + self._pause


def _has_something_to_plan(state: RailState) -> bool:
    return bool(((state.row >= 0) | (state.state == READY_TO_DEPART)).any())


class _Search:
    """Tries plans on one level."""

    def __init__(
        self,
        model: CompiledSimulator,
        chance: tuple[float, int, int],
        options: PlanningOptions,
        clock: Clock,
    ) -> None:
        self._model = model
        self._chance = chance
        self._options = options
        self._clock = clock
        self._play = play_of(model)
        self._deadline = 0.0
        # compiled code does not look at the clock
        self._steps_at_a_time = max(1, 1000 // model.state.n_trains)

    @classmethod
    def of_level(cls, simulator: Live, options: PlanningOptions, clock: Clock) -> "_Search | None":
        """None for a level that cannot be planned: one that the compiled simulator does not know, or with stops."""
        state = simulator.state
        no_malfunctions = np.zeros((state.max_episode_steps, state.n_trains), dtype=np.int32)
        try:
            model = CompiledSimulator.from_env(simulator.env, no_malfunctions)
            chance = malfunction_chance(simulator.env)
        except UnsupportedLevel:
            return None
        if model.halts.shape[1] > 0:
            return None
        return cls(model, chance, options, clock)

    def actions(self, state: RailState, variation: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the varied rule does in a state, int64 ``[trains]``."""
        begin(self._play, state.dynamic, self._model.plans)
        choose_actions(self._play, variation, state.elapsed_steps)
        return self._play.actions.copy()

    def better_plan(self, state: RailState, followed: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The plan to follow from here on.

        Raises:
            _OutOfTimeError: the time was up before the first plan was made, or before one could be compared with it.
        """
        self._deadline = self._clock() + self._options.seconds
        random = generator(0, Stream.PLANNING, state.elapsed_steps)
        futures = self._draw_futures(random, state)
        rule = no_variation(state.n_trains)
        plan = rule if followed is None else followed
        values = np.array([self._value_of_plan(state, plan, future) for future in futures])
        try:
            for number in range(1 if np.array_equal(plan, rule) else 0, self._options.n_tries):
                # what was planned may be out of date
                another = rule if number == 0 else self._vary(random, plan, state)
                values_of_another = self._values_if_better(state, another, futures, values)
                if values_of_another is not None:
                    plan, values = another, values_of_another
        except _OutOfTimeError:
            if followed is None:  # the trained policy is better than a plan that hardly anything was tried for
                raise
        return plan

    def _values_if_better(
        self,
        state: RailState,
        plan: NDArray[np.int64],
        futures: NDArray[np.int32],
        values: NDArray[np.float64],
    ) -> NDArray[np.float64] | None:
        """What comes of a plan in each future, float64 ``[futures]``, if it is better than ``values``; else None."""
        expected = self._value_of_plan(state, plan, futures[0])
        if expected <= values[0]:
            return None
        of_plan = np.array([expected, *(self._value_of_plan(state, plan, future) for future in futures[1:])])
        return of_plan if (of_plan - values).mean() > self._options.min_gain else None

    def _value_of_plan(self, state: RailState, variation: NDArray[np.int64], future: NDArray[np.int32]) -> float:
        """What comes of a plan in a future: normalized score and share of arrived trains, weighted."""
        play, over, elapsed_steps, total = self._play, False, state.elapsed_steps, 0.0
        begin(play, state.dynamic, self._model.plans)
        while not over:
            self._check_time()
            over, elapsed_steps, rewards = roll_out(play, variation, future, elapsed_steps, self._steps_at_a_time)
            total += rewards
        return worth(total, play, state.max_episode_steps, self._options.completion_weight)

    def _draw_futures(self, random: np.random.Generator, state: RailState) -> NDArray[np.int32]:
        """Malfunctions to come, int32 ``[1 + n_futures, max_episode_steps, trains]``; none in the first."""
        n_futures = 1 + self._options.n_futures
        futures = np.zeros((n_futures, state.max_episode_steps, state.n_trains), dtype=np.int32)
        for future in futures[1:]:
            sample_malfunctions(random, self._chance, future[state.elapsed_steps :])
        return futures

    def _vary(self, random: np.random.Generator, variation: NDArray[np.int64], state: RailState) -> NDArray[np.int64]:
        """The plan with one or two changes."""
        varied = variation.copy()
        under_way = np.flatnonzero(state.state != DONE)
        for _ in range(1 if random.random() < 0.6 else 2):
            handle = int(random.choice(under_way))
            kind = random.random()
            if kind < 0.5:
                varied[HELD_UNTIL, handle] = self._another_hold(random, varied[HELD_UNTIL, handle], handle, state)
            elif kind < 0.75:
                varied[HANDICAP, handle] = random.choice([-1000, -20, 0, 20, 1000])
            else:
                varied[AVOIDED, handle] = self._another_branch(random, varied[AVOIDED, handle], handle, state)
        return varied

    def _another_hold(self, random: np.random.Generator, held_until: int, handle: int, state: RailState) -> int:
        if held_until > state.elapsed_steps and random.random() < 0.5:
            return 0
        if state.dynamic[ROW, handle] < 0 and random.random() < 0.25:
            return state.max_episode_steps  # it does not depart at all
        return state.elapsed_steps + int(random.integers(1, 25))

    def _another_branch(self, random: np.random.Generator, avoided: int, handle: int, state: RailState) -> int:
        branches = np.empty(4, dtype=np.int64)
        n_branches = fill_branches(handle, state.arrays, branches)
        if n_branches == 0 or (avoided >= 0 and random.random() < 0.5):
            return -1
        return int(branches[random.integers(n_branches)])

    def _check_time(self) -> None:
        if self._clock() > self._deadline:
            raise _OutOfTimeError


@lru_cache(maxsize=1)
def warm_up_planning() -> None:
    """Compiles what planning needs, which would otherwise be done in the time of a step."""
    simulator = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Tiny"], 0))

    class Nobody:
        def act(
            self,
            observations: NDArray[np.float32],
            action_mask: NDArray[np.bool_],
            epsilon: float | NDArray[np.float64] = 0.0,
        ) -> NDArray[np.int64]:
            return action_mask.argmax(axis=1)

    planner = Planner(Nobody(), Observer(get_feature_set("tree"), safe_moves=True), PlanningOptions(np.inf, n_tries=4))
    planner.variation = no_variation(simulator.state.n_trains)
    simulator.step(planner.act(simulator))
    simulator.step(planner.act(simulator))
