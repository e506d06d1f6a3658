"""What came of an episode, and the sums over many of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NO_POLICIES, _NO_REWARDS = np.zeros(0, dtype=np.int64), np.zeros(0)


def normalized_score(total_reward: float, max_episode_steps: int, n_trains: int) -> float:
    """The score that flatland's graders use: all rewards of an episode as a share of what can be lost; 0 is perfect."""
    return total_reward / (max_episode_steps * n_trains)


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode; shares are of all trains."""

    score: float  # see normalized_score
    completion: float  # share of trains that arrived
    deadlocked: float  # share of trains that could never move again
    never_departed: float  # share of trains that never entered the map
    n_steps: int
    n_trains: int
    n_decisions: int
    action_counts: npt.NDArray[np.int64]  # [5], chosen at decisions
    train_arrived: npt.NDArray[np.bool_]  # [trains]
    # [trains] each, or empty where trains are not told apart
    policy_of_train: npt.NDArray[np.int64]
    train_scores: npt.NDArray[np.float64]  # their mean is the score

    @classmethod
    def of_trains(
        cls,
        total_reward: float,
        max_episode_steps: int,
        *,
        arrived: npt.NDArray[np.bool_],
        departed: npt.NDArray[np.bool_],
        deadlocked: npt.NDArray[np.bool_],
        n_steps: int,
        action_counts: npt.NDArray[np.int64],
        policy_of_train: npt.NDArray[np.int64] = _NO_POLICIES,
        train_rewards: npt.NDArray[np.float64] = _NO_REWARDS,
    ) -> "EpisodeResult":
        """From what is known of each train, ``[trains]``, at the end.

        Args:
            total_reward: all of the environment's own rewards.
            max_episode_steps: of the level.
            arrived, departed, deadlocked: whether a train ever was.
            n_steps: steps played.
            action_counts: how often each action was chosen, ``[5]``.
            policy_of_train: numbers of the policies.
            train_rewards: the environment's own rewards of each train.
        """
        return cls(
            score=normalized_score(total_reward, max_episode_steps, len(arrived)),
            completion=float(arrived.mean()),
            deadlocked=float(deadlocked.mean()),
            never_departed=float((~departed).mean()),
            n_steps=n_steps,
            n_trains=len(arrived),
            n_decisions=int(action_counts.sum()),
            action_counts=action_counts,
            train_arrived=arrived,
            policy_of_train=policy_of_train,
            train_scores=train_rewards / max_episode_steps,
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
        metrics[f"evaluation/{name}_min"] = float(np.min(values))
        metrics[f"evaluation/{name}_max"] = float(np.max(values))
        metrics[f"evaluation/{name}_mean"] = float(np.mean(values))
        metrics[f"evaluation/{name}_std"] = float(np.std(values))
    metrics["evaluation/nb_episodes"] = len(results)
    metrics["evaluation/deadlocked"] = float(np.mean([result.deadlocked for result in results]))
    metrics["evaluation/never_departed"] = float(np.mean([result.never_departed for result in results]))
    return metrics


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; the error of a single value is not known (nan)."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return float(np.mean(values)), error
