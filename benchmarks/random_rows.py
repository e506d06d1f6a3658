"""Rows for a replay buffer, and full ones, where it does not matter what they hold."""

import numpy as np

from reinforcement_learning.learning.replay_buffer import ReplayBuffer
from reinforcement_learning.playing.episode_rows import NOT_SHOWN, NOTHING_FOLLOWS, EpisodeRows, row_layout
from utils.observation.feature_sets import FeatureSet


def random_rows(n: int, n_features: int, n_trains: int = 10, n_neighbours: int = 0) -> EpisodeRows:
    """``n`` decisions of trains that take turns; neighbours are those that have decided just before."""
    random = np.random.default_rng(0)
    rows = {name: np.ones((n, *shape), dtype) for name, (shape, dtype) in row_layout(n_features, n_neighbours).items()}
    rows["observations"] = random.random((n, n_features), dtype=np.float32)
    rows["actions"] = random.integers(5, size=n).astype(np.int8)
    rows["shown"][:] = NOT_SHOWN
    rows["next_row"] = np.where(np.arange(n) + n_trains < n, n_trains, NOTHING_FOLLOWS).astype(np.int32)
    if n_neighbours:
        rows["neighbours"][:] = np.where(np.arange(n)[:, np.newaxis] < n_neighbours, 0, -1 - np.arange(n_neighbours))
    return EpisodeRows.of(rows, np.zeros(n, dtype=np.int64))


def full_buffer(size: int, feature_set: FeatureSet) -> ReplayBuffer:
    """A replay buffer of so many decisions."""
    buffer = ReplayBuffer(size, feature_set, np.random.default_rng(0))
    rows = random_rows(min(size, 10_000), feature_set.n_own_features, n_neighbours=feature_set.n_neighbours)
    while not buffer.is_full:
        buffer.add(rows)
    return buffer
