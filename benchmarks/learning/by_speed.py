"""Slow and fast trains with a policy each against one policy for all of them, for several seeds.

    python benchmarks/learning/by_speed.py -t Round2_Test_02 --seeds 1 2 3

Both play the same number of episodes; of two policies each learns from half of the trains. Scores are of the last
checkpoints, on levels that no training has seen, differences level by level. Writes by_speed_CONFIG.json beside itself.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.learning.programs import (
    ROOT,
    Training,
    machine,
    mean_and_error,
    means_over_levels,
    score,
    train,
)

HERE = Path(__file__).resolve().parent
FIRST_SEED = 500_000
OF_SEVERAL = ("--num_policies", "2", "--policy_mapping", "by_speed")


def main() -> None:
    """Trains, scores, writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-t", "--training_env_config", default="Round2_Test_02")
    parser.add_argument("-n", "--n_episodes", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--levels", type=int, default=100, help="unseen levels to score on")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs" / "benchmark")
    options, extra = parser.parse_known_args()

    environment = options.training_env_config
    # the last checkpoints are scored: evaluations on the way would only take time
    extra = ["--checkpoint_interval", str(options.n_episodes), "--cross_play", "False", *extra]
    arms = {"one policy": [], "a policy for each half of the speeds": list(OF_SEVERAL)}
    names = dict(zip(arms, ("one", "by_speed"), strict=True))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for seed in options.seeds:
        for arm, arguments in arms.items():
            training = train(options.work_dir, names[arm], environment, seed, options.n_episodes, [*extra, *arguments])
            seconds[arm].append(training.seconds)
            rows[arm].append(_score(options, training, several=bool(arguments)))
    record = {
        "command": " ".join(["multi_agent_training.py -n", str(options.n_episodes), "-t", environment, *extra]),
        "of several policies also": " ".join(OF_SEVERAL),
        "levels": {"count": options.levels, "first_seed": FIRST_SEED},
        "machine": machine(),
        **{arm: _summary(rows[arm], seconds[arm]) for arm in arms},
        "several less one": {measure: _difference(list(rows.values()), measure) for measure in ("score", "completion")},
    }
    (HERE / f"by_speed_{environment}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def _score(options: argparse.Namespace, training: Training, *, several: bool) -> dict[str, Any]:
    arguments = ["--policy_index", "mapping"] if several else []
    environment = options.training_env_config
    (row,) = score(options.work_dir, environment, [training.last], options.levels, FIRST_SEED, arguments)
    return row


def _summary(rows: list[dict[str, Any]], seconds: list[float]) -> dict[str, Any]:
    measures = ("score", "completion", "deadlock", "never_departed")
    by_seed = {measure: [round(row[f"{measure}_mean"], 4) for row in rows] for measure in measures}
    means = {measure: round(statistics.fmean(values), 4) for measure, values in by_seed.items()}
    return {"mean": means, "by seed": by_seed, "seconds": seconds}


def _difference(rows: list[list[dict[str, Any]]], measure: str) -> dict[str, Any]:
    """Means of the seeds level by level, and the difference of each seed."""
    one, several = rows
    levels = zip(means_over_levels(several, measure), means_over_levels(one, measure), strict=True)
    mean, over_levels = mean_and_error([a - b for a, b in levels])
    by_seed = [b[f"{measure}_mean"] - a[f"{measure}_mean"] for a, b in zip(one, several, strict=True)]
    _, over_seeds = mean_and_error(by_seed)
    return {"mean": mean, "se_over_levels": over_levels, "se_over_seeds": over_seeds, "by seed": by_seed}


if __name__ == "__main__":
    main()
