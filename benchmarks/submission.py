"""What scoring and submitting cost: against flatland-rl itself, and on the largest official configuration.

    python benchmarks/submission.py [--only scoring | --only largest]

Writes submission.json beside itself. Ways of scoring are measured in turn, each in processes of its own, so that a busy
machine disturbs all of them alike; medians of their ratios count.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
from flatland.envs.rail_env import RailEnv

from benchmarks import scoring_cost
from benchmarks.frame import keep, kept, parser_of, processor
from benchmarks.scoring_cost import CONFIG, SEEDS
from reinforcement_learning.playing.play_levels import play_levels
from reinforcement_learning.playing.rollout import Rollout
from reinforcement_learning.submission import checkpoint_to_submit, load_warmed_up
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.simulator.simulator import FlatlandSimulator
from utils.system.stopwatch import Stopwatch

LARGEST = ENV_CONFIGS["Benchmarks_Test_14"]
TURNS = 7


class _ActionsOnly(FlatlandSimulator):
    """Remembers the actions of an episode."""

    def __init__(self, env: RailEnv) -> None:
        super().__init__(env)
        self.actions: list[list[int]] = []

    def _step_env(self, actions: dict[int, int]) -> tuple[dict[int, float], bool]:
        self.actions.append(list(actions.values()))
        return super()._step_env(actions)


def actions_of_all_levels() -> dict[int, list[list[int]]]:
    """What the policy does on each level, by seed, step and train."""
    policy, observer = load_warmed_up(checkpoint_to_submit())
    actions = {}
    for seed in SEEDS:
        simulator = _ActionsOnly(make_rail_env(ENV_CONFIGS[CONFIG], seed))
        play_levels([simulator], observer, policy)
        actions[seed] = simulator.actions
    return actions


def scoring(folder: Path) -> dict[str, Any]:
    """Scoring against flatland-rl alone, and two workers against one."""
    actions, checkpoint = folder / "actions.json", str(checkpoint_to_submit())
    actions.write_text(json.dumps(actions_of_all_levels()))
    ways = {"flatland": ("bare", str(actions)), "one": ("scored", checkpoint, "1"), "two": ("scored", checkpoint, "2")}
    turns = [{name: _measured(*arguments) for name, arguments in ways.items()} for _ in range(TURNS)]

    def ratio(way: str, other: str, *parts: str) -> float:
        sums = [[sum(turn[name][part] for part in parts) for name in (way, other)] for turn in turns]
        return statistics.median(own / others for own, others in sums)

    return {
        "levels": f"{len(SEEDS)} of {CONFIG}",
        "processor_time_of_levels_one_worker_to_flatland": ratio("one", "flatland", "levels_cpu"),
        "processor_time_with_start_one_worker_to_flatland": ratio("one", "flatland", "start_cpu", "levels_cpu"),
        "time_of_levels_two_workers_to_one": ratio("two", "one", "levels"),
        "time_with_start_two_workers_to_one": ratio("two", "one", "start", "levels"),
        "median_seconds": {
            way: {part: round(statistics.median(turn[way][part] for turn in turns), 2) for part in turns[0][way]}
            for way in ways
        },
        "load_of_machine": psutil.getloadavg()[1],
    }


def _measured(*arguments: str) -> dict[str, float]:
    """What ``scoring_cost.py`` says of itself."""
    output = subprocess.check_output([sys.executable, scoring_cost.__file__, *arguments], text=True)
    seconds: dict[str, float] = json.loads(output.splitlines()[-1])
    return seconds


def largest_configuration() -> dict[str, Any]:
    """Processor seconds of the steps of an episode, by part."""
    policy, observer = load_warmed_up(checkpoint_to_submit())
    env = make_rail_env(LARGEST, 0)
    stopwatch, steps = Stopwatch(clock=time.process_time), []
    rollout = Rollout(observer, [policy], LARGEST.n_agents, stopwatch=stopwatch)
    rollout.start(0, FlatlandSimulator(env))
    results = []
    while rollout.playing:
        stopwatch.seconds.clear()
        results += rollout.step()
        steps.append(dict(stopwatch.seconds))
    return {
        "config": LARGEST.name,
        "n_trains": LARGEST.n_agents,
        "n_steps": len(steps),
        "completion": results[0][1].completion,
        "steps": summary(steps),
        "load_of_machine": psutil.getloadavg()[1],
    }


def summary(steps: list[dict[str, float]]) -> dict[str, float]:
    """Seconds of a step, flatland-rl's included, and those to observe and choose."""
    own = [step["observation"] + step["inference"] for step in steps]
    total = [sum(step.values()) for step in steps]
    return {
        "median": statistics.median(total),
        "longest": max(total),
        "own_median": statistics.median(own),
        "own_longest": max(own),
        "own_share_median": statistics.median(part / whole for part, whole in zip(own, total, strict=True)),
        "own_share_of_sum": sum(own) / sum(total),
    }


def main() -> None:
    """Measures, prints and records."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--only", choices=("scoring", "largest"), help="measure one of the two, keep the other's record"
    )
    only = parser.parse_args().only
    record = kept("submission") if only else {}
    record |= {"processor": processor(), "cores": os.cpu_count()}
    if only != "largest":
        with tempfile.TemporaryDirectory() as folder:
            record["scoring"] = scoring(Path(folder))
        print(json.dumps(record["scoring"], indent=1), flush=True)
    if only != "scoring":
        record["largest"] = largest_configuration()
        print(json.dumps(record["largest"], indent=1))
    keep("submission", record)


if __name__ == "__main__":
    main()
