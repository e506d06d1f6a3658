"""Rewards to learn from, kept in parts: a learner weighs and discounts them as it does when it draws them.

So what a learner has stored follows its hyper-parameters as they change. The parts of an interval, from a decision of
a train to its next one, each for the train itself and summed over all others (which ``team_reward`` is for):

- The environment's reward (or a user's in its place), arrivals and deadlocks: how much, and at which step. Several in
  an interval are kept as one: at the mean of their steps, weighted by their discounted sizes, and as large as is right
  for the gamma that the train was played with. So for that gamma all is exact. For any other gamma a single one is
  exact, as an arrival, a deadlock and the reward at the end of the episode are. Several of one sign are exact to the
  first order in the change of gamma, so the further they lie apart the less: rewards for each step or for stops, and
  arrivals of several others.
- The potential at the decision and after the interval: the shaping of all its steps telescopes to those two, exactly.
  It is 0 at the end of the episode.

With several policies the rewards of others are weighed by the hyper-parameters of the policy that learns.
"""

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.reward_shaping import RewardWeights

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def parts_of_intervals(
    steps: Floats, potential: Floats, train: Integers, start: Integers, end: Integers, gamma: Floats
) -> dict[str, npt.NDArray[np.float32]]:
    """The parts of the intervals ``[k]`` of an episode; see ``EpisodeRows`` for their shapes.

    Args:
        steps: rewards, arrivals and deadlocks of each step, ``[steps, 3, trains]``.
        potential: before each step and after the last one, ``[steps + 1, trains]``.
        train: of each interval; those of one train stand in their order.
        start, end: first step of each interval, and the step after its last.
        gamma: that the train of each interval is played with.
    """
    both = np.stack([steps, steps.sum(axis=2, keepdims=True) - steps], axis=1)  # [steps, 2, 3, trains]
    amounts, at = _as_one(both, _interval_at(train, start, end, steps.shape[0], steps.shape[2]), start, gamma)
    own, everybody = potential[:, train], potential.sum(axis=1)
    column = np.arange(len(train))
    ends = np.stack([own[start, column], own[end, column]], axis=1)
    of_others = np.stack([everybody[start], everybody[end]], axis=1) - ends
    return {
        "reward_parts": amounts.astype(np.float32),
        "part_steps": at.astype(np.float32),
        "potentials": np.stack([ends, of_others], axis=1).astype(np.float32),
    }


def _interval_at(train: Integers, start: Integers, end: Integers, n_steps: int, n_trains: int) -> Integers:
    """The interval that each step of each train belongs to, ``[steps, trains]``; -1 for none."""
    interval = np.full((n_steps, n_trains), -1)
    interval[start, train] = np.arange(len(train))
    interval = np.maximum.accumulate(interval, axis=0)
    return np.where(np.arange(n_steps)[:, np.newaxis] < end[interval], interval, -1)


def _as_one(both: Floats, interval_at: Integers, start: Integers, gamma: Floats) -> tuple[Floats, Floats]:
    """Of each interval the rewards of each part as a single one: how much and how many steps after the decision."""
    shape = (len(start), *both.shape[1:3])
    n_groups, n_parts = int(np.prod(shape)), int(np.prod(shape[1:]))
    step, whose, part, train = np.nonzero(both)  # in the order of steps
    interval = interval_at[step, train]
    inside = interval >= 0
    amounts = both[step, whose, part, train][inside]
    interval, step = interval[inside], step[inside] - start[interval[inside]]
    group = np.ravel_multi_index((interval, whose[inside], part[inside]), shape)
    first = np.zeros(n_groups, dtype=np.int64)
    first[group[::-1]] = step[::-1]  # the first of all steps stays
    later = step - first[group]
    discounted = gamma[interval] ** later * amounts
    sizes = np.bincount(group, np.abs(discounted), n_groups)
    mean = np.bincount(group, np.abs(discounted) * later, n_groups) / np.where(sizes > 0.0, sizes, 1.0)
    total = np.bincount(group, discounted, n_groups) / np.repeat(gamma, n_parts) ** mean
    return total.reshape(shape), (first + mean).reshape(shape)


def rewards_of_intervals(
    weights: RewardWeights,
    n_steps: npt.NDArray[np.int32],
    reward_parts: npt.NDArray[np.float32],
    part_steps: npt.NDArray[np.float32],
    potentials: npt.NDArray[np.float32],
) -> Floats:
    """The rewards ``[...]`` of intervals, discounted to their decisions; the arrays have any leading axes ``[...]``."""
    gamma = float(weights.gamma)
    of_parts = np.array([1.0, weights.arrival_reward, -weights.deadlock_penalty])
    if weights.team_reward == 0.0:  # the usual case, in half the work
        reward_parts, part_steps, potentials = reward_parts[..., :1, :], part_steps[..., :1, :], potentials[..., :1, :]
    rewards = (reward_parts * gamma ** part_steps.astype(np.float64)) @ of_parts  # [..., 1 or 2]
    rewards += weights.shaping * (gamma ** n_steps[..., np.newaxis] * potentials[..., 1] - potentials[..., 0])
    return rewards[..., 0] if weights.team_reward == 0.0 else rewards[..., 0] + weights.team_reward * rewards[..., 1]
