"""Features of your own: how late a train is, and where it stands among the others.

    python reinforcement_learning/multi_agent_training.py -n 2500 -t 1 --features examples.more_features:Order

They follow the features of --feature_set in every observation. If you change what they mean, give them a new version:
checkpoints of another version are refused then, instead of playing with numbers that they do not understand.
"""

import numpy as np
from numpy.typing import NDArray

from utils.simulator.rail_state import RailState, remaining_travel_time


class Order:
    """Three numbers from -1 to 1 for each train.

    Attributes:
        name, version, n_features: what is stored in checkpoints.
    """

    name, version, n_features = "order", 1, 3

    def __call__(self, state: RailState) -> NDArray[np.float64]:
        """The features of all trains, ``[trains, 3]``."""
        travel_time = remaining_travel_time(state)  # in steps, [trains]
        left = state.latest_arrival - state.elapsed_steps - travel_time
        slack = np.clip(left / state.max_episode_steps, -1.0, 1.0)
        return np.stack([slack, _share_before(travel_time), _share_before(left)], axis=1)


def _share_before(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of trains, ``[trains]``, whose value is smaller."""
    smaller = values[np.newaxis, :] < values[:, np.newaxis]
    return smaller.mean(axis=1)
