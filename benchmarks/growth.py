"""How the cost of a train-step grows with trains and map, from 7 trains on 30 x 30 cells to 425 on 158 x 158.

    OMP_NUM_THREADS=1 python benchmarks/growth.py

Plays one level of official configurations (the Benchmarks setting) on the compiled simulator as a training with
``--feature_set tree_routes`` does, each train on the way with the least detour; times the step, the observation with
mask and safe moves, settling the chosen actions, and the deadlock check, per train. What a plan costs on top is in
planning_speed.md. Writes growth.md beside itself. Most of its time goes into generating the large levels.
"""

import os
import platform
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray

from benchmarks.frame import keep, markdown_table, processor, seconds_of
from utils.levels.env_configs import EnvConfig, resolve_env_config
from utils.levels.rail_envs import make_rail_env_fast
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.observation.route_features import least_detour_actions
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.deadlock_check import deadlocked

LEVELS = ("00", "02", "03", "05", "06", "08", "10", "11", "12", "13", "14")
PARTS = ("step", "observe", "settle", "deadlock check")
WARM_UP_STEPS, TIMED_STEPS = 80, 120


def main() -> None:
    """Measures, prints, writes."""
    rows = []
    for name in LEVELS:
        config = resolve_env_config(f"Benchmarks_Test_{name}")
        assert isinstance(config, EnvConfig)
        costs = _costs(CompiledSimulator.from_env(make_rail_env_fast(config, 1)))
        size = f"{config.width} x {config.height}"
        rows.append([config.name, config.n_agents, size, *(f"{cost:.2f}" for cost in costs)])
        print(*rows[-1], flush=True)
    how = (
        f"`OMP_NUM_THREADS=1 python benchmarks/growth.py` on {processor()}, one core of {os.cpu_count()}, Python "
        f"{platform.python_version()}. Microseconds per train and step, medians."
    )
    table = markdown_table(["configuration", "trains", "cells", *PARTS], rows)
    keep("growth", page=f"# Growth with trains and map\n\n{how}\n\n{table}")


def _costs(simulator: CompiledSimulator) -> NDArray[np.float64]:
    """Microseconds of each of :data:`PARTS`."""
    observer, state = Observer(get_feature_set("tree_routes"), safe_moves=True), simulator.state
    features = np.zeros((state.n_trains, observer.feature_set.n_features), dtype=np.float32)
    mask = np.zeros((state.n_trains, 5), dtype=np.bool_)
    seconds = []
    for step in range(min(WARM_UP_STEPS + TIMED_STEPS, state.max_episode_steps - 1)):
        observed = seconds_of(partial(observer.observe, state, features, mask, deciding_only=True))
        actions = least_detour_actions(features[:, observer.feature_set.route_features], mask)
        settled = seconds_of(partial(observer.settle, state, actions))
        stepped = seconds_of(partial(simulator.step, actions))
        checked = seconds_of(partial(deadlocked, state))
        if step >= WARM_UP_STEPS:
            seconds.append([stepped, observed, settled, checked])
    return 1e6 * np.median(seconds, axis=0) / state.n_trains


if __name__ == "__main__":
    main()
