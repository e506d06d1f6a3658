"""Evaluates policies that are trained together: each of them alone, and all together as in training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from reinforcement_learning.multi_policy.exchange import Reached
from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.episode_result import EpisodeResult, evaluation_metrics
from reinforcement_learning.playing.play_levels import play_levels, play_levels_together
from reinforcement_learning.tracking.metrics import of_policy
from utils.observation.observer import Observer
from utils.simulator.simulator import Simulator


@dataclass(frozen=True)
class PopulationScores:
    """The results of an evaluation. With a single policy, alone and together are the same."""

    together: list[EpisodeResult]
    alone: list[list[EpisodeResult]]  # by policy

    @property
    def reached(self) -> list[Reached]:
        """What each policy has reached alone."""
        return [
            Reached(float(np.mean([r.score for r in results])), float(np.mean([r.completion for r in results])))
            for results in self.alone
        ]

    @property
    def best(self) -> int:
        """The policy that is the best alone; of equal ones the first."""
        return max(range(len(self.alone)), key=self.reached.__getitem__)

    def metrics(self) -> dict[str, float]:
        """Metrics of all policies together, and the most important ones of each policy alone, under its own name."""
        metrics = evaluation_metrics(self.together)
        if len(self.alone) > 1:
            for p, results in enumerate(self.alone):
                own = evaluation_metrics(results)
                for name in ("scores_mean", "completions_mean", "deadlocked", "never_departed"):
                    metrics[of_policy(p, f"evaluation/{name}")] = own[f"evaluation/{name}"]
        return metrics


def score_population(
    population: Population,
    levels: Callable[[], Iterable[Simulator]],
    n_levels: int,
    observer: Observer,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    between_steps: Callable[[], None] = lambda: None,
) -> PopulationScores | None:
    """Plays the levels, greedily.

    Args:
        levels: gives the levels, the same each time.
        should_stop: asked between steps; True ends the evaluation.
        between_steps: called as often, for whatever goes on beside the evaluation.

    Returns:
        The results; None where ``should_stop`` has ended the evaluation.
    """

    def stops() -> bool:
        between_steps()
        return should_stop()

    policies = population.evaluation_policies()
    alone = []
    for policy in policies:
        alone.append(play_levels(levels(), observer, policy, should_stop=stops))
        if len(alone[-1]) < n_levels:
            return None
    if len(policies) == 1:
        return PopulationScores(alone[0], alone)
    policy_of_train = population.mapping.policy_of_train
    together = play_levels_together(levels(), observer, policies, policy_of_train, should_stop=stops)
    return PopulationScores(together, alone) if len(together) == n_levels else None
