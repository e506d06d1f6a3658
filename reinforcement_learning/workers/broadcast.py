"""The newest weights and hyper-parameters for processes that play: each is sent only what is new to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.learner import Learner
from reinforcement_learning.multi_policy.past_selves import PastSelves

Weights = npt.NDArray[np.float32]  # one policy's, all in one
Sent = Any  # weights, or a reference to where they are


@dataclass(frozen=True)
class News:
    """What a process that plays is sent before it plays on; what is left out stays as it was."""

    weights: Mapping[int, Sent] = field(default_factory=dict)  # by policy
    hyperparameters: Sequence[Hyperparameters] | None = None  # of each policy
    past_selves: Sequence[Sent] | None = None  # of all older copies, see ``PastSelves``


@dataclass
class Broadcast:
    """The newest weights and hyper-parameters of all policies."""

    learners: Sequence[Learner]
    older: PastSelves
    put: Callable[[Weights], Sent] = lambda weights: weights  # turns an older copy's into what is sent
    _n_taken: int = 0
    _copies: list[Sent] = field(default_factory=list)

    @property
    def past_selves(self) -> tuple[int, list[Sent]]:
        """How many times older copies were taken, and the weights of those that there are."""
        if self.older.n_taken != self._n_taken:
            self._n_taken = self.older.n_taken
            self._copies = [self.put(weights) for weights in self.older.weights()]
        return self._n_taken, self._copies


class Listener:
    """Remembers what one process that plays has been sent."""

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        self.forget()

    def forget(self) -> None:
        """Nothing that was sent counts as sent any more."""
        self._weights: dict[int, Sent] = {}
        self._hyperparameters: list[Hyperparameters] | None = None
        self._n_taken = 0

    def news(self) -> News:
        """What has not been sent to it yet; from now on this counts as sent."""
        learners = self._broadcast.learners
        newest = [learner.newest_weights[1] for learner in learners]  # the same objects as long as nothing has changed
        hyperparameters = [learner.hyperparameters for learner in learners]
        n_taken, copies = self._broadcast.past_selves
        news = News(
            {p: weights for p, weights in enumerate(newest) if weights is not self._weights.get(p)},
            None if hyperparameters == self._hyperparameters else hyperparameters,
            None if n_taken == self._n_taken else copies,
        )
        self._weights, self._hyperparameters, self._n_taken = dict(enumerate(newest)), hyperparameters, n_taken
        return news
