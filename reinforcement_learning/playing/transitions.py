"""From the steps of an environment to what a learner needs: one transition per decision of a train.

Between two decisions of a train many steps may pass (it runs inside a cell, waits out a malfunction, or has nothing
to decide), so transitions are semi-Markov: rewards are discounted and summed up, and the discount of what follows is
gamma to the number of steps (Sutton, Precup, Singh 1999). Where a train has arrived or the episode is over the
discount is 0. Running out of time counts as an end like any other: the penalty for it falls due at that moment and
the remaining time is part of the task, so nothing is bootstrapped beyond it.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.reward_shaping import Weight
from utils.simulator.rail_grid import N_ACTIONS


@dataclass(frozen=True)
class Transitions:
    """Arrays with one row per transition."""

    observations: npt.NDArray[np.float32]  # [k, features]
    action_masks: npt.NDArray[np.bool_]  # [k, 5]
    actions: npt.NDArray[np.int64]  # [k]
    rewards: npt.NDArray[np.float32]  # [k]
    discounts: npt.NDArray[np.float32]  # [k]
    next_observations: npt.NDArray[np.float32]  # [k, features]
    next_action_masks: npt.NDArray[np.bool_]  # [k, 5]
    policy_of_train: npt.NDArray[np.int64]  # [k], the number of the policy that acted
    demonstrated: npt.NDArray[np.bool_]  # [k], whether the action was shown by a plan instead

    def __len__(self) -> int:
        return len(self.actions)

    def __getitem__(self, rows: "slice | npt.NDArray[np.bool_]") -> "Transitions":
        """Some of them."""
        return Transitions(**{name: array[rows] for name, array in vars(self).items()})

    def of_policy(self, policy: int) -> "Transitions":
        """Those of one policy."""
        return self[self.policy_of_train == policy]


class TransitionSink(Protocol):
    """Takes finished transitions; a replay buffer is one."""

    def add(self, transitions: Transitions) -> None:
        """Takes over some transitions."""
        ...


class TransitionCollector:
    """Open decisions of trains, up to ``n_step`` of them per train.

    Call :meth:`decide` before a step for the trains that choose an action, :meth:`reward` after it for all trains,
    :meth:`finish` for trains whose task is over. Finished transitions come back from ``decide`` and ``finish``.

    Args:
        n_trains: how many trains there can be, of all slots of a rollout.
        n_features: size of an observation.
        gamma: discount of a step, unless an episode brings its own.
        n_step: decisions between a state and its bootstrap state, at most; an episode may bring a smaller number.
    """

    def __init__(self, n_trains: int, n_features: int, gamma: Weight, n_step: int = 1) -> None:
        self._default = (gamma, n_step)
        self._policy_of_train = np.zeros(n_trains, dtype=np.int64)
        self._gamma = np.full(n_trains, gamma)
        self._n_step = np.full(n_trains, n_step)
        # decision d of train t is open where open[d, t]; the decisions of a train form a ring
        self._open = np.zeros((n_step, n_trains), dtype=bool)
        self._next_decision = np.zeros(n_trains, dtype=np.int64)
        self._observations = np.zeros((n_step, n_trains, n_features), dtype=np.float32)
        self._action_masks = np.zeros((n_step, n_trains, N_ACTIONS), dtype=bool)
        self._actions = np.zeros((n_step, n_trains), dtype=np.int64)
        self._demonstrated = np.zeros((n_step, n_trains), dtype=bool)
        # float64: a sum of many small rewards should not depend on how it is cut into transitions
        self._returns = np.zeros((n_step, n_trains))
        self._discounts = np.zeros((n_step, n_trains))

    def begin(
        self,
        trains: npt.NDArray[np.intp],
        policy_of_train: int | npt.NDArray[np.int64] = 0,
        gamma: Weight | None = None,
        n_step: int | npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Begins a new episode for ``trains``; numbers hold for all of them, arrays for each.

        Where a train's decisions lie must not depend on earlier episodes: a resumed training has not seen them.
        """
        self._policy_of_train[trains] = policy_of_train
        self._gamma[trains] = self._default[0] if gamma is None else gamma
        self._n_step[trains] = self._default[1] if n_step is None else n_step
        self._open[:, trains] = False
        self._next_decision[trains] = 0

    def decide(
        self,
        trains: npt.NDArray[np.intp],
        observations: npt.NDArray[np.float32],
        action_masks: npt.NDArray[np.bool_],
        actions: npt.NDArray[np.int64],
        demonstrated: bool | npt.NDArray[np.bool_] = False,
    ) -> Transitions:
        """Opens a decision for each of ``trains``; closes the one that is ``n_step`` decisions old.

        ``observations`` ``[k, features]``, ``action_masks`` ``[k, 5]`` and ``actions`` ``[k]`` belong to the trains,
        and so does whether the actions are ``demonstrated``.
        """
        decisions = self._next_decision[trains]
        closing = self._open[decisions, trains]
        closed = self._close(decisions[closing], trains[closing], observations[closing], action_masks[closing])
        self._open[decisions, trains] = True
        self._observations[decisions, trains] = observations
        self._action_masks[decisions, trains] = action_masks
        self._actions[decisions, trains] = actions
        self._demonstrated[decisions, trains] = demonstrated
        self._returns[decisions, trains] = 0.0
        self._discounts[decisions, trains] = 1.0
        self._next_decision[trains] = (decisions + 1) % self._n_step[trains]
        return closed

    def reward(self, rewards: npt.NDArray[np.float64]) -> None:
        """Adds the rewards ``[trains]`` of one step to all open decisions."""
        self._returns += self._discounts * rewards
        self._discounts *= self._gamma

    def finish(self, trains: npt.NDArray[np.intp]) -> Transitions:
        """Closes all open decisions of trains that have arrived or whose episode is over: nothing follows."""
        decisions, columns = np.nonzero(self._open[:, trains])
        finished = trains[columns]
        self._discounts[decisions, finished] = 0.0
        n, n_features = len(finished), self._observations.shape[2]
        return self._close(
            decisions, finished, np.zeros((n, n_features), np.float32), np.ones((n, N_ACTIONS), dtype=bool)
        )

    def _close(
        self,
        decisions: npt.NDArray[np.intp],
        trains: npt.NDArray[np.intp],
        next_observations: npt.NDArray[np.float32],
        next_action_masks: npt.NDArray[np.bool_],
    ) -> Transitions:
        self._open[decisions, trains] = False
        return Transitions(
            self._observations[decisions, trains],
            self._action_masks[decisions, trains],
            self._actions[decisions, trains],
            self._returns[decisions, trains].astype(np.float32),
            self._discounts[decisions, trains].astype(np.float32),
            next_observations,
            next_action_masks,
            self._policy_of_train[trains],
            self._demonstrated[decisions, trains],
        )
