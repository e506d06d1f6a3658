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


class Broadcast:
    """The newest weights and hyper-parameters of all policies.

    Args:
        put: turns the weights of an older copy into what is sent: themselves, or a reference to them.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        past_selves: PastSelves,
        put: Callable[[Weights], Sent] = lambda weights: weights,
    ) -> None:
        self._learners, self._past_selves, self._put = learners, past_selves, put
        self._n_taken = 0
        self._copies: list[Sent] = []

    @property
    def hyperparameters(self) -> list[Hyperparameters]:
        """How each policy learns and explores."""
        return [learner.hyperparameters for learner in self._learners]

    @property
    def weights(self) -> list[Sent]:
        """Of each policy; the same object as long as nothing has changed."""
        return [learner.newest_weights[1] for learner in self._learners]

    @property
    def past_selves(self) -> tuple[int, list[Sent]]:
        """How many times older copies were taken, and the weights of those that there are."""
        if self._past_selves.n_taken != self._n_taken:
            self._n_taken = self._past_selves.n_taken
            self._copies = [self._put(weights) for weights in self._past_selves.weights()]
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
        newest, hyperparameters = self._broadcast.weights, self._broadcast.hyperparameters
        n_taken, copies = self._broadcast.past_selves
        news = News(
            {p: weights for p, weights in enumerate(newest) if weights is not self._weights.get(p)},
            None if hyperparameters == self._hyperparameters else hyperparameters,
            None if n_taken == self._n_taken else copies,
        )
        self._weights, self._hyperparameters, self._n_taken = dict(enumerate(newest)), hyperparameters, n_taken
        return news
