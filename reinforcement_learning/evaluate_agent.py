"""Scores checkpoints and rule-based policies on levels that anyone can make again; see --help.

    python reinforcement_learning/evaluate_agent.py --policy shortest_path --policy checkpoints/RUN/best.pt -e 1

Episode i is played in a fresh ``RailEnv(random_seed=FIRST + i)`` after ``reset(True, True, random_seed=FIRST + i)``,
by flatland-rl itself. Trainings never see levels with seeds below 2**30.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it can be started from any folder

import torch
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.checkpointing import CheckpointError, load_policy
from reinforcement_learning.config import SentenceParser, whole_number
from reinforcement_learning.evaluation import mean_and_standard_error, play_levels
from reinforcement_learning.heuristics import RULE_BASED, rule_based_policy
from reinforcement_learning.policy import Policy
from reinforcement_learning.rollout import EpisodeResult, Stopwatch
from reinforcement_learning.run_folders import check_writable
from utils.atomic_files import atomic_write
from utils.env_configs import EnvConfig, EnvConfigError, SavedEnv, make_rail_env, resolve_env_config
from utils.flatland_caches import clear_flatland_caches
from utils.observation_utils import Observer
from utils.random_streams import MAX_USER_SEED


@dataclass
class Scored:
    """A policy's episodes on one environment."""

    policy: str
    config: str
    first_seed: int
    episodes: list[EpisodeResult] = field(default_factory=list)
    seconds_per_step: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The row of the JSON file; standard errors are null for a single episode."""
        score, score_error = mean_and_standard_error([episode.score for episode in self.episodes])
        completion, completion_error = mean_and_standard_error([episode.completion for episode in self.episodes])
        n = len(self.episodes)
        row = {
            "policy": self.policy,
            "config": self.config,
            "episodes": n,
            "first_seed": self.first_seed,
            "score_mean": score,
            "score_se": score_error if n > 1 else None,
            "completion_mean": completion,
            "completion_se": completion_error if n > 1 else None,
            "deadlock_mean": sum(episode.deadlocked for episode in self.episodes) / n,
            "never_departed_mean": sum(episode.never_departed for episode in self.episodes) / n,
            "seconds_per_step": self.seconds_per_step,
        }
        row["per_episode"] = [
            {
                "seed": self.first_seed + i,
                "score": episode.score,
                "completion": episode.completion,
                "deadlocked": episode.deadlocked,
                "never_departed": episode.never_departed,
                "steps": episode.n_steps,
            }
            for i, episode in enumerate(self.episodes)
        ]
        return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Scores as the command line says; returns the exit code."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        _check(options)
        configs = [resolve_env_config(text) for text in options.evaluation_env_config or ["0"]]
        if options.json:
            check_writable("json", Path(options.json).parent)
        # for each environment anew: a random policy then plays it alike, whatever was played before
        players = [(config, name, *_load(name, options.seed)) for config in configs for name in options.policy]
    except (CheckpointError, EnvConfigError, ValueError) as error:
        print(f"evaluate_agent.py: error: {error}", file=sys.stderr)
        return 2
    scored = []
    for config, name, policy, observer in players:
        scored.append(_score(name, policy, observer, config, options.n_evaluation_episodes, options.seed))
        print(_line(scored[-1]), flush=True)
    if options.json:
        with atomic_write(options.json) as file:
            file.write(json.dumps([row.as_dict() for row in scored], indent=1).encode())
    return 0


def _parser() -> SentenceParser:
    parser = SentenceParser(
        prog="evaluate_agent.py", description="Scores checkpoints and rule-based policies on fixed levels."
    )
    names = ", ".join(RULE_BASED)
    parser.add_argument(
        "--policy", action="append", required=True, metavar="CHECKPOINT|NAME", help=f"repeatable; names: {names}"
    )
    parser.add_argument(
        "-e",
        "--evaluation_env_config",
        action="append",
        metavar="TEXT",
        help="repeatable: 0, 1 or 2, a name, or a saved environment (.pkl) (default: 0)",
    )
    parser.add_argument(
        "-n", "--n_evaluation_episodes", type=whole_number, default=50, metavar="N", help="episodes (default: 50)"
    )
    parser.add_argument(
        "--seed", type=whole_number, default=1000, metavar="FIRST", help="seed of the first level (default: 1000)"
    )
    parser.add_argument("--json", metavar="FILE", help="where to write all results")
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.n_evaluation_episodes < 1:
        raise ValueError(f"-n is {options.n_evaluation_episodes}, but must be at least 1.")
    if options.json and Path(options.json).is_dir():
        raise ValueError(f"--json is {options.json!r}, a folder, but must be a file.")
    if not 0 <= options.seed <= MAX_USER_SEED - options.n_evaluation_episodes:
        raise ValueError(f"--seed is {options.seed}, but must be from 0 to {MAX_USER_SEED} less the episodes.")


def _load(name: str, seed: int) -> tuple[Policy, Observer]:
    if name in RULE_BASED:
        return rule_based_policy(name, seed)
    if not Path(name).is_file():
        raise CheckpointError(f"--policy {name} is neither a checkpoint file nor one of {', '.join(RULE_BASED)}.")
    return load_policy(name)


def _levels(config: EnvConfig | SavedEnv, n_episodes: int, first_seed: int) -> Iterator[RailEnv]:
    for i in range(n_episodes):
        clear_flatland_caches()
        yield make_rail_env(config, first_seed + i)


def _score(
    name: str, policy: Policy, observer: Observer, config: EnvConfig | SavedEnv, n_episodes: int, first_seed: int
) -> Scored:
    scored = Scored(name, config.name, first_seed)
    stopwatch, started = Stopwatch(), time.perf_counter()
    for i, env in enumerate(_levels(config, n_episodes, first_seed)):
        scored.episodes += play_levels([env], observer, policy, stopwatch=stopwatch)
        if sys.stderr.isatty():
            left = (time.perf_counter() - started) / (i + 1) * (n_episodes - i - 1)
            print(f"\r{name} on {config.name}: {i + 1}/{n_episodes}, {left:.0f} s left ", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    playing = sum(seconds for part, seconds in stopwatch.seconds.items() if part != "reset")
    scored.seconds_per_step = playing / max(sum(episode.n_steps for episode in scored.episodes), 1)
    return scored


def _line(scored: Scored) -> str:
    row = scored.as_dict()
    score_error, completion_error = row["score_se"] or 0.0, row["completion_se"] or 0.0
    return (
        f"{scored.policy} on {scored.config}, {row['episodes']} episodes: "
        f"score {row['score_mean']:.3f} ± {score_error:.3f}, "
        f"completion {row['completion_mean']:.3f} ± {completion_error:.3f}, "
        f"deadlocked {row['deadlock_mean']:.3f}, never departed {row['never_departed_mean']:.3f}, "
        f"{1000 * scored.seconds_per_step:.2f} ms a step"
    )


if __name__ == "__main__":
    sys.exit(main())
