"""What came of an episode, and the sums over many of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from utils.simulator.rail_losses import CAUSES

_NO_POLICIES = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode; shares are of all trains."""

    score: float  # all rewards as a share of what can be lost, as flatland's graders count them; 0 is perfect
    completion: float  # share of trains that arrived
    deadlocked: float  # share of trains that could never move again
    never_departed: float  # share of trains that never entered the map
    n_steps: int
    n_trains: int
    n_decisions: int
    action_counts: npt.NDArray[np.int64]  # [5], chosen at decisions
    train_arrived: npt.NDArray[np.bool_]  # [trains]
    policy_of_train: npt.NDArray[np.int64]  # [trains], or empty where they are not told apart
    train_scores: npt.NDArray[np.float64]  # [trains], their mean is the score
    # what of the score was lost by each of CAUSES, together all of it; empty where that is not told apart
    losses: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_trains(
        cls,
        train_rewards: npt.NDArray[np.float64],
        max_episode_steps: int,
        *,
        clips_losses: bool,
        arrived: npt.NDArray[np.bool_],
        departed: npt.NDArray[np.bool_],
        deadlocked: npt.NDArray[np.bool_],
        n_steps: int,
        action_counts: npt.NDArray[np.int64],
        policy_of_train: npt.NDArray[np.int64] = _NO_POLICIES,
        losses: npt.NDArray[np.float64] | None = None,
    ) -> "EpisodeResult":
        """From what is known of each train at the end, ``[trains]``: whether it ever arrived, departed, was deadlocked.

        Args:
            train_rewards: the sum of the environment's own rewards of each train.
            clips_losses: whether no more than ``max_episode_steps`` counts of what a train loses.
            losses: what each train has lost by each of ``CAUSES``, ``[trains, causes]``, where that is known. Of a
                train whose losses are clipped all causes count less, in proportion.
        """
        train_scores = train_rewards / max_episode_steps
        counted = np.maximum(train_scores, -1.0) if clips_losses else train_scores
        by_cause: dict[str, float] = {}
        if losses is not None:
            shares = np.divide(counted, train_scores, out=np.ones_like(counted), where=train_scores != 0.0)
            of_causes = (losses * shares[:, np.newaxis]).mean(axis=0) / max_episode_steps
            by_cause = dict(zip(CAUSES, of_causes.tolist(), strict=True))
        return cls(
            score=float(counted.mean()),
            completion=float(arrived.mean()),
            deadlocked=float(deadlocked.mean()),
            never_departed=float((~departed).mean()),
            n_steps=n_steps,
            n_trains=len(arrived),
            n_decisions=int(action_counts.sum()),
            action_counts=action_counts,
            train_arrived=arrived,
            policy_of_train=policy_of_train,
            train_scores=counted,
            losses=by_cause,
        )


def evaluation_metrics(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """Minimum, maximum, mean and standard deviation of scores, completions and steps, and what became of the rest."""
    metrics: dict[str, float] = {}
    measured: dict[str, list[float]] = {
        "scores": [result.score for result in results],
        "completions": [result.completion for result in results],
        "nb_steps": [result.n_steps for result in results],
    }
    for name, values in measured.items():
        for kind, number in (("min", np.min), ("max", np.max), ("mean", np.mean), ("std", np.std)):
            metrics[f"evaluation/{name}_{kind}"] = float(number(values))
    metrics["evaluation/nb_episodes"] = len(results)
    metrics["evaluation/deadlocked"] = float(np.mean([result.deadlocked for result in results]))
    metrics["evaluation/never_departed"] = float(np.mean([result.never_departed for result in results]))
    return metrics


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; the error of a single value is not known (nan)."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return float(np.mean(values)), error
