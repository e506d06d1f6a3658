"""Planning while it plays: a plan in space and time for all trains, made anew whenever something breaks down.

Before the first step a plan is made and improved. Then the trains keep its order. When a malfunction makes a train
late, the times are worked out that keep the order from there on, and a search improves the plan for as long as is
allowed; see ``utils/planning``. Malfunctions to come are never known.

Where there is no plan, because the level cannot be planned, the trained policy plays.
"""

import argparse
import math
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from flatland.envs.rail_env import RailEnv
from numpy.typing import NDArray

from reinforcement_learning.playing.policy import Policy, drive
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.observer import Observer
from utils.planning.level_plan import Clock, LevelPlan
from utils.planning.plan_search import improve_plans
from utils.simulator.rail_state import RailState
from utils.simulator.reward_weights import weights_of
from utils.simulator.simulator import FlatlandSimulator
from utils.simulator.unsupported_level import UnsupportedLevel
from utils.system.compiled import is_missing_in_cache
from utils.system.console import complain

PLAN_SECONDS = 1.0
"""What a step of a submission may take unless told otherwise: a tenth of what graders allow."""
EPISODE_SECONDS = 15 * 60.0
"""What all later steps of an episode may take together: graders of the 2026 competition allow 30 minutes for all."""
_LONGEST_PAUSE = 64  # steps


@dataclass(frozen=True)
class PlanningOptions:
    """How long plans are improved."""

    seconds: float  # most that a step may take to plan
    first: float = 60.0  # times as long the first step may take; graders allow 60 times as much for it
    rounds: int = 200  # most rounds of a search for each train of the level
    first_rounds: int = 2000  # the same, before the first step
    in_all: float = math.inf  # most seconds in an episode after the first step; the steps to come share what is left

    @classmethod
    def of_seconds(cls, seconds: float) -> "PlanningOptions | None":
        """The usual options with that many seconds a step; None, no planning, for 0."""
        return cls(seconds, in_all=EPISODE_SECONDS) if seconds > 0 else None


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


class LiveLevel(NamedTuple):
    """A level in play: the environment, and its state as it was observed last."""

    env: RailEnv
    state: RailState


@dataclass
class Planner:
    """Drives all trains of one level: a :class:`~.heuristics.Rule`; the policy plays where there is no plan.

    It plays the same level in the same way each time, as long as its seconds suffice.
    """

    policy: Policy
    observer: Observer
    options: PlanningOptions
    clock: Clock = time.perf_counter
    plan: LevelPlan | None = None  # that is followed; None where the policy plays
    _plans: bool | None = None  # whether the level can be planned; None before the first step
    _next_try: int = 0  # step
    _pause: int = 1
    _spent: float = 0.0  # seconds, after the first step

    def act(self, simulator: FlatlandSimulator | LiveLevel) -> NDArray[np.int64]:
        """An action for each train, int64 ``[trains]``; to be asked at each step of the level."""
        state = simulator.state
        if self._plans is None:
            self._plans = _can_be_planned(simulator.env)
        if self.plan is not None and not self._keep_up(self.plan, state):
            self.plan = None
        if self.plan is None and self._plans and state.elapsed_steps >= self._next_try:
            self.plan = self._first_plan(state)
        return drive(self.policy, self.observer, state) if self.plan is None else self.plan.actions()

    def _first_plan(self, state: RailState) -> LevelPlan | None:
        """A plan from the present state on; None if a train on the map has no way past the others."""
        options = self.options
        try:
            plan = LevelPlan(state, clock=self.clock)
        except ValueError as error:
            say_once(f"the policy plays without a plan: {error}")
            self._plans = False
            return None
        if not plan.has_way.all():
            say_once("trains that have no way to their targets are left out of the plan")
        if not plan.make():
            self._next_try = state.elapsed_steps + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            return None
        if state.elapsed_steps == 0:
            plan.search(options.first * options.seconds, options.first_rounds * state.n_trains)
        else:  # graders allow more time for the first step only
            self._search(plan, state)
        return plan

    def _keep_up(self, plan: LevelPlan, state: RailState) -> bool:
        """Adapt the plan to what has happened; returns whether it still holds."""
        if not plan.follow():
            return False
        if plan.is_late:
            if not plan.keep_order():
                return False
            self._search(plan, state)
        return True

    def _search(self, plan: LevelPlan, state: RailState) -> None:
        """Improve a plan in the middle of an episode."""
        options, n_steps_left = self.options, state.max_episode_steps - state.elapsed_steps
        seconds = min(options.seconds, max(options.in_all - self._spent, 0.0) / max(n_steps_left, 1))
        self._spent += plan.search(seconds, options.rounds * state.n_trains)


def _can_be_planned(env: RailEnv) -> bool:
    """Whether a plan of the level would be true; if not, that is said once."""
    try:
        weights_of(env.rewards)
    except UnsupportedLevel as error:
        say_once(f"the policy plays without a plan: {error}")
        return False
    speeds = [agent.speed_counter.max_speed for agent in env.agents]
    if any(env.acceleration_delta < speed or -env.braking_delta < speed for speed in speeds):
        start_slowly = "levels with trains that do not start or stop within one step are not planned"
        say_once(f"the policy plays without a plan: {start_slowly}")
        return False
    return True


@cache
def say_once(text: str) -> None:
    """Tells the user what becomes of a plan, the first time in a process."""
    complain(f"note: {text}")


@lru_cache(maxsize=1)
def warm_up_planning() -> None:
    """Compiles what planning needs, which would otherwise be done in the time of a step."""
    if is_missing_in_cache(improve_plans):
        complain("First start: compiling the planner, which takes about ten seconds.")
    simulator = FlatlandSimulator(make_rail_env(ENV_CONFIGS["Tiny"], 0))
    plan = LevelPlan(simulator.state)
    plan.make()
    plan.keep_order()
    plan.search(math.inf, n_rounds=2)
    simulator.step(plan.actions())
