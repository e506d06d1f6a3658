"""A population that begins with bad hyper-parameters against a random search, with the same number of episodes.

    python benchmarks/learning/bad_start.py -t 0 --seeds 1 2 3

All policies of the population begin near the same bad values (BAD_START). The random search has as many trials as the
population has policies, each with values drawn from the whole range that the population searches (evenly in their
logarithms) and an episode for each that a policy of the population has. A third row is a single policy with the bad
values. The best of each is chosen by the training's own evaluation; scores are of levels that nothing was chosen by.
Writes bad_start_CONFIG.json and, for the first seed, bad_start_CONFIG.png (the lineage) beside itself.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np

from benchmarks.learning.programs import ROOT, Training, machine, mean_and_error, score, train
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.multi_policy.exchange import searched
from reinforcement_learning.settings.config import TrainingConfig

HERE = Path(__file__).resolve().parent
FIRST_SEED = 500_000
BAD_START = ("--learning_rate", "1e-5", "--tau", "1e-4", "--n_step", "1", "--shaping", "0.05")
EPS_DECAY = 0.99  # of a single policy
NOT_DRAWN = ("epsilon_scale", "team_reward")  # the first is no option, the second is off


def main() -> None:
    """Trains, scores, writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-t", "--training_env_config", default="0")
    parser.add_argument("-n", "--n_episodes", type=int, default=500, help="of each policy and trial")
    parser.add_argument("--num_policies", type=int, default=4)
    parser.add_argument("--exchanges", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--levels", type=int, default=200, help="unseen levels to score on")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs" / "benchmark")
    options, extra = parser.parse_known_args()

    runs = [_all(options, seed, extra) for seed in options.seeds]
    arms = [name for name in runs[0] if name != "seed"]
    record = {
        "bad start": " ".join(BAD_START),
        "population": " ".join(_population_options(options)),
        "episodes": {"population": options.num_policies * options.n_episodes, "each trial": options.n_episodes},
        "options of all": " ".join(extra),
        "levels": {"count": options.levels, "first_seed": FIRST_SEED},
        "machine": machine(),
        **{arm: _mean(runs, arm) for arm in arms},
        "population less random search": _difference(runs, "best of the population", "best of the random search"),
        "runs": runs,
    }
    path = HERE / f"bad_start_{options.training_env_config}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({name: value for name, value in record.items() if name != "runs"}, indent=1))


def _population_options(options: argparse.Namespace) -> list[str]:
    n = options.num_policies
    period = str(n * options.n_episodes // (options.exchanges + 1))
    return [
        *("--num_policies", str(n), "--eps_decay", f"{EPS_DECAY ** (1 / n):.6f}", "--cross_play", "False"),
        *("--with_pbt", "--pbt_start_episodes", period, "--pbt_period_episodes", period),
        *("--checkpoint_interval", str(n * options.n_episodes)),
    ]


def _all(options: argparse.Namespace, seed: int, extra: list[str]) -> dict[str, Any]:
    environment, n = options.training_env_config, options.n_episodes
    alone = ["--checkpoint_interval", str(n), "--eps_decay", str(EPS_DECAY), *extra]
    arguments = [*BAD_START, *_population_options(options), *extra]
    population = train(options.work_dir, "bad_population", environment, seed, options.num_policies * n, arguments)
    lineage = population.output / "lineage.png"
    if seed == options.seeds[0] and lineage.exists():
        shutil.copy(lineage, HERE / f"bad_start_{environment}.png")
    trials = [
        train(options.work_dir, f"trial{k}", environment, seed, n, [*_drawn(seed, k), *alone])
        for k in range(options.num_policies)
    ]
    best = max(trials, key=lambda trial: _last_evaluation(trial))
    single = train(options.work_dir, "bad_single", environment, seed, n, [*BAD_START, *alone])
    return {
        "seed": seed,
        "best of the population": _score(options, population, ["--policy_index", "best"]),
        "control of the population": _score(options, population, ["--policy_index", "0"]),
        "best of the random search": _score(options, best) | {"drawn": " ".join(_drawn(seed, trials.index(best)))},
        "single policy with the bad start": _score(options, single),
    }


def _drawn(seed: int, trial: int) -> list[str]:
    """The hyper-parameters of a trial, as options."""
    config = TrainingConfig()
    default, random = Hyperparameters.of(config), np.random.default_rng([seed, trial])
    drawn = []
    for name, (low, high) in searched(config).items():
        value = float(np.exp(random.uniform(np.log(low), np.log(high))))
        if name not in NOT_DRAWN:
            whole = isinstance(getattr(default, name), int)
            drawn += [f"--{name}", str(round(value)) if whole else f"{value:.4g}"]
    return drawn


def _last_evaluation(training: Training) -> float:
    return float([row for row in training.metrics if "evaluation/scores_mean" in row][-1]["evaluation/scores_mean"])


def _score(options: argparse.Namespace, training: Training, arguments: list[str] | None = None) -> dict[str, Any]:
    environment = options.training_env_config
    (row,) = score(options.work_dir, environment, [training.last], options.levels, FIRST_SEED, arguments or [])
    return {name: round(row[f"{name}_mean"], 4) for name in ("score", "completion")} | {"seconds": training.seconds}


def _mean(runs: list[dict[str, Any]], arm: str) -> dict[str, float]:
    return {name: round(mean_and_error([run[arm][name] for run in runs])[0], 4) for name in ("score", "completion")}


def _difference(runs: list[dict[str, Any]], first: str, second: str) -> dict[str, Any]:
    mean, error = mean_and_error([run[first]["score"] - run[second]["score"] for run in runs])
    return {"score": mean, "se_over_seeds": error}


if __name__ == "__main__":
    main()
