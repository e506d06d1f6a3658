"""A rollout actor, as the process sees it that hands out levels and weights."""

import time
from collections import deque
from collections.abc import Sequence

import ray

from reinforcement_learning.distributed.remote_learner import RemoteLearner
from reinforcement_learning.distributed.rollout_actor import Play, RolloutActor
from reinforcement_learning.multi_policy.hyperparameters import Hyperparameters
from reinforcement_learning.multi_policy.past_selves import PastSelves
from reinforcement_learning.round_player import Task


class Broadcast:
    """The newest of what all rollout actors are to play with; weights are references into Ray's object store.

    Args:
        learners: whose policies play.
        past_selves: older copies that play as well.
    """

    def __init__(self, learners: Sequence[RemoteLearner], past_selves: PastSelves) -> None:
        self._learners, self._past_selves = learners, past_selves
        self._n_taken = 0
        self._copies: list[ray.ObjectRef] = []

    @property
    def terms(self) -> list[Hyperparameters]:
        """How each policy learns and explores."""
        return [learner.hyperparameters for learner in self._learners]

    @property
    def weights(self) -> list[tuple[int, "ray.ObjectRef"]]:
        """Of each policy: its learning steps by then, and the weights."""
        return [learner.newest_weights for learner in self._learners]

    @property
    def past_selves(self) -> tuple[int, list["ray.ObjectRef"]]:
        """How many times older copies were taken, and the weights of those that there are."""
        if self._past_selves.n_taken != self._n_taken:
            self._n_taken = self._past_selves.n_taken
            self._copies = [ray.put(weights) for weights in self._past_selves.weights()]
        return self._n_taken, self._copies


class RemoteRollout:
    """An actor that plays; see :class:`~.rollout_actor.RolloutActor`.

    Args:
        task: what it does.
        n_ended: how many actors in a row it replaces that have ended before they had played anything.

    Attributes:
        started: is answered when it can play.
        levels: those it was given and has not finished.
        asked: when each of the rounds was asked for that it has not played yet.
    """

    def __init__(self, task: Task, n_ended: int = 0) -> None:
        self.n_ended = n_ended
        self.is_ready = False
        self.levels: list[int] = []
        self.asked: deque[float] = deque()
        self._n_policies = task.config.num_policies
        self._weights: list[ray.ObjectRef | None] = [None] * self._n_policies  # that it was sent last
        self._terms: list[Hyperparameters] | None = None
        self._n_taken = 0
        options = {"num_cpus": 1, "max_restarts": 0}
        self.actor = ray.remote(RolloutActor).options(**options).remote(task)
        self.started = self.actor.ready.remote()

    def begin(self) -> None:
        """From now on it can be asked."""
        self.is_ready = True

    def ask(
        self, levels: Sequence[int], broadcast: Broadcast
    ) -> tuple["ray.ObjectRef", list["ray.ObjectRef"], list[int]]:
        """Asks for a round, with more levels and what is new.

        Returns:
            The report, the transitions of each policy, and how many learning steps its weights are of.
        """
        newest, terms = broadcast.weights, broadcast.terms
        policies = [p for p, (_, weights) in enumerate(newest) if weights is not self._weights[p]]
        n_taken, copies = broadcast.past_selves
        new_copies = copies if n_taken != self._n_taken else None
        request = Play(
            list(levels),
            None if terms == self._terms else terms,
            policies,
            None if new_copies is None else len(new_copies),
        )
        play = self.actor.play.options(num_returns=1 + self._n_policies)
        report, *parts = play.remote(request, *(newest[p][1] for p in policies), *(new_copies or []))
        self._weights, self._terms, self._n_taken = [weights for _, weights in newest], terms, n_taken
        self.levels += levels
        self.asked.append(time.monotonic())
        return report, parts, [age for age, _ in newest]

    def played(self, finished: Sequence[int]) -> None:
        """A round is here, in which these levels were finished."""
        self.asked.popleft()
        self.n_ended = -1  # its end would be the first in a row
        for level in finished:
            self.levels.remove(level)

    def end(self) -> None:
        """Ends the actor."""
        ray.kill(self.actor)
