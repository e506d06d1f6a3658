"""How long the parts of planning take, for 50 and for 425 trains, and how long numba compiles the planner.

    OMP_NUM_THREADS=1 python benchmarks/planning_speed.py

Prints Markdown tables, and writes them to planning_speed.md beside this file. Levels have seeds from 800000 on.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import psutil

from benchmarks.frame import keep, markdown_table, processor, seconds_of
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.feature_sets import get_feature_set
from utils.observation.observer import Observer
from utils.planning.level_plan import LevelPlan
from utils.planning.plan_tables import NEVER
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.state_arrays import DONE, MOVING
from utils.system.files import PROJECT_ROOT

LEVELS = {"Round2_Test_03": 5, "Round2_Test_14": 1}
FIRST_SEED = 800_000
_COMPILE = (
    "import time; from reinforcement_learning.scoring.planning import warm_up_planning; "
    "began = time.process_time(); warm_up_planning(); print(time.process_time() - began)"
)


def main() -> None:
    """Measures and writes."""
    compiled_in = _seconds_to_compile()
    _measure("Test_1", FIRST_SEED)  # whatever is loaded at a first call
    columns = {name: [_measure(name, FIRST_SEED + i) for i in range(n)] for name, n in LEVELS.items()}
    rows = [
        [part, *(f"{statistics.median(measured[part] for measured in column):.4g}" for column in columns.values())]
        for part in next(iter(columns.values()))[0]
    ]
    table = markdown_table(["", *(f"{name}, {ENV_CONFIGS[name].n_agents} trains" for name in LEVELS)], rows)
    page = (
        f"# What planning takes\n\n{processor()}, one core; seconds, medians over the levels.\n\n{table}\n\n"
        f"Compiling the planner, once for each version of the kit: {compiled_in:.0f} s of processor time."
    )
    keep("planning_speed", page=page)
    print(page)


def _measure(name: str, seed: int) -> dict[str, float]:
    """Seconds of each part on one level, and gigabytes of the whole process."""
    simulator = CompiledSimulator.from_env(make_rail_env(ENV_CONFIGS[name], seed))
    state, measured = simulator.state, {}
    plans: list[LevelPlan] = []
    measured["read the level"] = seconds_of(lambda: plans.append(LevelPlan(state)))
    plan = plans[0]
    measured["first plan for all trains"] = seconds_of(plan.make)
    planned = plan.arrivals < NEVER
    plan.search(2.0, 10**9)
    steps = []
    # until the trains are everywhere; then one of them breaks down
    while (state.state == MOVING).sum() < state.n_trains // 4 and state.elapsed_steps < state.max_episode_steps // 2:
        began = time.perf_counter()
        plan.follow()
        actions = plan.actions()
        steps.append(time.perf_counter() - began)
        if plan.is_late:
            plan.keep_order()
        simulator.step(actions)
    measured["a step without replanning"] = max(steps)
    under_way = np.flatnonzero((state.state == MOVING) & (state.malfunction == 0))
    simulator.malfunctions[state.elapsed_steps, under_way[0]] = 30
    plan.follow()
    simulator.step(plan.actions())
    plan.follow()
    measured["new times that keep the order"] = seconds_of(plan.keep_order)
    measured["a replanning that may take 1 s"] = measured["new times that keep the order"] + seconds_of(
        lambda: plan.search(1.0, 10**9)
    )
    measured["a step of the features `tree_plan`, mean of an episode"] = _seconds_of_features(name, seed)
    measured["memory of the process, GB"] = psutil.Process().memory_info().rss / 1e9
    measured["trains with a plan, %"] = 100 * planned.mean()
    assert not (state.state == DONE).all()
    return measured


def _seconds_of_features(name: str, seed: int) -> float:
    """What an observation with a plan takes on average when the trains follow it, the first plan included."""
    simulator = CompiledSimulator.from_env(make_rail_env(ENV_CONFIGS[name], seed))
    state, observer = simulator.state, Observer(get_feature_set("tree_plan"), safe_moves=True)
    seconds = []
    while not simulator.done:
        began = time.perf_counter()
        _, mask = observer.observe(state, deciding_only=True)
        seconds.append(time.perf_counter() - began)
        actions = observer.planned_actions(state, mask)
        assert actions is not None
        observer.settle(state, actions)
        simulator.step(actions)
    return statistics.fmean(seconds)


def _seconds_to_compile() -> float:
    """Processor time in a fresh process with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-c", _COMPILE]
        printed = subprocess.check_output(command, cwd=PROJECT_ROOT, env=environment, text=True)
    return float(printed.split()[-1])


if __name__ == "__main__":
    main()
