"""What a policy is, and how one drives all trains of a level."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from utils.observation.observer import Observer
from utils.simulator.action_mask import NOTHING_TO_DECIDE
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_state import RailState

Observations = npt.NDArray[np.float32]  # [batch, features]
ActionMasks = npt.NDArray[np.bool_]  # [batch, 5], what is possible
Actions = npt.NDArray[np.int64]  # [batch]
Epsilon = float | npt.NDArray[np.float64]  # the share of random actions: one number for all, or [batch]


class Policy(Protocol):
    """Chooses actions for trains that have a choice, by what each of them sees.

    ``observations`` and ``action_mask`` describe the deciding trains of one or of many levels.
    """

    def act(self, observations: Observations, action_mask: ActionMasks, epsilon: Epsilon = 0.0) -> Actions:
        """Possible actions; with probability ``epsilon`` each is drawn at random."""
        ...


def choose_actions(action_mask: ActionMasks, choose: Callable[[npt.NDArray[np.intp]], Actions]) -> Actions:
    """Actions ``[trains]``: the only possible one, or where there are several what ``choose`` says.

    Args:
        action_mask: bool ``[trains, 5]``.
        choose: gets the indices of the trains that have a choice, if any has, and gives an action for each.
    """
    actions: Actions = action_mask.argmax(axis=1)
    deciding = np.flatnonzero(np.count_nonzero(action_mask, axis=1) > 1)
    if len(deciding):
        actions[deciding] = choose(deciding)
    return actions


def drive(policy: Policy, observer: Observer, state: RailState) -> Actions:
    """The actions ``[trains]`` of a policy that drives all trains of a level, greedily."""
    observations, mask = observer.observe(state)
    mask[deadlocked(state)] = NOTHING_TO_DECIDE
    actions = choose_actions(mask, lambda deciding: policy.act(observations[deciding], mask[deciding]))
    observer.settle(state, actions)
    return actions


def act_with_each(
    policies: Sequence[Policy],
    policy_of_train: npt.NDArray[np.int64],
    observations: Observations,
    action_mask: ActionMasks,
    epsilon: npt.NDArray[np.float64],
) -> Actions:
    """Actions ``[batch]``; each policy is asked once, for all trains that it drives."""
    if len(policies) == 1:
        return policies[0].act(observations, action_mask, epsilon)
    actions = np.empty(len(policy_of_train), dtype=np.int64)
    by_policy = np.argsort(policy_of_train, kind="stable")
    for rows in np.split(by_policy, np.flatnonzero(np.diff(policy_of_train[by_policy])) + 1):
        policy = policies[policy_of_train[rows[0]]]
        actions[rows] = policy.act(observations[rows], action_mask[rows], epsilon[rows])
    return actions
