"""The actor that plays: a ``RoundPlayer`` that makes its own levels and sorts its rows by policy."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.playing.experience import FinishedEpisode
from reinforcement_learning.workers.broadcast import News, Weights
from reinforcement_learning.workers.round_player import RoundPlayer, RoundRequest, Task


@dataclass(frozen=True)
class Play:
    """What a rollout actor is told for a round; the weights come apart from it, by reference."""

    levels: Sequence[int]  # more levels to play
    opened: tuple[int, ...]  # see ``RoundRequest``
    hyperparameters: Sequence[Hyperparameters] | None  # None: as before
    policies: Sequence[int]  # whose new weights come with it
    n_past_selves: int | None  # how many weights of older copies come behind them; None: they stay as they are


@dataclass(frozen=True)
class RoundReport:
    """The result of a round; the rows go to the learners, by reference."""

    n_transitions: Sequence[int]  # for each policy, of the episodes that have ended
    finished: Sequence[FinishedEpisode]
    seconds: dict[str, float]  # spent, by part of the work
    said: Sequence[str]


class RolloutActor:
    """Plays rounds, one call after the other."""

    def __init__(self, task: Task) -> None:
        warnings.simplefilter("ignore")  # what matters comes with the rounds
        torch.set_num_threads(1)
        self._n_policies = task.config.num_policies
        self._player = RoundPlayer(task)

    def ready(self) -> None:
        """Answers when the actor can play."""

    def play(self, request: Play, *weights: Weights) -> tuple[RoundReport | EpisodeRows | None, ...]:
        """Plays a round.

        Args:
            weights: of ``request.policies``, then of older copies.

        Returns:
            The report, and for each policy the rows of the trains that it has driven; None where there are none.
        """
        n_new = len(request.policies)
        news = News(
            dict(zip(request.policies, weights[:n_new], strict=True)),
            request.hyperparameters,
            None if request.n_past_selves is None else weights[n_new:],
        )
        levels = [(level_number, None) for level_number in request.levels]
        done = self._player.play(RoundRequest(levels, news, request.opened))
        parts: list[EpisodeRows | None] = [None] * self._n_policies
        if done.rows is not None:
            for p in np.unique(done.rows.policy_of_train[done.rows.decided]).tolist():
                if p < self._n_policies:
                    parts[p] = done.rows.of_policy(p)
        counts = [0 if part is None else part.n_transitions for part in parts]
        return RoundReport(counts, done.finished, done.seconds, done.said), *parts
