"""The main command from start to end against the classic loop at the same number of episodes, evaluations included.

    python benchmarks/whole_run.py

The main command runs whole, as a user starts it. The classic loop would take about half an hour, so some of its
episodes are timed before and after, on full replay memory, and multiplied up: ``-n`` training episodes and 26
evaluations of 25 episodes. Wall time; PyTorch has one thread in both. Writes whole_run.json beside itself.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402

from benchmarks.classic_kit import ClassicPolicy, train_episode  # noqa: E402
from benchmarks.machine import processor  # noqa: E402
from utils.levels.env_configs import resolve_env_config  # noqa: E402
from utils.levels.flatland_workarounds import clear_flatland_caches  # noqa: E402
from utils.levels.rail_envs import make_rail_env  # noqa: E402

EVALUATIONS, EVALUATION_EPISODES = 26, 25


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", "--n_episodes", type=int, default=2500)
    parser.add_argument("--classic_episodes", type=int, default=40, help="timed before and after")
    options = parser.parse_args()
    torch.set_num_threads(1)
    policy = ClassicPolicy()
    before = _classic_seconds(policy, options.classic_episodes, 0)
    ours = _main_command_seconds(options.n_episodes)
    after = _classic_seconds(policy, options.classic_episodes, options.classic_episodes)
    training, evaluation = (statistics.mean(pair) for pair in zip(before, after, strict=True))
    classic = options.n_episodes * training + EVALUATIONS * EVALUATION_EPISODES * evaluation
    record = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "episodes": options.n_episodes,
        "main_command_seconds": round(ours, 1),
        "classic_seconds_per_training_episode": round(training, 3),
        "classic_seconds_per_evaluation_episode": round(evaluation, 3),
        "classic_seconds_extrapolated": round(classic),
        "ratio": round(classic / ours, 1),
    }
    (HERE / "whole_run.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def _classic_seconds(policy: ClassicPolicy, n_episodes: int, first_seed: int) -> tuple[float, float]:
    """Seconds of a training and of an evaluation episode, means, resets included."""
    config = resolve_env_config("Test_1")
    means = []
    for learn in (True, False):
        started = time.perf_counter()
        for i in range(n_episodes):
            clear_flatland_caches()
            train_episode(make_rail_env(config, first_seed + i), policy, 0.05, learn=learn)
        means.append((time.perf_counter() - started) / n_episodes)
    return means[0], means[1]


def _main_command_seconds(n_episodes: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE.parent / "reinforcement_learning" / "multi_agent_training.py")]
        command += ["-n", str(n_episodes), "-t", "1", "-e", "1", "--wandb", "False"]
        command += ["--checkpoint_dir", f"{folder}/checkpoints", "--output_dir", f"{folder}/runs"]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
