"""Helpers of the tests: one observation, or one action mask, without keeping what makes them."""

import numpy as np
from numpy.typing import NDArray

from utils.observation.feature_sets import FeatureSet
from utils.observation.observer import Observer
from utils.simulator.action_mask import DEFAULT_DECISION_POINTS, fill_masks, stops_everywhere
from utils.simulator.rail_grid import N_ACTIONS
from utils.simulator.rail_state import RailState


def action_mask(
    state: RailState, enabled: bool = True, decision_points: str = DEFAULT_DECISION_POINTS
) -> NDArray[np.bool_]:
    """The allowed actions, bool [trains, 5], without regard to safety."""
    mask = np.empty((state.n_trains, N_ACTIONS), dtype=np.bool_)
    stop_everywhere = stops_everywhere(decision_points)
    fill_masks(not enabled, stop_everywhere, state.grid, state.constants, state.dynamic, mask)
    return mask


def observe(state: RailState, feature_set: FeatureSet) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features [trains, n_features] and action mask [trains, 5]."""
    return Observer(feature_set, safe_moves=False).observe(state)
