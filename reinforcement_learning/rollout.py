"""Plays an environment with a policy, step by step. Evaluation is the same rollout without a collector."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from flatland.envs.step_utils.states import TrainState

from reinforcement_learning.dueling_q_network import N_ACTIONS
from reinforcement_learning.policy import Policy
from reinforcement_learning.reward_shaping import EpisodeRewards, RewardShaping
from reinforcement_learning.transitions import TransitionCollector, Transitions
from utils.deadlock_check import deadlocked
from utils.observation_utils import Observer
from utils.simulator import Simulator

DO_NOTHING = 0


class TransitionSink(Protocol):
    """Takes finished transitions; a replay buffer is one."""

    def add(self, transitions: Transitions) -> None:
        """Takes over some transitions."""
        ...


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode; shares are of all trains."""

    score: float  # the environment's own: sum of rewards / (max_episode_steps * trains)
    completion: float  # share of trains that arrived
    deadlocked: float  # share of trains that could never move again
    never_departed: float  # share of trains that never entered the map
    n_steps: int
    n_decisions: int
    action_counts: npt.NDArray[np.int64]  # [5], chosen at decisions


@dataclass(frozen=True)
class Learning:
    """What a rollout needs beyond playing: where transitions go and what rewards they carry."""

    sink: TransitionSink
    shaping: RewardShaping
    n_step: int = 1


@dataclass
class Stopwatch:
    """Seconds spent, by part of the work."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _last: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """From here on time counts."""
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Books the time since the last lap or start."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now


class _Discard:
    def add(self, transitions: Transitions) -> None:
        pass


class Rollout:
    """One episode of one environment.

    Args:
        simulator: a level at its beginning.
        observer: makes observations and action masks.
        policy: chooses the actions of trains that have a choice.
        epsilon: share of random actions.
        learning: where transitions go; None, as in an evaluation, leaves no way to write any.
        stopwatch: books the seconds of the parts.
    """

    def __init__(
        self,
        simulator: Simulator,
        observer: Observer,
        policy: Policy,
        *,
        epsilon: float = 0.0,
        learning: Learning | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.simulator = simulator
        self.observer = observer
        self.policy = policy
        self.epsilon = epsilon
        self.stopwatch = stopwatch or Stopwatch()
        self.state = simulator.state
        self.n_steps = 0
        self.done = False
        self.deadlocked = np.zeros(self.state.n_trains, dtype=bool)
        self.arrived = np.zeros(self.state.n_trains, dtype=bool)
        self.departed = np.zeros(self.state.n_trains, dtype=bool)
        self.action_counts = np.zeros(N_ACTIONS, dtype=np.int64)
        # all actions so far, int8 [trains] each: a level and its actions are enough to come back to this point
        self.history: list[npt.NDArray[np.int8]] = []
        self._total_reward = 0.0
        self._learning = learning
        if learning is not None:
            n_features = observer.feature_set.n_features
            self._collector = TransitionCollector(
                self.state.n_trains, n_features, learning.shaping.gamma, learning.n_step
            )
            self._rewards = EpisodeRewards(learning.shaping, self.state)
        self._observe()

    def _observe(self) -> None:
        self._observations, self._action_mask = self.observer.observe(self.state)
        # nothing that a deadlocked train does matters any more; its last decision stays open until the episode ends
        self._action_mask[self.deadlocked, 1:] = False
        self._action_mask[self.deadlocked, DO_NOTHING] = True

    def step(self, recorded: npt.NDArray[np.int8] | None = None) -> None:
        """One step of the environment, with the policy's actions or with ``recorded`` ones ``[trains]``."""
        self.stopwatch.start()
        actions = self._choose(recorded)
        self.stopwatch.lap("inference")
        rewards, self.done = self.simulator.step(actions)
        self.n_steps += 1
        self.history.append(actions.astype(np.int8))
        self.stopwatch.lap("step")
        self._after_step(rewards)
        if not self.done:
            self._observe()
        self.stopwatch.lap("observation")

    def _choose(self, recorded: npt.NDArray[np.int8] | None) -> npt.NDArray[np.int64]:
        """Actions ``[trains]``: the only possible one, or where there are several the policy's."""
        actions = self._action_mask.argmax(axis=1)
        deciding = np.flatnonzero(np.count_nonzero(self._action_mask, axis=1) > 1)
        if len(deciding) == 0:
            return actions
        observations, masks = self._observations[deciding], self._action_mask[deciding]
        if recorded is None:
            actions[deciding] = self.policy.act(observations, masks, self.epsilon)
        else:
            actions[deciding] = recorded[deciding]
        self.action_counts += np.bincount(actions[deciding], minlength=N_ACTIONS)
        if self._learning is not None:
            self._learning.sink.add(self._collector.decide(deciding, observations, masks, actions[deciding]))
        return actions

    def _after_step(self, rewards: npt.NDArray[np.float64]) -> None:
        """Books rewards ``[trains]``, arrivals and deadlocks."""
        self._total_reward += float(rewards.sum())
        arrived = self.state.state == TrainState.DONE.value
        on_map = self.state.row >= 0
        self.departed |= on_map | arrived
        stuck = deadlocked(self.state) | self.deadlocked
        newly_arrived, newly_stuck = arrived & ~self.arrived, stuck & ~self.deadlocked
        self.arrived, self.deadlocked = arrived, stuck
        if self._learning is None:
            return
        self._collector.reward(self._rewards.step(rewards, self.state, newly_arrived, newly_stuck, self.done))
        over = np.arange(self.state.n_trains) if self.done else np.flatnonzero(newly_arrived)
        if len(over):
            self._learning.sink.add(self._collector.finish(over))

    def replay(self, history: Sequence[npt.NDArray[np.int8]]) -> None:
        """Comes back to the point of an interrupted episode; its finished transitions, stored then, are dropped now."""
        learning = self._learning
        if learning is not None:
            self._learning = dataclasses.replace(learning, sink=_Discard())
        for actions in history:
            self.step(actions)
        self._learning = learning

    def play(self) -> EpisodeResult:
        """Plays on to the end of the episode."""
        while not self.done:
            self.step()
        return self.result()

    def result(self) -> EpisodeResult:
        """What has come of the episode so far."""
        n_trains = self.state.n_trains
        return EpisodeResult(
            score=self._total_reward / (self.state.max_episode_steps * n_trains),
            completion=float(self.arrived.mean()),
            deadlocked=float(self.deadlocked.mean()),
            never_departed=float((~self.departed).mean()),
            n_steps=self.n_steps,
            n_decisions=int(self.action_counts.sum()),
            action_counts=self.action_counts,
        )
