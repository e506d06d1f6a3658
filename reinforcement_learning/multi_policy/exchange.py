"""Population-based training (Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846), as pure functions.

Now and then the policies are ranked. The best share is left alone, the worst share takes over weights and perturbed
hyper-parameters of the best, and those between get perturbed hyper-parameters. Policy 0 keeps its hyper-parameters:
it shows what the population would be worth without their search.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.settings.config import TrainingConfig

CONTROL = 0
KEPT, PERTURBED, REPLACED = "kept", "perturbed", "replaced"

MOST_N_STEP = 10
# what each hyper-parameter may become; 0, which is off, stays off
_BOUNDS: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-5, 1e-2),
    "tau": (1e-4, 1e-1),
    "epsilon_scale": (0.25, 4.0),
    "n_step": (1, MOST_N_STEP),
    "advantage_learning": (0.05, 0.95),
    "shaping": (0.05, 20.0),
    "arrival_reward": (0.05, 20.0),
    "deadlock_penalty": (0.05, 20.0),
    "team_reward": (0.01, 1.0),
}
_GAMMA = (0.9, 0.9999)
_SIZES = ("batch_size", "update_every")
_MOST_TIMES = 2  # as large or small as sizes may become, so that no policy takes more than four times as long to learn
_PROBABILITY = 0.15  # that a hyper-parameter changes
_PROBABILITY_OF_DEFAULT = 0.01  # that it then becomes what the command line says again
_FACTORS = (1.1, 1.5)  # the smallest and the largest, up or down

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Fate:
    """What an exchange does with one policy."""

    kind: str  # KEPT, PERTURBED or REPLACED
    source: int  # whose weights it has afterwards; its own number unless replaced


@dataclass(frozen=True, order=True)
class Reached:
    """What a policy has reached alone; of equal scores the higher completion is better."""

    score: float  # mean
    completion: float  # mean


def choose_fates(
    objective: npt.NDArray[np.float64], share: float, min_gap: float, min_errors: float, random: np.random.Generator
) -> list[Fate]:
    """What an exchange does with each policy.

    Args:
        objective: what each policy has reached on each of the same levels, ``[policies, levels]``; more is better.
        share: how many of them are left alone, and how many replaced; at least one each, at most half.
        min_gap, min_errors: how much better a policy must be to replace another, see :func:`is_better`.
    """
    n_policies = len(objective)
    order = np.argsort(-objective.mean(axis=1), kind="stable").tolist()
    n = min(max(1, math.floor(share * n_policies)), n_policies // 2)
    best, worst = order[:n], order[n_policies - n :]
    fates = [Fate(PERTURBED, policy) for policy in range(n_policies)]
    for policy in (CONTROL, *best):
        fates[policy] = Fate(KEPT, policy)
    for policy in worst:
        source = best[int(random.integers(n))]
        if is_better(objective[source], objective[policy], min_gap, min_errors):
            fates[policy] = Fate(REPLACED, source)
    return fates


def is_better(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], min_gap: float, min_errors: float
) -> bool:
    """Whether the first of two policies is clearly the better one.

    Args:
        first, second: what they have reached on the same levels, ``[levels]``.
        min_gap: least difference of the means. It is a difference, not a ratio: scores here are negative, where
            ratios mean nothing.
        min_errors: the same in standard errors of the difference, level by level. Levels differ far more than
            policies do, so the means alone do not tell them apart. Of a single level the error is not known.
    """
    differences = first - second
    gap, n_levels = differences.mean(), len(differences)
    if gap <= 0.0 or gap < min_gap:
        return False
    if min_errors == 0.0:
        return True
    return bool(n_levels > 1 and gap >= min_errors * differences.std(ddof=1) / math.sqrt(n_levels))


def searched(config: TrainingConfig) -> Bounds:
    """What a training searches: the hyper-parameters, and from where to where."""
    bounds = dict(_BOUNDS)
    if config.pbt_gamma:
        bounds["gamma"] = _GAMMA
    if config.policy_mode != "synchronous":  # which guarantees as many learning steps for each policy
        for name in _SIZES:
            value = getattr(config, name)
            bounds[name] = (max(1, value // _MOST_TIMES), value * _MOST_TIMES)
        low, high = bounds["batch_size"]
        bounds["batch_size"] = (low, min(high, config.buffer_size))
    return bounds


def most_n_step(config: TrainingConfig) -> int:
    """The largest ``n_step`` that a policy of a training can ever have."""
    return max(config.n_step, MOST_N_STEP if config.with_pbt else 1)


def first_hyperparameters(config: TrainingConfig, random: np.random.Generator) -> list[Hyperparameters]:
    """What each policy begins with: the control with what the command line says, the others with all of it changed."""
    given = Hyperparameters.of(config)
    if not config.with_pbt:
        return [given] * config.num_policies
    bounds = searched(config)
    others = [perturbed(given, given, bounds, random, probability=1.0) for _ in range(1, config.num_policies)]
    return [given, *others]


def perturbed(
    values: Hyperparameters,
    default: Hyperparameters,
    bounds: Bounds,
    random: np.random.Generator,
    probability: float = _PROBABILITY,
) -> Hyperparameters:
    """Some of the hyper-parameters a tenth to a half larger or smaller, within the bounds.

    Of ``gamma`` the distance to 1 changes, as that is what sets its horizon. Whole numbers change by at least 1.

    Args:
        default: what the command line says; now and then one goes back to it.
    """
    changed: dict[str, Any] = {}
    for name, (low, high) in bounds.items():
        value, given = getattr(values, name), getattr(default, name)
        changes, goes_back = random.random() < probability, random.random() < _PROBABILITY_OF_DEFAULT
        factor = float(random.uniform(*_FACTORS)) ** (1 if random.integers(2) else -1)
        if not changes or value == 0:
            continue
        new = given if goes_back and value != given else _times(value, factor, of_distance_to_1=name == "gamma")
        changed[name] = min(max(new, low), high)
    return dataclasses.replace(values, **changed)


def _times(value: float, factor: float, *, of_distance_to_1: bool) -> float:
    if of_distance_to_1:
        return 1.0 - (1.0 - value) * factor
    if isinstance(value, int):
        return max(value + 1, round(value * factor)) if factor > 1.0 else min(value - 1, round(value * factor))
    return value * factor


def within(stored: Mapping[str, float], default: Hyperparameters, bounds: Bounds) -> Hyperparameters:
    """Hyper-parameters of a checkpoint, moved into what is searched now; what it does not tell is the default."""
    values: dict[str, Any] = dict(stored)
    for name, (low, high) in bounds.items():
        given = getattr(default, name)
        value = values.get(name, given)
        values[name] = type(given)(min(max(value, low if given else 0), high))
    return dataclasses.replace(default, **values)


def out_of_bounds(values: Hyperparameters, bounds: Bounds) -> list[str]:
    """Sentences about hyper-parameters that a search cannot start from."""
    return [
        f"--{name} is {getattr(values, name):g}, but --with_pbt searches from {low:g} to {high:g}."
        for name, (low, high) in bounds.items()
        if getattr(values, name) != 0 and not low <= getattr(values, name) <= high
    ]
