"""Plans in space and time of the levels in play, kept up to date at small cost, for observations and demonstrations.

A plan is made when a level is seen first, from the state in which it is then. As long as the trains keep its order it
is followed; when one is late the new times are worked out and a few rounds of search follow. When a train has left its
planned way all is planned anew. Nothing here looks at a clock, so the same steps give the same plans. So the first plan
can be made elsewhere: :class:`PlanAhead` does, in the process that makes the level, and it comes with the level.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary, proxy

import numpy as np
from numpy.typing import NDArray

from utils.planning.level_plan import LevelPlan
from utils.safe_moves.safe_moves import can_move_on
from utils.simulator.action_mask import count_allowed
from utils.simulator.rail_grid import DO_NOTHING, MOVE_LEFT, MOVE_RIGHT, N_ACTIONS, STOP_MOVING
from utils.simulator.rail_state import RailState
from utils.simulator.state_arrays import ROW
from utils.system.compiled import compiled


class Rounds(NamedTuple):
    """Rounds of search for each train: how good plans are, and what they cost."""

    first: int  # when a level is seen first
    later: int  # when a train is late


THOROUGH = Rounds(100, 20)
QUICK = Rounds(5, 5)
"""For evaluations in trainings: a fifth of the time for plans that are nearly as good."""
QUICKEST = Rounds(5, 1)
"""For what is learned from: trains that explore are late all the time, and as much is learned from such plans."""

_AHEAD = struct.Struct("<i")  # the rounds of a plan made ahead, before the plan
_MOST_TRAINS = 50  # that count for it: larger levels, whose rounds take longer, do not get more
_PAUSE, _LONGEST_PAUSE = 3, 48  # steps from one new plan to the next


@dataclass(frozen=True)
class KeptPlan:
    """A plan that holds now."""

    plan: LevelPlan
    actions: NDArray[np.int64]  # [trains], what the trains do in the next step to follow it

    def allow_moves(
        self, state: RailState, possible: NDArray[np.bool_], mask: NDArray[np.bool_], *, others_are_safe: bool
    ) -> None:
        """Puts the planned moves into ``mask``, bool [trains, 5], among those that are ``possible``.

        Args:
            state: the level and its trains now.
            possible: bool [trains, 5], the mask without regard to safety.
            mask: to be changed.
            others_are_safe: False: only the plan is known to bring all home, so nobody may leave it, but may wait.
        """
        _allow_moves(state.constants, state.dynamic, self.actions, possible, others_are_safe, mask)

    def leaving(self, state: RailState, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which trains leave the plan by ``actions``, int64 [trains]; those that wait do not. bool [trains]."""
        leaving = np.empty(len(actions), dtype=np.bool_)
        _fill_leaving(state.constants, state.dynamic, self.actions, actions, leaving)
        return leaving


@compiled
def _allow_moves(
    constants: np.ndarray,
    dynamic: np.ndarray,
    planned: np.ndarray,
    possible: np.ndarray,
    others_are_safe: bool,
    mask: np.ndarray,
) -> None:
    for handle in range(planned.shape[0]):
        if not others_are_safe and can_move_on(handle, constants, dynamic):
            mask[handle, MOVE_LEFT : MOVE_RIGHT + 1] = False
        if possible[handle, planned[handle]]:
            mask[handle, planned[handle]] = True
        if count_allowed(mask[handle]) == 0:
            mask[handle, STOP_MOVING] = True


@compiled
def _fill_leaving(
    constants: np.ndarray, dynamic: np.ndarray, planned: np.ndarray, actions: np.ndarray, leaving: np.ndarray
) -> None:
    for handle in range(planned.shape[0]):
        action = actions[handle]
        waits = action == STOP_MOVING or (action == DO_NOTHING and dynamic[ROW, handle] < 0)
        leaving[handle] = action != planned[handle] and not waits and can_move_on(handle, constants, dynamic)


