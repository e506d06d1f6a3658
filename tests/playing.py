"""Helpers of the tests: one level from its start to its end, and transitions to compare."""

from collections import Counter

import numpy as np
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.policy import Policy
from reinforcement_learning.rollout import EpisodeResult, Learning, Rollout
from reinforcement_learning.transitions import Transitions
from utils.observation_utils import Observer
from utils.simulator import FlatlandSimulator


class ListSink:
    """Keeps transitions as they come."""

    def __init__(self) -> None:
        self.received: list[Transitions] = []

    def add(self, transitions: Transitions) -> None:
        self.received.append(transitions)

    def all(self, field: str) -> np.ndarray:
        return np.concatenate([getattr(transitions, field) for transitions in self.received])

    def counted(self) -> Counter[tuple[bytes, ...]]:
        """How often each transition was received, all its fields to the bit."""
        fields = [self.all(field) for field in Transitions.__dataclass_fields__]
        return Counter(tuple(value.tobytes() for value in row) for row in zip(*fields, strict=True))


def begun(
    env: RailEnv, policy: Policy, *, observer: Observer | None = None, learning: Learning | None = None
) -> Rollout:
    """A rollout at the beginning of its only level."""
    rollout = Rollout(observer or Observer(), policy, env.get_num_agents(), learning=learning)
    rollout.start(0, FlatlandSimulator(env))
    return rollout


def play_out(rollout: Rollout) -> dict[int, EpisodeResult]:
    """Plays all running episodes to their ends; the results by environment."""
    results = {}
    while rollout.playing:
        results |= dict(rollout.step())
    return results


def play(
    env: RailEnv, policy: Policy, *, observer: Observer | None = None, learning: Learning | None = None
) -> EpisodeResult:
    """Plays one level."""
    return play_out(begun(env, policy, observer=observer, learning=learning))[0]
