"""Shows that memory stays flat over thousands of episodes.

Plays episodes with random actions on ever new levels and prints the resident memory every 100 episodes:

    python benchmarks/memory.py --env Test_1 -n 2500

Without the clearing of flatland's caches the same run grows by about 2 MB an episode (``--no_clearing``).
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from flatland.envs.rail_env import RailEnv

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.levels import flatland_workarounds
from utils.levels.env_configs import resolve_env_config
from utils.levels.level_streams import TrainingLevels


def play_randomly(env: RailEnv, generator: np.random.Generator) -> int:
    """Plays one episode with random actions; returns its number of steps."""
    while not env.dones["__all__"]:
        actions = generator.integers(0, 5, len(env.agents))
        env.step({handle: int(action) for handle, action in enumerate(actions)})
    return int(env._elapsed_steps)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Test_1", help="a configuration or a saved environment")
    parser.add_argument("-n", "--n_episodes", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no_clearing", action="store_true", help="leave flatland's caches alone, for comparison")
    args = parser.parse_args()
    if args.no_clearing:
        flatland_workarounds.LEVELS_BETWEEN_CLEARINGS = sys.maxsize

    levels = TrainingLevels(resolve_env_config(args.env), args.seed)
    generator = np.random.default_rng(args.seed)
    process = psutil.Process()
    settled, highest = 0.0, 0.0
    start = time.perf_counter()
    for episode in range(1, args.n_episodes + 1):
        play_randomly(levels.make(episode - 1), generator)
        if episode % 100 == 0:
            resident = process.memory_info().rss / 2**20
            print(f"episode {episode:5}  {resident:7.1f} MB  {time.perf_counter() - start:6.0f} s", flush=True)
            if episode == 200:
                settled = resident
            if episode >= 200:
                highest = max(highest, resident)
    if settled:
        print(f"highest resident memory after episode 200: {highest - settled:+.1f} MB")


if __name__ == "__main__":
    main()
