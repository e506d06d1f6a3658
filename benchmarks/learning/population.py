"""Trains a population with exchange and compares its best policy with the default single policy, for several seeds.

    python benchmarks/learning/population.py -t 1 --seeds 1 2 3

Each policy drives as many trains as the single policy: of N policies in the same environments for N times as many
episodes, with an exploration that decays N times as slowly. "Best" is chosen by the training's own evaluation; scores
are of levels that neither of the two has seen and nothing was chosen by. Writes population_CONFIG.json and, for the
first seed, population_CONFIG.png (the lineage) beside itself.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.learning.programs import ROOT, Training, machine, mean_and_error, score, train

HERE = Path(__file__).resolve().parent
FIRST_SEED = 500_000
EPS_DECAY = 0.995  # the default


def main() -> None:
    """Trains, scores, writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-t", "--training_env_config", default="1")
    parser.add_argument("-n", "--n_episodes", type=int, default=2500, help="of the single policy")
    parser.add_argument("--num_policies", type=int, default=4)
    parser.add_argument("--exchanges", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--levels", type=int, default=200, help="unseen levels to score on")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs" / "benchmark")
    options, extra = parser.parse_known_args()

    runs = [_both(options, seed, extra) for seed in options.seeds]
    differences = [run["best of the population"]["score"] - run["single policy"]["score"] for run in runs]
    mean, error = mean_and_error(differences)
    environment = options.training_env_config
    command = ["multi_agent_training.py", "-t", environment, "-e", environment, "--seed", "SEED"]
    record = {
        "population": " ".join([*command, "-n", str(_episodes(options)), *_population_options(options), *extra]),
        "single": " ".join([*command, "-n", str(options.n_episodes), *extra]),
        "levels": {"count": options.levels, "first_seed": FIRST_SEED},
        "machine": machine(),
        "best of the population less single policy, score": {"mean": mean, "se_over_seeds": error},
        "at least as good": mean >= 0,
        "runs": runs,
    }
    path = HERE / f"population_{options.training_env_config}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({name: value for name, value in record.items() if name != "runs"}, indent=1))


def _episodes(options: argparse.Namespace) -> int:
    """Of the population: as many for each policy as the single policy has."""
    return int(options.num_policies * options.n_episodes)


def _population_options(options: argparse.Namespace) -> list[str]:
    n = options.num_policies
    period = str(_episodes(options) // (options.exchanges + 1))
    return [
        *("--num_policies", str(n), "--eps_decay", f"{EPS_DECAY ** (1 / n):.6f}"),
        *("--with_pbt", "--pbt_start_episodes", period, "--pbt_period_episodes", period),
        *("--checkpoint_interval", period),
    ]


def _both(options: argparse.Namespace, seed: int, extra: list[str]) -> dict[str, Any]:
    environment, n_episodes = options.training_env_config, options.n_episodes
    single = train(options.work_dir, "default", environment, seed, n_episodes, extra)
    arguments = [*_population_options(options), *extra]
    population = train(options.work_dir, "population", environment, seed, _episodes(options), arguments)
    lineage = population.output / "lineage.png"
    if seed == options.seeds[0] and lineage.exists():
        shutil.copy(lineage, HERE / f"population_{environment}.png")
    run: dict[str, Any] = {
        "seed": seed,
        "seconds": {"single": single.seconds, "population": population.seconds},
        "single policy": _score(options, single, "best"),
    }
    for choice in ["best", "mapping", *map(str, range(options.num_policies))]:
        who = {"best": "best of the population", "mapping": "training mapping"}.get(choice, f"policy {choice}")
        run[who] = _score(options, population, choice)
    cross_play = population.output / "cross_play.json"
    return run | {"cross_play": json.loads(cross_play.read_text()) if cross_play.exists() else None}


def _score(options: argparse.Namespace, training: Training, choice: str) -> dict[str, float]:
    (row,) = score(
        options.work_dir,
        options.training_env_config,
        [training.last],
        options.levels,
        FIRST_SEED,
        ["--policy_index", choice],
    )
    return {name: round(row[f"{name}_mean"], 4) for name in ("score", "completion", "deadlock", "never_departed")} | {
        "score_se": round(row["score_se"], 4)
    }


if __name__ == "__main__":
    main()
