"""How the cost of a train-step grows with trains and map, from 7 trains on 30 x 30 cells to 425 on 158 x 158.

    OMP_NUM_THREADS=1 python benchmarks/growth.py

Plays one level of official configurations (the Benchmarks setting) on the compiled simulator as a training with
``--feature_set tree_routes`` does, each train on the way with the least detour; times the step, the observation with
mask and safe moves, settling the chosen actions, and the deadlock check, per train. What a plan costs on top is in
planning_speed.md. Writes growth.md and growth.png beside itself. Most of its time goes into generating the large
levels.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from benchmarks.machine import processor  # noqa: E402
from utils.levels.env_configs import EnvConfig, resolve_env_config  # noqa: E402
from utils.levels.rail_envs import make_rail_env_fast  # noqa: E402
from utils.observation.feature_sets import get_feature_set  # noqa: E402
from utils.observation.observer import Observer  # noqa: E402
from utils.observation.route_features import least_detour_actions  # noqa: E402
from utils.simulator.compiled_simulator import CompiledSimulator  # noqa: E402
from utils.simulator.deadlock_check import deadlocked  # noqa: E402

LEVELS = ("00", "02", "03", "05", "06", "08", "10", "11", "12", "13", "14")
PARTS = ("step", "observe", "settle", "deadlock check")
WARM_UP_STEPS, TIMED_STEPS = 80, 120


def main() -> None:
    """Measures, prints, writes."""
    rows = []
    for name in LEVELS:
        config = resolve_env_config(f"Benchmarks_Test_{name}")
        assert isinstance(config, EnvConfig)
        simulator = CompiledSimulator.from_env(make_rail_env_fast(config, 1))
        rows.append((config, _costs(simulator)))
        print(_line(*rows[-1]), flush=True)
    header = [
        "# Growth with trains and map",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/growth.py` on {processor()}, one core of {os.cpu_count()}, Python "
        f"{platform.python_version()}. Microseconds per train and step, medians.",
        "",
        "| configuration | trains | cells | " + " | ".join(PARTS) + " |",
        "| --- | --- | --- |" + " --- |" * len(PARTS),
    ]
    (HERE / "growth.md").write_text("\n".join([*header, *(_line(*row) for row in rows), ""]))
    _draw(rows)


def _costs(simulator: CompiledSimulator) -> dict[str, float]:
    observer, state = Observer(get_feature_set("tree_routes"), safe_moves=True), simulator.state
    features = np.zeros((state.n_trains, observer.feature_set.n_features), dtype=np.float32)
    mask = np.zeros((state.n_trains, 5), dtype=np.bool_)
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    for step in range(min(WARM_UP_STEPS + TIMED_STEPS, state.max_episode_steps - 1)):
        observed = _timed(partial(observer.observe, state, features, mask, deciding_only=True))
        actions = least_detour_actions(features[:, observer.feature_set.route_features], mask)
        settled = _timed(partial(observer.settle, state, actions))
        stepped = _timed(partial(simulator.step, actions))
        checked = _timed(partial(deadlocked, state))
        if step >= WARM_UP_STEPS:
            for part, value in zip(PARTS, (stepped, observed, settled, checked), strict=True):
                seconds[part].append(value)
    return {part: 1e6 * statistics.median(values) / state.n_trains for part, values in seconds.items()}


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _line(config: EnvConfig, costs: dict[str, float]) -> str:
    figures = " | ".join(f"{costs[part]:.2f}" for part in PARTS)
    return f"| {config.name} | {config.n_agents} | {config.width} x {config.height} | {figures} |"


def _draw(rows: list[tuple[EnvConfig, dict[str, float]]]) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for part in PARTS:
        axes.plot([config.n_agents for config, _ in rows], [costs[part] for _, costs in rows], "o-", label=part)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("trains (larger maps with more trains, 30 x 30 to 158 x 158 cells)")
    axes.set_ylabel("microseconds per train and step")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(HERE / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
