"""Trains a population with exchange and compares its best policy with single policies, for several seeds.

    python benchmarks/learning/population.py -t 1 --seeds 1 2 3

Each policy drives as many trains as the single policy, which has the defaults: of N policies in the same environments
for N times as many episodes, with an exploration that decays N times as slowly. "Best" is chosen by the training's own
evaluation; scores are of levels that nobody has seen and nothing was chosen by. Writes population_CONFIG.json and, for
the first seed, population_CONFIG.png (the lineage) beside itself.

    python benchmarks/learning/population.py -t 0 -n 500 --exchanges 8 --bad_start

All policies of the population begin near the same bad values (BAD_START), and so does a single policy. Beside them
stands a random search: as many trials as the population has policies, with values drawn from the whole range that it
searches (evenly in their logarithms), of which the best counts. Writes bad_start_CONFIG.json and bad_start_CONFIG.png.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np

from benchmarks.frame import keep, machine, mean_and_error
from benchmarks.learning.programs import UNSEEN, Training, score, train, training_parser
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.multi_policy.exchange import searched
from reinforcement_learning.settings.config import TrainingConfig

HERE = Path(__file__).resolve().parent
BAD_START = ("--learning_rate", "1e-5", "--tau", "1e-4", "--n_step", "1", "--shaping", "0.05")
NOT_DRAWN = ("epsilon_scale", "team_reward")  # the first is no option, the second is off
BEST, SINGLE, SEARCH = "best of the population", "single policy", "best of the random search"


def main() -> None:
    """Trains, scores, writes the record."""
    parser = training_parser(__doc__, levels=200)
    parser.add_argument("-t", "--training_env_config", default="1")
    parser.add_argument("-n", "--n_episodes", type=int, default=2500, help="of a single policy")
    parser.add_argument("--num_policies", type=int, default=4)
    parser.add_argument("--exchanges", type=int, default=10)
    parser.add_argument("--bad_start", action="store_true", help="begin near bad values, beside a random search")
    options, extra = parser.parse_known_args()

    name = f"{'bad_start' if options.bad_start else 'population'}_{options.training_env_config}"
    runs = [_run(options, seed, extra, HERE / f"{name}.png") for seed in options.seeds]
    other = SEARCH if options.bad_start else SINGLE
    mean, error = mean_and_error([run[BEST]["score"] - run[other]["score"] for run in runs])
    arguments, command = _arguments(options), ["multi_agent_training.py -t CONFIG -e CONFIG --seed SEED -n"]
    record = {
        "population": " ".join([*command, str(options.num_policies * options.n_episodes), *arguments, *extra]),
        "single": " ".join([*command, str(options.n_episodes), *_arguments_alone(options), *extra]),
        "levels": {"count": options.levels, "first_seed": UNSEEN},
        "machine": machine(),
        f"{BEST} less {other}, score": {"mean": mean, "se_over_seeds": error},
        "runs": runs,
    }
    keep(f"learning/{name}", record)
    print(f"{BEST} less {other}, score: {mean:.4f}, standard error over seeds {error}")


def _arguments(options: argparse.Namespace) -> list[str]:
    """Of the population."""
    n, decay = options.num_policies, 0.99 if options.bad_start else TrainingConfig.eps_decay
    period = str(n * options.n_episodes // (options.exchanges + 1))
    return [
        *("--num_policies", str(n), "--eps_decay", f"{decay ** (1 / n):.6f}"),
        *("--with_pbt", "--pbt_start_episodes", period, "--pbt_period_episodes", period),
        *("--checkpoint_interval", str(n * options.n_episodes) if options.bad_start else period),
        *((*BAD_START, "--cross_play", "False") if options.bad_start else ()),
    ]


def _arguments_alone(options: argparse.Namespace) -> list[str]:
    """Of a single policy."""
    return ["--checkpoint_interval", str(options.n_episodes), "--eps_decay", "0.99"] if options.bad_start else []


def _run(options: argparse.Namespace, seed: int, extra: list[str], picture: Path) -> dict[str, Any]:
    """All trainings of a seed, scored."""
    environment, n, n_policies = options.training_env_config, options.n_episodes, options.num_policies

    def trained(name: str, n_episodes: int, *arguments: str) -> Training:
        return train(options.work_dir, name, environment, seed, n_episodes, [*arguments, *extra])

    name = "bad_population" if options.bad_start else "population"
    population = trained(name, n_policies * n, *_arguments(options))
    lineage, cross_play = population.output / "lineage.png", population.output / "cross_play.json"
    if seed == options.seeds[0] and lineage.exists():
        shutil.copy(lineage, picture)
    alone = _arguments_alone(options)
    if options.bad_start:
        single = trained("bad_single", n, *BAD_START, *alone)
        trials = [trained(f"trial{k}", n, *_drawn(seed, k), *alone) for k in range(n_policies)]
        best = max(trials, key=lambda trial: [*trial.curve("evaluation/scores_mean").values()][-1])
        drawn = " ".join(_drawn(seed, trials.index(best)))
        search: dict[str, Any] = {SEARCH: _score(options, best, "best") | {"drawn": drawn}}
    else:
        single, search = trained("default", n, *alone), {}
    run = {"seed": seed, SINGLE: _score(options, single, "best"), **search, BEST: _score(options, population, "best")}
    for choice in ("mapping", *map(str, range(n_policies))):
        who = "training mapping" if choice == "mapping" else f"policy {choice}"
        run[who] = _score(options, population, choice)
    return run | {"cross_play": json.loads(cross_play.read_text()) if cross_play.exists() else None}


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


def _score(options: argparse.Namespace, training: Training, choice: str) -> dict[str, Any]:
    arguments = ["--policy_index", choice]
    environment = options.training_env_config
    (row,) = score(options.work_dir, environment, [training.last], options.levels, UNSEEN, arguments)
    scored = {name: round(row[f"{name}_mean"], 4) for name in ("score", "completion", "deadlock", "never_departed")}
    return scored | {"score_se": round(row["score_se"], 4), "seconds": training.seconds}


if __name__ == "__main__":
    main()
