"""Helpers of the tests: rows as episodes leave them, made up."""

import numpy as np

from reinforcement_learning.playing.episode_rows import NOT_SHOWN, EpisodeRows, row_layout
from reinforcement_learning.playing.reward_shaping import RewardWeights

PLAIN = RewardWeights(gamma=0.5, shaping=0.0, arrival_reward=0.0, deadlock_penalty=0.0)


def made_up_rows(
    n: int, n_features: int, *, n_neighbours: int = 0, rewards: np.ndarray | None = None, **fields: np.ndarray
) -> EpisodeRows:
    """Decisions a step long, after which nothing follows; ``rewards`` are the environment's, other fields replace."""
    rows = {name: np.zeros((n, *shape), dtype) for name, (shape, dtype) in row_layout(n_features, n_neighbours).items()}
    for name in ("action_masks", "decided", "n_steps"):
        rows[name][:] = 1
    rows["shown"][:] = NOT_SHOWN
    if rewards is not None:
        rows["reward_parts"][:, 0, 0] = rewards
    for name, value in fields.items():
        rows[name] = value.astype(rows[name].dtype)
    return EpisodeRows.of(rows, np.zeros(n, dtype=np.int64))
