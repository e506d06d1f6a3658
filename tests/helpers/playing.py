"""Helpers of the tests: one level from its start to its end, simple policies, and transitions to compare."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.dddqn_policy import Batch, random_possible_actions
from reinforcement_learning.learning.learner import Learner, LocalLearner
from reinforcement_learning.learning.replay_buffer import ReplayBuffer
from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.playing.episode_rows import EpisodeRows, joined
from reinforcement_learning.playing.policy import Policy
from reinforcement_learning.playing.reward_shaping import RewardWeights, StepOfTrains
from reinforcement_learning.playing.rollout import ALONE, Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from utils.observation.feature_sets import FeatureSet, get_feature_set
from utils.observation.observer import Observer
from utils.simulator.rail_grid import MOVE_FORWARD, MOVE_LEFT, MOVE_RIGHT
from utils.simulator.simulator import FlatlandSimulator

TIMETABLE = get_feature_set("tree_timetable")
_DISTANCE_CHANGES = [TIMETABLE.feature_names.index(f"{m}_distance_change") for m in ("left", "forward", "right")]


def step_of_trains(
    rewards: np.ndarray,
    remaining_before: np.ndarray,
    remaining: np.ndarray,
    newly_arrived: np.ndarray,
    newly_deadlocked: np.ndarray,
    *,
    over: bool,
    max_episode_steps: int,
) -> StepOfTrains:
    """A step of one level in the only slot, from arrays ``[trains]``."""
    arrays = (rewards, remaining_before, remaining, np.zeros(len(rewards), dtype=bool), newly_arrived, newly_deadlocked)
    return StepOfTrains(
        *(array[np.newaxis] for array in arrays),
        actions=np.zeros((1, len(rewards)), dtype=np.int64),
        episode_over=np.array([[over]]),
        max_episode_steps=np.array([[max_episode_steps]]),
    )


class RandomPolicy:
    """Each possible action equally likely."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float | np.ndarray = 0.0) -> np.ndarray:
        return random_possible_actions(action_mask, self.random)


class ForwardPolicy:
    """Forward wherever that is possible, else the first possible move."""

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float | np.ndarray = 0.0) -> np.ndarray:
        first = MOVE_LEFT + action_mask[:, MOVE_LEFT:].argmax(axis=1)
        return np.where(action_mask[:, MOVE_FORWARD], MOVE_FORWARD, first)


class GreedyDistancePolicy:
    """Gets many trains home: the move that brings them nearest, read from the features of ``TIMETABLE``."""

    def act(self, observations: np.ndarray, action_mask: np.ndarray, epsilon: float | np.ndarray = 0.0) -> np.ndarray:
        moves = action_mask[:, MOVE_LEFT : MOVE_RIGHT + 1]
        return MOVE_LEFT + np.where(moves, observations[:, _DISTANCE_CHANGES], np.inf).argmin(axis=1)


class ListSink:
    """Keeps what episodes leave as it comes."""

    def __init__(self) -> None:
        self.received: list[EpisodeRows] = []

    def add(self, rows: EpisodeRows) -> None:
        self.received.append(rows)

    def all(self, field: str) -> np.ndarray:
        return np.concatenate([getattr(rows, field) for rows in self.received])

    def transitions(self, weights: RewardWeights, n_step: int = 1) -> Batch:
        """Those that a learner makes of it."""
        return all_transitions(joined(self.received), weights, n_step)

    def counted(self) -> Counter[tuple[bytes, ...]]:
        """How often each row was received, all its fields to the bit."""
        fields = [self.all(field) for field in EpisodeRows.__dataclass_fields__]
        return Counter(tuple(value.tobytes() for value in row) for row in zip(*fields, strict=True))


class OneAfterTheOther(np.random.Generator):
    """Draws all numbers in turn."""

    def integers(self, n: int, size: int) -> np.ndarray:  # type: ignore[override]
        return np.arange(size) % n


def all_transitions(rows: EpisodeRows, weights: RewardWeights, n_step: int = 1) -> Batch:
    """Each transition once, in the order of the rows at which they begin, all of which must be whole."""
    features = FeatureSet("test", 1, max_depth=1, n_neighbours=rows.neighbours.shape[1])
    layout = replace(rows, observations=np.zeros((len(rows), features.n_own_features), np.float32))
    buffer = ReplayBuffer(len(rows), features, OneAfterTheOther(np.random.PCG64()))
    buffer.add(layout)
    buffer._arrays["observations"] = rows.observations  # of whatever size
    return buffer.sample(len(rows), weights, n_step)


def transitions_in(learner: Learner) -> Batch:
    """As the learner makes them of what it has stored."""
    assert isinstance(learner, LocalLearner)
    rows, now = learner.buffer.rows(), learner.hyperparameters
    whose = np.zeros(learner.buffer.n_rows, dtype=np.int64)
    return all_transitions(EpisodeRows.of(rows, whose), now.reward_weights, now.n_step)


def begun(
    env: RailEnv,
    policy: Policy,
    *,
    observer: Observer | None = None,
    learning: Learning | None = None,
    train_settings: TrainSettings = ALONE,
) -> Rollout:
    """A rollout at the beginning of its only level."""
    rollout = Rollout(
        observer or Observer(get_feature_set("tree"), safe_moves=False),
        [policy],
        env.get_num_agents(),
        learning=learning,
    )
    rollout.start(0, FlatlandSimulator(env), train_settings)
    return rollout


def play_out(rollout: Rollout) -> dict[int, EpisodeResult]:
    """Plays all running episodes to their ends; the results by environment."""
    results = {}
    while rollout.playing:
        results |= dict(rollout.step())
    return results


def play(env: RailEnv, policy: Policy, **options: Any) -> EpisodeResult:
    """Plays one level, with the options of ``begun``."""
    return play_out(begun(env, policy, **options))[0]
