"""Rows of metrics of a training: one for each finished episode; several policies have a group of columns each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from reinforcement_learning.multi_policy.exchange import KEPT, REPLACED
from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.tracking.metrics import Smoothed, of_policy

ACTION_NAMES = ("do_nothing", "left", "forward", "right", "stop")
_SMOOTHED = ("training/score", "training/completion", "evaluation/score", "evaluation/completion")
_SMOOTHED_OF_POLICY = _SMOOTHED[:2]


class TrainingMetrics:
    """Makes rows of what episodes bring; the smoothed values are its only memory.

    Args:
        population: whose training it is.
    """

    def __init__(self, population: Population) -> None:
        self._population = population
        names = list(_SMOOTHED)
        if len(population) > 1:
            names += [of_policy(p, name) for p in range(len(population)) for name in _SMOOTHED_OF_POLICY]
        self.smoothed = {name: Smoothed() for name in names}

    def of_episode(self, level: int, result: EpisodeResult) -> dict[str, float]:
        """The row of a finished training episode."""
        learners = self._population.learners
        epsilons = [self._population.epsilon(p, level, result.n_trains) for p in range(len(learners))]
        row = {
            "training/score": result.score,
            "training/smoothed_score": self.smoothed["training/score"].update(result.score),
            "training/completion": result.completion,
            "training/smoothed_completion": self.smoothed["training/completion"].update(result.completion),
            "training/nb_steps": result.n_steps,
            "training/deadlocked": result.deadlocked,
            "training/never_departed": result.never_departed,
            "training/epsilon": sum(epsilons) / len(epsilons),
            "training/buffer_size": self._population.n_transitions,
            "training/loss": _mean_loss([learner.losses for learner in learners]),
            "throughput/replay_ratio": self._population.replay_ratio,
        }
        for name, count in zip(ACTION_NAMES, result.action_counts, strict=True):
            row[f"actions/{name}"] = count / max(result.n_decisions, 1)
        if len(learners) > 1:
            for p, epsilon in enumerate(epsilons):
                own = self._of_policy(p, result) | {"training/epsilon": epsilon}
                row |= {of_policy(p, name): value for name, value in own.items()}
        return row

    def _of_policy(self, policy: int, result: EpisodeResult) -> dict[str, float]:
        """One policy's share in an episode; score and completion are those of the trains that it has driven."""
        learner = self._population.learners[policy]
        row = {
            "training/loss": _mean_loss([learner.losses]),
            "training/buffer_size": len(learner.buffer),
            "training/learning_steps": learner.learning_steps,
            "training/trains_driven": int(self._population.trains_driven[policy]),
        }
        own = result.policy_of_train == policy
        if own.any():
            for name, values in (("score", result.train_scores), ("completion", result.train_arrived)):
                value = float(np.mean(values[own]))
                smoothed = self.smoothed[of_policy(policy, f"training/{name}")]
                row |= {f"training/{name}": value, f"training/smoothed_{name}": smoothed.update(value)}
        return row


def exchange_row(exchange: dict[str, Any]) -> dict[str, float]:
    """The row of a step of population-based training: hyper-parameters from here on, and whose weights each has."""
    row: dict[str, float] = {}
    for p, values in enumerate(exchange["hyperparameters"]):
        row |= {of_policy(p, f"pbt/{name}"): value for name, value in values.items()}
        row[of_policy(p, "pbt/source")] = exchange["sources"][p]
    return row


def exchange_lines(exchange: dict[str, Any]) -> list[str]:
    """The same for people: a line for each policy that has changed, or one that says that none has."""
    lines = []
    for p, (kind, source) in enumerate(zip(exchange["kinds"], exchange["sources"], strict=True)):
        scores = exchange["scores"]
        if kind == KEPT:
            continue
        if kind == REPLACED:
            what = f"takes over from policy {source} (score {scores[p]:.3f} against {scores[source]:.3f})"
        else:
            what = f"learns on (score {scores[p]:.3f})"
        values = ", ".join(f"{name} {value:.3g}" for name, value in exchange["hyperparameters"][p].items())
        lines.append(f"exchange at episode {exchange['episode']}: policy {p} {what} with {values}")
    return lines or [f"exchange at episode {exchange['episode']}: all policies go on as they are"]


def _mean_loss(losses: Sequence[list[torch.Tensor]]) -> float:
    together = [torch.stack(of_policy).cpu() for of_policy in losses if of_policy]
    return float(torch.cat(together).mean()) if together else math.nan
