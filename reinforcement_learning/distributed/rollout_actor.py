"""The actor that plays: a ``RoundPlayer`` that makes its own levels and sorts its rows by policy."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch

from reinforcement_learning.playing.episode_rows import EpisodeRows
from reinforcement_learning.workers.broadcast import Weights
from reinforcement_learning.workers.round_player import Round, RoundPlayer, RoundRequest, Task

Report = tuple[Round, Sequence[int]]
"""A round without its rows, which go to the learners by reference, and the policies for which there are some."""


class RolloutActor:
    """Plays rounds, one call after the other."""

    def __init__(self, task: Task) -> None:
        warnings.simplefilter("ignore")  # what matters comes with the rounds
        torch.set_num_threads(1)
        self._n_policies = task.config.num_policies
        self._player = RoundPlayer(task)

    def ready(self) -> None:
        """Answers when the actor can play."""

    def play(self, request: RoundRequest, *weights: Weights) -> tuple[Report | EpisodeRows | None, ...]:
        """Plays a round.

        Args:
            request: all but the weights in it.
            weights: of the policies that it names, then of older copies.

        Returns:
            The report, and for each policy the rows of the trains that it has driven; None where there are none.
        """
        news, n_new = request.news, len(request.news.weights)
        copies = None if news.past_selves is None else weights[n_new:]
        news = replace(news, weights=dict(zip(news.weights, weights[:n_new], strict=True)), past_selves=copies)
        done = self._player.play(replace(request, news=news))
        parts = {} if done.rows is None else done.rows.by_policy(self._n_policies)
        return (replace(done, rows=None), list(parts)), *map(parts.get, range(self._n_policies))
