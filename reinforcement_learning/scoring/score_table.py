"""What players reached, summed up for people and for files."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reinforcement_learning.playing.episode_result import EpisodeResult, mean_and_standard_error

_HEADINGS = {
    "late_arrival": "late",
    "not_arrived": "not arrived",
    "cancelled": "cancelled",
    "stop_not_served": "no stop",
    "stop_late": "late stop",
    "stop_early": "early stop",
    "collision": "collision",
}
"""What the table calls the causes of ``EpisodeResult.losses``."""
_WORTH_TELLING = ("stop_not_served", "stop_late", "stop_early", "collision")


@dataclass(frozen=True)
class Played:
    """One episode, and the seconds that an average step of it took, simulator included."""

    seed: int
    result: EpisodeResult
    seconds_per_step: float


@dataclass(frozen=True)
class ShareOfTrains:
    """The trains that one of several policies drives, level by level where it drives any."""

    trains_per_level: float
    scores: list[float]
    completions: list[float]

    @classmethod
    def of(cls, policy: int, results: Sequence[EpisodeResult]) -> "ShareOfTrains":
        """Those of a policy."""
        own = [(result, result.policy_of_train == policy) for result in results]
        driven = [(result, trains) for result, trains in own if trains.any()]
        return cls(
            sum(int(trains.sum()) for _, trains in own) / len(results),
            [float(result.train_scores[trains].mean()) for result, trains in driven],
            [float(result.train_arrived[trains].mean()) for result, trains in driven],
        )


@dataclass
class Scored:
    """A player's episodes on one environment."""

    policy: str
    config: str
    first_seed: int
    played: list[Played] = field(default_factory=list)

    def values(self, measure: str) -> list[float]:
        """A field of :class:`EpisodeResult`, episode by episode."""
        return [float(getattr(played.result, measure)) for played in self.played]

    @property
    def losses(self) -> dict[str, float]:
        """What of the mean score was lost by each cause; empty where that is not told apart."""
        by_episode = [played.result.losses for played in self.played]
        return {cause: statistics.fmean(losses[cause] for losses in by_episode) for cause in by_episode[0]}

    @property
    def by_policy(self) -> "dict[int, ShareOfTrains]":
        """What the trains of each policy have reached, by its number; empty where a single one drives all."""
        results = [played.result for played in self.played]
        policies = sorted({policy for result in results for policy in result.policy_of_train.tolist()})
        return {policy: ShareOfTrains.of(policy, results) for policy in policies} if len(policies) > 1 else {}

    @property
    def seconds_per_step(self) -> float:
        """The median over episodes; the first one also loads compiled code."""
        return statistics.median(played.seconds_per_step for played in self.played)

    @property
    def seconds_per_level(self) -> float:
        """The mean, simulator included; of the first level too, which also loads compiled code."""
        return statistics.fmean(played.seconds_per_step * played.result.n_steps for played in self.played)

    def as_dict(self) -> dict[str, Any]:
        """The row of the JSON file; standard errors are null for a single episode."""
        score, score_error = mean_and_standard_error(self.values("score"))
        completion, completion_error = mean_and_standard_error(self.values("completion"))
        n = len(self.played)
        return {
            "policy": self.policy,
            "config": self.config,
            "episodes": n,
            "first_seed": self.first_seed,
            "score_mean": score,
            "score_se": score_error if n > 1 else None,
            "completion_mean": completion,
            "completion_se": completion_error if n > 1 else None,
            "deadlock_mean": statistics.fmean(self.values("deadlocked")),
            "never_departed_mean": statistics.fmean(self.values("never_departed")),
            "losses_mean": self.losses,
            "by_policy": [
                {
                    "policy": policy,
                    "trains_per_level": own.trains_per_level,
                    "score_mean": statistics.fmean(own.scores),
                    "completion_mean": statistics.fmean(own.completions),
                }
                for policy, own in self.by_policy.items()
            ],
            "seconds_per_step": self.seconds_per_step,
            "seconds_per_level": self.seconds_per_level,
            "per_episode": [
                {
                    "seed": played.seed,
                    "score": played.result.score,
                    "completion": played.result.completion,
                    "deadlocked": played.result.deadlocked,
                    "never_departed": played.result.never_departed,
                    "steps": played.result.n_steps,
                    "losses": played.result.losses,
                }
                for played in self.played
            ],
        }


def table(rows: Sequence[Scored]) -> str:
    """The rows of one environment for people, below them paired differences to the first policy.

    Differences are taken level by level: what makes a level hard or easy cancels out, so their standard errors are
    smaller than those of the rows.
    """
    width = max(len(row.policy) for row in rows)
    n, first = len(rows[0].played), rows[0].first_seed
    levels = f"{n} levels, seeds {first} to {first + n - 1}" if n > 1 else f"1 level, seed {first}"
    lines = [f"{rows[0].config}, {levels}"]
    lines.append(f"{'policy':{width}}  {'score':>15}  {'completion':>15}  deadlocked  never departed  ms/step  s/level")
    for row in rows:
        lines.append(
            f"{row.policy:{width}}  {_with_error(row.values('score'))}  {_with_error(row.values('completion'))}  "
            f"{statistics.fmean(row.values('deadlocked')):10.3f}  "
            f"{statistics.fmean(row.values('never_departed')):14.3f}  {1000 * row.seconds_per_step:7.2f}  "
            f"{row.seconds_per_level:7.2f}"
        )
    lines += _lines_of_policies(rows, width)
    lines += _lines_of_losses(rows, width)
    if len(rows) > 1:
        lines.append(f"difference to {rows[0].policy}, level by level")
    for row in rows[1:]:
        differences = [
            _with_error([own - other for own, other in zip(row.values(measure), rows[0].values(measure), strict=True)])
            for measure in ("score", "completion")
        ]
        lines.append(f"{row.policy:{width}}  {'  '.join(differences)}")
    return "\n".join(lines)


def _lines_of_policies(rows: Sequence[Scored], width: int) -> list[str]:
    """Which policy drives how many trains, and what they reach, where several share the trains."""
    lines = []
    for row in (row for row in rows if row.by_policy):
        lines.append(f"the trains of each policy of {row.policy}")
        for policy, own in row.by_policy.items():
            who = f"policy {policy}, {own.trains_per_level:.1f} trains a level"
            lines.append(f"{who:{width}}  {_with_error(own.scores)}  {_with_error(own.completions)}")
    return lines


def _lines_of_losses(rows: Sequence[Scored], width: int) -> list[str]:
    """What of the scores was lost by each cause, where anything was lost to stops or collisions."""
    losses = [row.losses for row in rows]
    if not any(of_row[cause] for of_row in losses for cause in of_row if cause in _WORTH_TELLING):
        return []
    lines = [f"{'lost to':{width}}  {'  '.join(_HEADINGS.values())}"]
    for row, of_row in zip(rows, losses, strict=True):
        cells = [f"{of_row[cause]:{len(heading)}.3f}" for cause, heading in _HEADINGS.items()]
        lines.append(f"{row.policy:{width}}  {'  '.join(cells)}")
    return lines


def _with_error(values: Sequence[float]) -> str:
    mean, error = mean_and_standard_error(values)
    return f"{mean:7.3f} ± {error:.3f}" if len(values) > 1 else f"{mean:15.3f}"
