"""How fast a step of the PettingZoo environment is beside flatland-rl's own environment, on the same levels.

    OMP_NUM_THREADS=1 python benchmarks/parallel_env.py

Test_1, ten trains. Actions are drawn from the action mask. ``RailEnv`` makes its own tree observations, of the same
depth, and gets the same actions. Both play in turns in one process; what is printed are medians over the levels.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder

from benchmarks.classic_kit import tree_builder
from benchmarks.frame import processor
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.parallel_env import FlatlandParallelEnv

CONFIG, N_LEVELS, FIRST_SEED = ENV_CONFIGS["Test_1"], 9, 600_000
Played = tuple[float, list[dict[int, int]]]  # seconds of a step, and the actions of all steps by handle


def play(env: FlatlandParallelEnv, seed: int) -> Played:
    """One level with random actions."""
    random, steps, seconds = np.random.default_rng(seed), [], 0.0
    observations, _ = env.reset(options={"level_seed": seed})
    while env.agents:
        actions = {a: int(random.choice(np.flatnonzero(observations[a]["action_mask"]))) for a in env.agents}
        started = time.process_time()
        observations, *_ = env.step(actions)
        seconds += time.process_time() - started
        steps.append({int(agent.removeprefix("train_")): action for agent, action in actions.items()})
    return seconds / len(steps), steps


def play_on_flatland(steps: list[dict[int, int]], seed: int) -> float:
    """The same level and actions on flatland-rl; returns the seconds of a step."""
    env = make_rail_env(CONFIG, seed)
    env.obs_builder = tree_builder(env)
    started = time.process_time()
    for actions in steps:
        env.step(actions)
    return (time.process_time() - started) / len(steps)


def main() -> None:
    """Prints a row for each way of making the environment."""
    print(f"{processor()}, one thread, {CONFIG.name}, {N_LEVELS} levels")
    print(f"{'environment':34} {'us a step':>10} {'RailEnv with trees':>20} {'times as fast':>14}")
    ways = {
        "tree, without safe moves": FlatlandParallelEnv(CONFIG, "tree", safe_moves=False),
        "defaults (tree_routes, safe moves)": FlatlandParallelEnv(CONFIG),
    }
    for way, env in ways.items():
        play(env, FIRST_SEED)  # loads or compiles
        rows = []
        for seed in range(FIRST_SEED, FIRST_SEED + N_LEVELS):
            seconds, steps = play(env, seed)
            rows.append((seconds, play_on_flatland(steps, seed)))
        own, flatland = 1e6 * np.median(rows, axis=0)
        print(f"{way:34} {own:10.1f} {flatland:20.1f} {np.median([b / a for a, b in rows]):14.0f}", flush=True)
        env.close()


if __name__ == "__main__":
    main()
