"""The main command from start to end against the classic loop at the same number of episodes, evaluations included.

    python benchmarks/whole_run.py

The main command runs whole, as a user starts it. The classic loop would take about half an hour, so some of its
episodes are timed before and after, on full replay memory, and multiplied up: ``-n`` training episodes and 26
evaluations of 25 episodes. Wall time; PyTorch has one thread in both. Writes whole_run.json beside itself.
"""

import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.classic_kit import ClassicPolicy, train_episode
from benchmarks.frame import keep, machine, parser_of, seconds_of
from benchmarks.learning.programs import train
from reinforcement_learning.settings.config import TrainingConfig
from utils.levels.env_configs import resolve_env_config
from utils.levels.flatland_workarounds import clear_flatland_caches
from utils.levels.rail_envs import make_rail_env

EVALUATIONS, EVALUATION_EPISODES = 26, 25


def main() -> None:
    """Measures, prints, writes."""
    parser = parser_of(__doc__)
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
        "machine": machine(),
        "episodes": options.n_episodes,
        "main_command_seconds": round(ours, 1),
        "classic_seconds_per_training_episode": round(training, 3),
        "classic_seconds_per_evaluation_episode": round(evaluation, 3),
        "classic_seconds_extrapolated": round(classic),
        "ratio": round(classic / ours, 1),
    }
    keep("whole_run", record)
    print(*(f"{name}: {value}" for name, value in record.items()), sep="\n")


def _classic_seconds(policy: ClassicPolicy, n_episodes: int, first_seed: int) -> tuple[float, float]:
    """Seconds of a training and of an evaluation episode, means, resets included."""
    config = resolve_env_config("Test_1")

    def play(*, learn: bool) -> None:
        for i in range(n_episodes):
            clear_flatland_caches()
            train_episode(make_rail_env(config, first_seed + i), policy, 0.05, learn=learn)

    return seconds_of(partial(play, learn=True)) / n_episodes, seconds_of(partial(play, learn=False)) / n_episodes


def _main_command_seconds(n_episodes: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds_of(lambda: train(Path(folder), "whole", "1", seed=TrainingConfig.seed, n_episodes=n_episodes))


if __name__ == "__main__":
    main()
