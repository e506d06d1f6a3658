"""Population-based training (Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846), as pure functions.

Now and then the policies are ranked. The best share is left alone, the worst share takes over weights and perturbed
hyper-parameters of the best, and those between get perturbed hyper-parameters. Policy 0 keeps its hyper-parameters:
it shows what the population would be worth without their search.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reinforcement_learning.learning.hyperparameters import Hyperparameters

CONTROL = 0
KEPT, PERTURBED, REPLACED = "kept", "perturbed", "replaced"

# what each hyper-parameter may become; 0, which is off, stays off
BOUNDS: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-5, 1e-2),
    "tau": (1e-4, 1e-1),
    "epsilon_scale": (0.25, 4.0),
    "n_step": (1, 10),
    "shaping": (0.05, 20.0),
    "arrival_reward": (0.05, 20.0),
    "deadlock_penalty": (0.05, 20.0),
    "gamma": (0.9, 0.9999),
}
_FACTORS = (0.8, 1.25)


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

    def gap_to(self, other: "Reached") -> float:
        """By how much this is better: in score, or in completion where the scores are equal."""
        return self.score - other.score or self.completion - other.completion


def ranking(reached: Sequence[Reached]) -> list[int]:
    """The policies from the best to the worst; of equal ones the smaller number comes first."""
    return sorted(range(len(reached)), key=lambda policy: reached[policy], reverse=True)


def choose_fates(reached: Sequence[Reached], share: float, min_gap: float, random: np.random.Generator) -> list[Fate]:
    """What an exchange does with each policy.

    Args:
        reached: what each policy has reached.
        share: how many of them are left alone, and how many replaced; at least one each, at most half.
        min_gap: a policy is replaced only by one that is better by at least this. It is a difference, not a
            ratio: scores here are negative, where ratios mean nothing.
        random: picks the source of each that is replaced.
    """
    order = ranking(reached)
    n = min(max(1, math.floor(share * len(reached))), len(reached) // 2)
    best, worst = order[:n], order[len(order) - n :]
    fates = [Fate(PERTURBED, policy) for policy in range(len(reached))]
    for policy in (CONTROL, *best):
        fates[policy] = Fate(KEPT, policy)
    for policy in worst:
        source = best[int(random.integers(n))]
        if reached[source].gap_to(reached[policy]) >= min_gap:
            fates[policy] = Fate(REPLACED, source)
    return fates


def perturbed(values: Hyperparameters, random: np.random.Generator, *, with_gamma: bool) -> Hyperparameters:
    """Each hyper-parameter a fifth smaller or a quarter larger, ``n_step`` one less or more, within the bounds.

    Of ``gamma`` the distance to 1 changes, as that is what sets its horizon.
    """
    changed = {}
    for name, (low, high) in BOUNDS.items():
        value, up = getattr(values, name), bool(random.integers(2))
        if name == "gamma":
            new = 1.0 - (1.0 - value) * _FACTORS[up] if with_gamma else value
        elif name == "n_step":
            new = value + (1 if up else -1)
        else:
            new = value * _FACTORS[up]
        may_change = value != 0 and (name != "gamma" or with_gamma)
        changed[name] = min(max(new, low), high) if may_change else value
    return dataclasses.replace(values, **changed)


def out_of_bounds(values: Hyperparameters, *, with_gamma: bool) -> list[str]:
    """Sentences about hyper-parameters that a search cannot start from."""
    return [
        f"--{name} is {getattr(values, name):g}, but --with_pbt searches from {low:g} to {high:g}."
        for name, (low, high) in BOUNDS.items()
        if (name != "gamma" or with_gamma) and getattr(values, name) != 0 and not low <= getattr(values, name) <= high
    ]
