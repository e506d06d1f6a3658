"""Runs the kit's own programs, as a user does, for the records in this folder."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.frame import mean_and_error, parser_of
from utils.system.files import PROJECT_ROOT

PROGRAMS = PROJECT_ROOT / "reinforcement_learning"
UNSEEN = 500_000
"""Seed of the first level to score on that no training has seen and nothing was chosen by."""


def training_parser(page: str | None, levels: int, work_dir: str = "benchmark") -> argparse.ArgumentParser:
    """The options that scripts share which train: seeds of trainings, levels to score on, folder of the trainings."""
    parser = parser_of(page)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--levels", type=int, default=levels, help="unseen levels to score on")
    parser.add_argument("--work_dir", type=Path, default=PROJECT_ROOT / "runs" / work_dir)
    return parser


@dataclass(frozen=True)
class Training:
    """A training that has run to its end."""

    name: str
    seed: int
    output: Path  # folder with metrics.jsonl and pictures
    checkpoints: Path
    n_episodes: int

    @property
    def last(self) -> Path:
        """The checkpoint of its end; several episodes may end at once, so it can be some episodes late."""
        *_, newest = sorted(self.checkpoints.glob("episode_*.pt"))
        return newest

    @property
    def best(self) -> Path:
        """The checkpoint of its best evaluation."""
        return self.checkpoints / "best.pt"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]

    def curve(self, name: str) -> dict[int, float]:
        """The values of a metric by episode."""
        return {row["episode"]: row[name] for row in self.metrics if name in row}

    @property
    def seconds(self) -> float:
        """Wall time, evaluations included."""
        return round(max(row.get("timer/total", 0.0) for row in self.metrics), 1)


def train(
    work_dir: Path, name: str, environment: str, seed: int, n_episodes: int, arguments: Sequence[str] = ()
) -> Training:
    """Trains with the main command, unless ``work_dir`` holds the finished training of this name.

    One that was interrupted begins anew: resumed, it would go on with an empty replay buffer.
    """
    name = f"{name}-config{environment}-seed{seed}"
    training = Training(name, seed, work_dir / name, work_dir / "checkpoints" / name, n_episodes)
    mark = training.checkpoints / "finished"
    if not mark.exists():
        for left_over in (training.output, training.checkpoints):
            shutil.rmtree(left_over, ignore_errors=True)
        command = [sys.executable, str(PROGRAMS / "multi_agent_training.py"), "-n", str(n_episodes), *arguments]
        command += ["-t", environment, "-e", environment, "--seed", str(seed), "--run_name", name, "--wandb", "False"]
        command += ["--checkpoint_dir", str(work_dir / "checkpoints"), "--output_dir", str(work_dir)]
        subprocess.run(command, check=True)
        mark.touch()
    return training


def score(
    work_dir: Path,
    environment: str,
    policies: Sequence[str | Path],
    levels: int,
    first_seed: int,
    arguments: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """What evaluate_agent.py finds for each policy, all on the same levels."""
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / f"scores-{environment}-{first_seed}.json"
    command = [sys.executable, str(PROGRAMS / "evaluate_agent.py"), "-e", environment, "-n", str(levels)]
    command += ["--seed", str(first_seed), "--json", str(path), "--num_workers", str(os.cpu_count() or 1), *arguments]
    for policy in policies:
        command += ["--policy", str(policy)]
    subprocess.run(command, check=True)
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def means_over_levels(rows: Sequence[dict[str, Any]], measure: str) -> list[float]:
    """For each level the mean of several policies."""
    return [
        statistics.fmean(episode[measure] for episode in episodes)
        for episodes in zip(*(row["per_episode"] for row in rows), strict=True)
    ]


def level_by_level(
    rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], measure: str
) -> tuple[float, float | None]:
    """How much better some policies are on average than others on the same levels, with the error over the levels."""
    pairs = zip(means_over_levels(rows, measure), means_over_levels(others, measure), strict=True)
    return rounded([ours - theirs for ours, theirs in pairs])


def differences(
    rows: Sequence[dict[str, Any]], other: dict[str, Any], name: str = "{}", error: str = "_se_over_levels"
) -> dict[str, float | None]:
    """How much better some policies are than another one in score and completion, as :func:`level_by_level` says.

    Args:
        name: what the record calls a difference; ``{}`` stands for the measure.
        error: what the name of its standard error ends in.
    """
    found: dict[str, float | None] = {}
    for measure in ("score", "completion"):
        key = name.format(measure)
        found[key], found[key + error] = level_by_level(rows, [other], measure)
    return found


def rounded(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error as records have them."""
    mean, error = mean_and_error(values)
    return round(mean, 4), error and round(error, 4)


def short(row: dict[str, Any]) -> dict[str, float]:
    """Of what evaluate_agent.py finds for a policy, the means."""
    kept = ("score_mean", "score_se", "completion_mean", "completion_se", "deadlock_mean", "never_departed_mean")
    return {name: round(row[name], 4) for name in kept}