class _Keeper:
    """The plan of one level.

    Args:
        state: the level; a weak reference to it is kept.
        rounds: of search.
    """

    def __init__(self, state: RailState, rounds: Rounds) -> None:
        self._state: RailState = proxy(state)
        self._rounds = rounds
        self._step = -1  # that was seen last
        self._next_try = 0  # step
        self._pause = _PAUSE
        self._plan: LevelPlan | None = None
        self._newest: LevelPlan | None = None  # whether it holds or not: the next one can use its memory
        self.kept: KeptPlan | None = None

    @property
    def is_of_past(self) -> bool:
        """Whether the level has begun again."""
        return self._step > self._state.elapsed_steps

    def keep_up(self) -> None:
        """Brings the plan up to date, after a step."""
        now = self._state.elapsed_steps
        if now == self._step:
            return
        self._step = now
        if self._plan is not None and not self._still_holds(self._plan):
            self._plan = None
        if self._plan is None and now >= self._next_try:
            self._plan = self._new_plan(now)
        self.kept = None if self._plan is None else KeptPlan(self._plan, self._plan.actions())

    def _still_holds(self, plan: LevelPlan) -> bool:
        if not (plan.follow() and plan.is_in_order):
            return False
        if plan.is_late:
            if not plan.keep_order():
                return False
            self._search(plan, self._rounds.later)
        return True

    def _new_plan(self, now: int) -> LevelPlan | None:
        is_first = self._next_try == 0
        self._next_try = now + self._pause
        try:
            plan = self._newest = self._blank_plan()
        except ValueError:  # too large
            self._next_try = self._state.max_episode_steps
            return None
        if is_first and self._take_over(plan):
            return plan
        if not plan.make():
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            return None
        self._pause = _PAUSE
        self._search(plan, self._rounds.first if is_first else self._rounds.later)
        return plan

    def _blank_plan(self) -> LevelPlan:
        if self._newest is not None and self._newest.begin_again():
            return self._newest
        return LevelPlan(self._state)

    def ahead(self) -> bytes:
        """The plan to begin with, for ``RailState.plan_ahead``; b"" where there is none."""
        plan = self._new_plan(self._state.elapsed_steps)
        return b"" if plan is None else _AHEAD.pack(self._rounds.first) + plan.packed()

    def _take_over(self, plan: LevelPlan) -> bool:
        """Takes over what was planned when the level was made, where that is what would be planned here."""
        packed = self._state.plan_ahead
        fits = packed and self._state.elapsed_steps == 0 and packed.startswith(_AHEAD.pack(self._rounds.first))
        if fits:
            plan.take_over(packed[_AHEAD.size :])
        return bool(fits)

    def _search(self, plan: LevelPlan, rounds: int) -> None:
        plan.play_rounds(rounds * min(self._state.n_trains, _MOST_TRAINS))


class KeptPlans:
    """The plans of the levels in play; each is kept until its ``RailState`` is gone."""

    def __init__(self, rounds: Rounds = THOROUGH) -> None:
        self._rounds = rounds
        self._keepers: WeakKeyDictionary[RailState, _Keeper] = WeakKeyDictionary()

    def keep_up(self, state: RailState) -> KeptPlan | None:
        """The plan from the present state on, to be asked for in each step; None if there is none."""
        keeper = self._keepers.get(state)
        if keeper is None or keeper.is_of_past:
            keeper = self._keepers[state] = _Keeper(state, self._rounds)
        keeper.keep_up()
        return keeper.kept

    def known(self, state: RailState) -> KeptPlan | None:
        """The plan as it was when ``keep_up`` was asked last."""
        keeper = self._keepers.get(state)
        return keeper.kept if keeper else None


@dataclass(frozen=True)
class PlanAhead:
    """Plans a level when it is made.

    Args:
        rounds: those of the ``KeptPlans`` that go on from there.
    """

    rounds: Rounds

    def __call__(self, state: RailState) -> None:
        """Fills ``plan_ahead`` of a level at its beginning."""
        state.plan_ahead = _Keeper(state, self.rounds).ahead()


def warm_up_plans(state: RailState) -> KeptPlan | None:
    """A plan of a level, after all was done once that keeping it takes: what is compiled for that, is."""
    kept = KeptPlans(Rounds(1, 1)).keep_up(state)
    if kept is not None:
        kept.plan.follow()
        kept.plan.keep_order()
        mask = np.ones((state.n_trains, N_ACTIONS), dtype=np.bool_)
        kept.allow_moves(state, mask.copy(), mask, others_are_safe=True)
        kept.leaving(state, kept.actions)
    return kept
