"""A rollout actor, as the training process sees it."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import ray

from reinforcement_learning.distributed.rollout_actor import RolloutActor
from reinforcement_learning.workers.broadcast import Listener
from reinforcement_learning.workers.round_player import RoundRequest, Task


class RemoteRollout:
    """An actor that plays: a ``RolloutActor``, which is asked for rounds.

    Args:
        n_ended: how many actors in a row it replaces that have ended before they had played anything.

    Attributes:
        started: the call that is answered when it can play.
        levels: those it was given and has not finished.
        asked: when each of the rounds was asked for that it has not played yet.
    """

    def __init__(self, task: Task, listener: Listener, n_ended: int) -> None:
        self.n_ended = n_ended
        self.is_ready = False
        self.levels: list[int] = []
        self.asked: deque[float] = deque()
        self._n_policies = task.config.num_policies
        self._listener = listener
        options = {"num_cpus": 1, "max_restarts": 0}
        self.actor = ray.remote(RolloutActor).options(**options).remote(task)
        self.started = self.actor.ready.remote()

    def begin(self) -> None:
        """From now on it can be asked."""
        self.is_ready = True

    def ask(
        self, levels: Sequence[int], opened: tuple[int, ...]
    ) -> tuple["ray.ObjectRef", list["ray.ObjectRef"], Mapping[int, "ray.ObjectRef"]]:
        """Asks for a round, with more levels, what they are made of (see ``RoundRequest``) and what is new.

        Returns:
            The report, the transitions of each policy, and the weights that came with it, by policy.
        """
        news = self._listener.news()
        copies = news.past_selves
        # Ray puts weights in the place of references only where those are not within something else
        rest = replace(news, weights=dict.fromkeys(news.weights), past_selves=None if copies is None else ())
        request = RoundRequest([(level_number, None) for level_number in levels], rest, opened)
        play = self.actor.play.options(num_returns=1 + self._n_policies)
        report, *parts = play.remote(request, *news.weights.values(), *(copies or []))
        self.levels += levels
        self.asked.append(time.monotonic())
        return report, parts, news.weights

    def played(self, finished: Sequence[int]) -> None:
        """Takes note that a round has come, in which these levels were finished."""
        self.asked.popleft()
        self.n_ended = -1  # its end would be the first in a row
        for level_number in finished:
            self.levels.remove(level_number)

    def not_played(self, levels: Sequence[int]) -> None:
        """Takes note that a round, in which it was given these levels, has not reached it."""
        self.asked.popleft()
        for level_number in levels:
            self.levels.remove(level_number)
        self._listener.forget()

    def end(self) -> None:
        """Ends the actor."""
        ray.kill(self.actor)
