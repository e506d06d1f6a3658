"""Scores the shipped checkpoint with and without planning on the same levels, beside a rule.

    python benchmarks/learning/planning.py -e 0 -e 1 -e 2

Writes planning_CONFIG.json (scores, paired differences, times, machine) beside itself. The levels have seeds from
500000 on, which no training uses.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import torch

from benchmarks.learning.programs import ROOT, machine
from reinforcement_learning.scoring.planning import PLAN_SECONDS
from reinforcement_learning.scoring.players import with_planned
from reinforcement_learning.scoring.score_table import Scored, table
from reinforcement_learning.scoring.scoring import Scorer, Task
from utils.levels.env_configs import resolve_env_config

HERE = Path(__file__).resolve().parent
RULE = "least_detour"


def main() -> None:
    """Scores, writes the records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-e", "--evaluation_env_config", action="append", metavar="TEXT")
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints" / "flatland_policy.pt"))
    parser.add_argument("--levels", type=int, default=200)
    parser.add_argument("--first_seed", type=int, default=500_000)
    parser.add_argument("--plan_seconds", type=float, default=PLAN_SECONDS, help="as for run.py")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for config in options.evaluation_env_config or ["0", "1", "2"]:
        _score(options, config)


def _score(options: argparse.Namespace, config: str) -> None:
    """Keeps the record up to date, so that it is of use when it is stopped early."""
    names = [*with_planned([options.checkpoint]), RULE]
    rows = [Scored(name, config, options.first_seed) for name in names]
    tasks = [Task(resolve_env_config(config), options.first_seed + i) for i in range(options.levels)]
    for number, episodes in enumerate(Scorer(names, plan_seconds=options.plan_seconds).play(tasks), start=1):
        for row, episode in zip(rows, episodes, strict=True):
            row.played.append(episode)
        if number % 5 == 0 or number == options.levels:
            record = _record(options, *(row.as_dict() for row in rows))
            (HERE / f"planning_{config}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(table(rows), flush=True)


def _record(
    options: argparse.Namespace, policy: dict[str, Any], planned: dict[str, Any], rule: dict[str, Any]
) -> dict[str, Any]:
    return {
        "levels": {"count": policy["episodes"], "first_seed": options.first_seed},
        "machine": machine(),
        "plan_seconds": options.plan_seconds,
        "policy": _short(policy),
        "with planning": _short(planned),
        RULE: _short(rule),
        "planning minus policy": _difference(planned, policy),
        f"planning minus {RULE}": _difference(planned, rule),
    }


def _short(row: dict[str, Any]) -> dict[str, float]:
    """Means, and the seconds of an episode."""
    kept = ("score_mean", "score_se", "completion_mean", "completion_se", "deadlock_mean", "never_departed_mean")
    return {name: round(row[name], 4) for name in kept} | {"seconds": round(row["seconds_per_level"], 2)}


def _difference(row: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Level by level, with standard errors."""
    differences = {}
    for measure in ("score", "completion"):
        values = [a[measure] - b[measure] for a, b in zip(row["per_episode"], other["per_episode"], strict=True)]
        differences[measure] = round(statistics.fmean(values), 4)
        differences[f"{measure}_se"] = round(statistics.stdev(values) / len(values) ** 0.5, 4)
    return differences


if __name__ == "__main__":
    main()
