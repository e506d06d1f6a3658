"""Rows of metrics of a training: one for each finished episode; several policies have a group of columns each."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.tracking.metrics import of_policy

ACTION_NAMES = ("do_nothing", "left", "forward", "right", "stop")
_SMOOTHED = ("training/score", "training/completion", "evaluation/score", "evaluation/completion")
_SMOOTHED_OF_POLICY = _SMOOTHED[:2]
# In smoothed values as the classic kit has them, so that curves can be laid over its published ones.
_WEIGHT_OF_THE_PAST = {"training": 0.99, "evaluation": 0.9}
_START = {"score": -1.0, "completion": 0.0}


class Smoothed:
    """The classic kit's exponential smoothing: ``weight * smoothed + (1 - weight) * value``.

    Args:
        name: of the metric, such as "training/score"; it decides weight and first value.
    """

    def __init__(self, name: str) -> None:
        kind, measure = name.split("/")[-2:]  # before them may be whose it is
        self._weight, self.value = _WEIGHT_OF_THE_PAST[kind], _START[measure]

    def update(self, value: float) -> float:
        """Takes a value and returns the smoothed one. A NaN (nothing measured) leaves the smoothed value alone."""
        if not math.isnan(value):
            self.value = self._weight * self.value + (1.0 - self._weight) * float(value)
        return self.value

    def state_dict(self) -> dict[str, float]:
        """The state for a checkpoint."""
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Takes up the state of a checkpoint; None, which earlier versions stored, is no value yet."""
        if (value := state["value"]) is not None:
            self.value = float(value)


class TrainingMetrics:
    """Makes a row of metrics of each finished episode. It remembers nothing but the smoothed values."""

    def __init__(self, population: Population) -> None:
        self._population = population
        names = list(_SMOOTHED)
        if len(population) > 1:
            names += [of_policy(p, name) for p in range(len(population)) for name in _SMOOTHED_OF_POLICY]
        self.smoothed = {name: Smoothed(name) for name in names}

    def of_episode(self, level: int, result: EpisodeResult) -> dict[str, float]:
        """The row of a finished training episode."""
        learners = self._population.learners
        epsilon_of = self._population.assignment.epsilon
        epsilons = [epsilon_of(learner.hyperparameters, level, result.n_trains) for learner in learners]
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
            "training/transitions": learner.buffer.n_added,
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


def _mean_loss(losses: Sequence[list[torch.Tensor]]) -> float:
    together = [torch.stack(of_policy).cpu() for of_policy in losses if of_policy]
    return float(torch.cat(together).mean()) if together else math.nan
