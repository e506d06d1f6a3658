"""What scoring and submitting cost: against flatland-rl itself, and on the largest official configuration.

    python benchmarks/submission.py

Seconds are CPU seconds of this process, which other processes disturb less than the clock.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flatland.envs.rail_env import RailEnv

from benchmarks.machine import processor
from reinforcement_learning.checkpointing import checkpoint_to_submit
from reinforcement_learning.rollout import Rollout, Stopwatch
from reinforcement_learning.scoring import Scorer, Task
from reinforcement_learning.submission import load_warmed_up
from utils.env_configs import ENV_CONFIGS, make_rail_env, quiet_generation, unset_rail_env
from utils.flatland_caches import clear_flatland_caches
from utils.simulator import FlatlandSimulator

SEEDS = range(1000, 1050)
CONFIG = ENV_CONFIGS["Test_1"]
LARGEST = ENV_CONFIGS["Round2_Test_14"]


class _ActionsOnly(FlatlandSimulator):
    """Remembers the actions of an episode."""

    def __init__(self, env: RailEnv) -> None:
        super().__init__(env)
        self.actions: list[dict[int, int]] = []

    def _step_env(self, actions: dict[int, int]) -> tuple[dict[int, float], bool]:
        self.actions.append(actions)
        return super()._step_env(actions)


def bare_seconds(actions: dict[int, list[dict[int, int]]]) -> float:
    """Levels made and stepped by flatland-rl alone, with actions that are known already."""
    started = time.process_time()
    for seed in SEEDS:
        with quiet_generation():
            env = unset_rail_env(CONFIG, seed)
            env.reset(True, True, random_seed=seed)
        for chosen in actions[seed]:
            env.step(chosen)
        clear_flatland_caches()  # without it the later levels of a long run would be slower
    return time.process_time() - started


def scoring_seconds(checkpoint: str) -> float:
    """The same levels by evaluate_agent's way, with the same checkpoint."""
    scorer = Scorer([checkpoint])
    started = time.process_time()
    for _ in scorer.play([Task(CONFIG, seed) for seed in SEEDS]):
        pass
    return time.process_time() - started


def largest_configuration() -> list[dict[str, float]]:
    """CPU seconds of each step of an episode, by part."""
    policy, observer = load_warmed_up(checkpoint_to_submit())
    env = make_rail_env(LARGEST, 0)
    stopwatch, steps = Stopwatch(clock=time.process_time), []
    rollout = Rollout(observer, [policy], LARGEST.n_agents, stopwatch=stopwatch)
    rollout.start(0, FlatlandSimulator(env))
    while rollout.playing:
        stopwatch.seconds.clear()
        rollout.step()
        steps.append(dict(stopwatch.seconds))
    return steps


def main() -> None:
    """Prints the figures."""
    print(processor())
    checkpoint = str(checkpoint_to_submit())
    policy, observer = load_warmed_up(checkpoint)
    actions = {}
    for seed in SEEDS:
        simulator = _ActionsOnly(make_rail_env(CONFIG, seed))
        rollout = Rollout(observer, [policy], CONFIG.n_agents)
        rollout.start(0, simulator)
        while rollout.playing:
            rollout.step()
        actions[seed] = simulator.actions
    ratios = [scoring_seconds(checkpoint) / bare_seconds(actions) for _ in range(3)]
    print(f"scoring {len(SEEDS)} levels of {CONFIG.name}: {statistics.median(ratios):.2f} times flatland-rl alone")
    steps = largest_configuration()
    print(f"{LARGEST.name}, {LARGEST.n_agents} trains, {len(steps)} steps:")
    for name, chosen in (("all steps", steps), ("first 500 steps", steps[:500])):
        total = statistics.median(sum(step.values()) for step in chosen)
        own = statistics.median(step["observation"] + step["inference"] for step in chosen)
        print(f"  {name}: median {1000 * total:.1f} ms, observation, mask and network {1000 * own:.2f} ms")


if __name__ == "__main__":
    main()
