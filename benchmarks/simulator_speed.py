"""How much faster a step of the compiled simulator is than flatland-rl's own, on any environment.

    OMP_NUM_THREADS=1 python benchmarks/simulator_speed.py ECML_medium

Both play the same level with the same actions, in turn, in one process: the shortest path, a tenth of the actions drawn
at random. Prints the medians over the rounds.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from flatland.envs.rewards import ECML2026Rewards
from numpy.typing import NDArray

from benchmarks.frame import parser_of, processor
from utils.levels.env_configs import Environment, resolve_env_config
from utils.levels.flatland_workarounds import clear_flatland_caches
from utils.levels.rail_envs import make_rail_env
from utils.rules.shortest_path import shortest_path_actions
from utils.simulator.compiled_simulator import CompiledSimulator

RANDOM_SHARE = 0.1


def main() -> None:
    """Measures and prints."""
    parser = parser_of(__doc__)
    parser.add_argument("environment", help="what -t takes")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = replace(resolve_env_config(options.environment), rewards=ECML2026Rewards)
    actions = _actions(config, options.seed)
    _microseconds_compiled(config, options.seed, actions)  # whatever is loaded at a first call
    measures = (_microseconds_of_flatland, _microseconds_compiled)
    pairs = [[measure(config, options.seed, actions) for measure in measures] for _ in range(options.rounds)]
    flatland, ours = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    print(
        f"{config.name}, seed {options.seed}, {actions.shape[1]} trains, {len(actions)} steps, {processor()}: a step "
        f"of flatland-rl takes {flatland:.0f} us, of the compiled simulator {ours:.1f} us, {ratio:.0f} times less"
    )


def _actions(config: Environment, seed: int) -> NDArray[np.int64]:
    """``[steps, trains]``, until the episode is over."""
    simulator, random = CompiledSimulator.from_env(make_rail_env(config, seed)), np.random.default_rng(0)
    actions = []
    while not simulator.done:
        chosen = shortest_path_actions(simulator.state)
        is_random = random.random(len(chosen)) < RANDOM_SHARE
        chosen[is_random] = random.integers(0, 5, is_random.sum())
        actions.append(chosen)
        simulator.step(chosen)
    return np.array(actions)


def _microseconds_of_flatland(config: Environment, seed: int, actions: NDArray[np.int64]) -> float:
    clear_flatland_caches()
    env = make_rail_env(config, seed)
    return _for_each_step([dict(enumerate(chosen)) for chosen in actions.tolist()], env.step)


def _microseconds_compiled(config: Environment, seed: int, actions: NDArray[np.int64]) -> float:
    return _for_each_step(list(actions), CompiledSimulator.from_env(make_rail_env(config, seed)).step)


def _for_each_step(actions: Sequence[object], step: Callable[..., object]) -> float:
    """CPU time, which leaves other programs out; so is the first step, which draws random numbers."""
    step(actions[0])
    started = time.process_time()
    for chosen in actions[1:]:
        step(chosen)
    return 1e6 * (time.process_time() - started) / (len(actions) - 1)


if __name__ == "__main__":
    main()
