"""Planning while it plays: tries on the compiled simulator what would come of other plans, and takes the best.

Every few steps the state of the level is copied into a compiled simulator, and *plans* are played to the end of the
episode against the same sampled futures: malfunctions drawn from the level's rate and durations, never from its own
random numbers. A plan is a rule (``utils.rule_rollouts``) with some trains held back, given way to, or sent another
way; the first one is the rule as it is. A plan is followed until another one is better in the same futures by more than
a standard error: plans are many, and the best of many in a few futures is often only a lucky one. Where there is no
plan, because the time did not suffice or the level cannot be planned, the trained policy plays.

The policy itself is no plan: it takes five times as long as the rule to play out, so fewer plans could be tried.

Sources: rollouts that improve a policy, Bertsekas, Tsitsiklis and Wu 1997; dropping bad plans after few futures,
Karnin, Koren and Somekh 2013.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from flatland.envs.rail_env import RailEnv
from numpy.typing import NDArray

from reinforcement_learning.arguments import seconds_to_plan
from reinforcement_learning.policy import Policy
from utils.action_mask import NOTHING_TO_DECIDE
from utils.deadlock_check import deadlocked
from utils.env_configs import ENV_CONFIGS, make_rail_env
from utils.observation_utils import Observer
from utils.rail_simulator import CompiledSimulator, UnsupportedLevel, malfunction_chance
from utils.rail_state import DONE, READY_TO_DEPART, ROW, STATE, RailState
from utils.random_streams import Stream, generator
from utils.rule_rollouts import (
    AVOIDED,
    HANDICAP,
    HELD_UNTIL,
    begin,
    choose_actions,
    fill_branches,
    level_and_play,
    no_variation,
    roll_out,
)
from utils.simulator import FlatlandSimulator

Clock = Callable[[], float]

_SECONDS_BY_ENVIRONMENT = "FLATLAND_PLAN_SECONDS"


@dataclass(frozen=True)
class PlanningOptions:
    """How much is tried, and when a plan counts as better.

    Attributes:
        seconds: most that a step may take to plan; a search that is not done by then is dropped.
        every: steps from one search to the next.
        rounds: (plans, futures) of each round: as many of the best plans of the round before are played in as many
            futures, those of the rounds before included.
        n_errors: by how many standard errors another plan must be better than the one that is followed.
        completion_weight: what the arrival of all trains counts beside the normalized score.
    """

    seconds: float
    every: int = 3
    rounds: tuple[tuple[int, int], ...] = ((24, 4), (6, 12), (2, 32))
    n_errors: float = 1.0
    completion_weight: float = 0.3

    @classmethod
    def of_seconds(cls, seconds: float) -> "PlanningOptions | None":
        """The usual options with that many seconds a step; None, no planning, for 0."""
        return cls(seconds) if seconds > 0 else None


def planning_to_submit() -> "PlanningOptions | None":
    """How submissions plan: for as many seconds a step as FLATLAND_PLAN_SECONDS says; None, not at all, unless set.

    Raises:
        ValueError: that is no number of seconds; the message is one sentence.
    """
    text = os.environ.get(_SECONDS_BY_ENVIRONMENT, "0")
    try:
        return PlanningOptions.of_seconds(seconds_to_plan(text))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{_SECONDS_BY_ENVIRONMENT}: {error}.") from None


class Live(Protocol):
    """A level in play on flatland-rl itself: :class:`~utils.simulator.FlatlandSimulator` is one."""

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
            return policy_actions(self._policy, self._observer, state)
        if state.elapsed_steps >= self._next_search and _has_something_to_plan(state):
            self._plan(self._search, state)
        if self.variation is None:
            return policy_actions(self._policy, self._observer, state)
        return self._search.actions(state, self.variation)

    def _plan(self, search: "_Search", state: RailState) -> None:
        try:
            self.variation = search.better_plan(state, self.variation)
        except _OutOfTimeError:
            self._pause *= 2  # on a level that is too large for the time it is hardly tried again
        self._next_search = state.elapsed_steps + self._pause


def _has_something_to_plan(state: RailState) -> bool:
    return bool(((state.row >= 0) | (state.state == READY_TO_DEPART)).any())


def policy_actions(policy: Policy, observer: Observer, state: RailState) -> NDArray[np.int64]:
    """The actions, int64 ``[trains]``, of a policy that drives all trains of a level, as in a rollout."""
    features, mask = observer.observe(state)
    mask[deadlocked(state)] = NOTHING_TO_DECIDE
    actions: NDArray[np.int64] = mask.argmax(axis=1)
    deciding = np.flatnonzero(np.count_nonzero(mask, axis=1) > 1)
    if len(deciding):
        actions[deciding] = policy.act(features[deciding], mask[deciding])
    observer.settle(state, actions)
    return actions


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
        self._level, self._play = level_and_play(model)
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
        choose_actions(self._level, self._play, variation, state.elapsed_steps)
        return self._play.actions.copy()

    def better_plan(self, state: RailState, followed: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The plan to follow from here on.

        Raises:
            _OutOfTimeError: the time is up; what is followed had better stay.
        """
        self._deadline = self._clock() + self._options.seconds
        random = generator(0, Stream.PLANNING, state.elapsed_steps)
        futures = self._draw_futures(random, state)
        plans = [no_variation(state.n_trains) if followed is None else followed]
        if not np.array_equal(plans[0], no_variation(state.n_trains)):
            plans.append(no_variation(state.n_trains))
        while len(plans) <= self._options.rounds[0][0]:
            plans.append(self._vary(random, plans[0], state))
        values = np.full((len(plans), len(futures)), np.nan)
        best = self._play_rounds(state, plans, values, futures)
        gains = [_sure_gain(values[i] - values[0], self._options.n_errors) for i in best]
        return plans[best[int(np.argmax(gains))]] if max(gains) > 0 else plans[0]

    def _play_rounds(
        self,
        state: RailState,
        plans: list[NDArray[np.int64]],
        values: NDArray[np.float64],
        futures: NDArray[np.int32],
    ) -> list[int]:
        """Fills ``values`` ``[plans, futures]``, those of the best plans completely; returns which these are.

        The first plan stays to the end, to compare with, and is not among the best.
        """
        left, n_played = list(range(1, len(plans))), 0
        for n_plans, n_futures in self._options.rounds:
            if n_played:
                means = values[:, :n_played].mean(axis=1)
                left = sorted(left, key=lambda i: -means[i])[:n_plans]
            for i in [0, *left]:
                for k in range(n_played, n_futures):
                    values[i, k] = self._value_of_plan(state, plans[i], futures[k])
            n_played = n_futures
        return left

    def _value_of_plan(self, state: RailState, variation: NDArray[np.int64], future: NDArray[np.int32]) -> float:
        """What comes of a plan in a future: normalized score and share of arrived trains, weighted."""
        play, over, elapsed_steps, total = self._play, False, state.elapsed_steps, 0.0
        begin(play, state.dynamic, self._model.plans)
        while not over:
            self._check_time()
            over, elapsed_steps, rewards = roll_out(
                self._level, play, variation, future, elapsed_steps, self._steps_at_a_time
            )
            total += rewards
        arrived = float((play.dynamic[STATE] == DONE).mean())
        return total / (state.n_trains * state.max_episode_steps) + self._options.completion_weight * arrived

    def _draw_futures(self, random: np.random.Generator, state: RailState) -> NDArray[np.int32]:
        """Malfunctions, int32 ``[futures, max_episode_steps, trains]``, of the steps that are left."""
        probability, shortest, longest = self._chance
        n_futures = self._options.rounds[-1][1]
        futures = np.zeros((n_futures, state.max_episode_steps, state.n_trains), dtype=np.int32)
        for future in futures:
            to_come = future[state.elapsed_steps :]
            begins = random.random(to_come.shape) < probability
            to_come[begins] = random.integers(shortest, longest + 1, size=np.count_nonzero(begins))
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
        n_branches = fill_branches(handle, self._level, state.dynamic, branches)
        if n_branches == 0 or (avoided >= 0 and random.random() < 0.5):
            return -1
        return int(branches[random.integers(n_branches)])

    def _check_time(self) -> None:
        if self._clock() > self._deadline:
            raise _OutOfTimeError


def _sure_gain(differences: NDArray[np.float64], n_errors: float) -> float:
    """The mean less some standard errors."""
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() - n_errors * error)


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

    planner = Planner(Nobody(), Observer(safe_moves=True), PlanningOptions(np.inf, rounds=((4, 2),)))
    planner.variation = no_variation(simulator.state.n_trains)
    simulator.step(planner.act(simulator))
    simulator.step(planner.act(simulator))
