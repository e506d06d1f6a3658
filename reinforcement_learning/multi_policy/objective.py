"""What population-based training ranks policies by: a number for each level that they have played alone."""

import math
from collections.abc import Callable, Sequence
from numbers import Real

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.settings.extensions import ExtensionError, extension_errors, find_callable, short

Objective = Callable[[EpisodeResult], float]
"""What an episode is worth; more is better."""

OBJECTIVES: dict[str, Objective] = {
    "score": lambda result: result.score,
    "completion": lambda result: result.completion,
    "deadlocked": lambda result: -result.deadlocked,
    "never_departed": lambda result: -result.never_departed,
    "nb_steps": lambda result: -float(result.n_steps),
}
"""Metrics on board, by their names; of the last three less is better."""


def find_objective(name: str) -> Objective:
    """A metric on board by its name, or a user's ``package.module:callable``, which is tried on a made-up episode.

    Raises:
        ExtensionError: there is none, or what it gives is no finite number.
    """
    found: Objective = find_callable(name, "objective", OBJECTIVES)
    if name not in OBJECTIVES:
        trains = np.array([True, False])
        tried = EpisodeResult.of_trains(
            np.array([0.0, -5.0]),
            10,
            clips_losses=True,
            arrived=trains,
            departed=trains,
            deadlocked=~trains,
            n_steps=8,
            action_counts=np.ones(5, dtype=np.int64),
        )
        reached_by([[tried]], name, found)
    return found


def reached_by(
    results: Sequence[Sequence[EpisodeResult]], name: str, objective: Objective | None = None
) -> npt.NDArray[np.float64]:
    """What each policy has reached on each level, ``[policies, levels]``.

    Where scores tell no policies apart, as on levels without a timetable, completion takes their place.

    Args:
        results: of each policy those of the same levels.
        objective: the one of that name; None: it is looked up.

    Raises:
        ExtensionError: a user's objective fails, or gives something that is no finite number.
    """
    objective = objective or find_callable(name, "objective", OBJECTIVES)
    with extension_errors(f"the objective {name!r} failed"):
        given = [[objective(result) for result in of_policy] for of_policy in results]
    for value in (value for of_policy in given for value in of_policy):
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ExtensionError(f"the objective {name!r} gave {short(value)}, but must give a finite number.")
    reached = np.array(given, dtype=np.float64)
    if name == "score" and np.ptp(reached) == 0.0:
        return reached_by(results, "completion")
    return reached
