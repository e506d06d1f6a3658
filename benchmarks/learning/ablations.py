"""Trains with one option changed at a time and compares with the defaults, level by level, for several seeds.

    python benchmarks/learning/ablations.py -t 1 2 --seeds 1 2 3

The levels have seeds from 700000 on: not those of the trainings, nor those of the record of the main command, so that
the defaults may be chosen by them. Writes ablations.json and ablations.md beside itself. Trainings that are finished
in --work_dir are scored, not repeated; several of these may share a --work_dir and run side by side with --train_only.

    python benchmarks/learning/ablations.py -t 1 --pace_episodes 300 --variants defaults num_envs-4 update_every-64

compares how long variants take instead: each is trained for so many episodes three times, turn by turn, on a machine
that has nothing else to do. Writes pace.json and pace.md. Options of the training that are unknown here hold for all.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.frame import keep, machine, markdown_table, with_error
from benchmarks.learning.programs import Training, level_by_level, rounded, score, train, training_parser

Table = dict[str, dict[str, Any]]  # variant -> what was measured of it
DEFAULTS = "defaults"
VARIANTS: dict[str, list[str]] = {
    DEFAULTS: [],
    # what a policy sees and may do
    "tree": ["--feature_set", "tree"],
    "tree_timetable": ["--feature_set", "tree_timetable"],
    "no-safe_moves": ["--safe_moves", "False"],
    "switches": ["--decision_points", "switches"],
    # the plan in space and time as features, and as a teacher
    "no-plan": ["--feature_set", "tree_routes", "--demonstrations", "0"],
    "plan_as_teacher_only": ["--feature_set", "tree_routes"],
    "no-demonstrations": ["--demonstrations", "0"],
    "no-dagger": ["--dagger", "False"],
    # trains that see each other
    "attention": ["--network", "attention"],
    "attention-no-plan": ["--network", "attention", "--feature_set", "tree_routes", "--demonstrations", "0"],
    # easier environments first, or all along; see EASIER
    "curriculum": [],
    "mixture": ["--curriculum", "False"],
    # exploration and rewards
    "no-guide": ["--guided_exploration", "0"],
    "no-shaping": ["--shaping", "0"],
    "team_reward-0.1": ["--team_reward", "0.1"],
    # several policies
    "by_speed": ["--num_policies", "2", "--policy_mapping", "by_speed"],
    # learning
    "no-advantage_learning": ["--advantage_learning", "0"],
    "n_step-1": ["--n_step", "1"],
    "no-averaging": ["--averaging_steps", "1"],
    "falling-learning_rate": ["--learning_rate_end_factor", "0.1"],
    # how much is learned from how much play
    "num_envs-4": ["--num_envs", "4"],
    "num_envs-16": ["--num_envs", "16"],
    "batch_size-64": ["--batch_size", "64"],
    "batch_size-256": ["--batch_size", "256"],
    "update_every-16": ["--update_every", "16"],
    "update_every-32": ["--update_every", "32"],
    "update_every-64": ["--update_every", "64"],
    "update_every-64-batch_size-256": ["--update_every", "64", "--batch_size", "256"],
    "update_every-128-batch_size-256": ["--update_every", "128", "--batch_size", "256"],
    "async_rl": ["--async_rl", "True"],
}

EASIER = {"1": ["0"], "2": ["0", "1"], "Round2_Test_03": ["Round2_Test_00", "Round2_Test_01", "Round2_Test_02"]}
"""What comes before an environment in a curriculum: the same with fewer trains."""


def main() -> None:
    """Trains, scores, writes the record."""
    parser = training_parser(__doc__, levels=150, work_dir="ablations")
    parser.add_argument("-t", "--training_env_config", nargs="+", default=["1"])
    parser.add_argument("-n", "--n_episodes", type=int, default=1000)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--first_seed", type=int, default=700_000, help="of the levels to score on")
    parser.add_argument("--record", default="ablations", help="name of the files that are written")
    parser.add_argument("--train_only", action="store_true", help="leave scoring to another call")
    parser.add_argument("--pace_episodes", type=int, default=0, help="compare times only, of so many episodes each")
    options, common = parser.parse_known_args()
    options.common = common
    if options.pace_episodes:
        _compare_pace(options)
        return

    tables = {}
    for environment in options.training_env_config:
        trainings = {}
        for variant in options.variants:
            arguments = [*_arguments(variant, environment), *options.common]
            trainings[variant] = [
                train(options.work_dir, variant, environment, seed, options.n_episodes, arguments)
                for seed in options.seeds
            ]
        if not options.train_only:
            tables[environment] = _compare(options, environment, trainings)
    if tables:
        seeds = ", ".join(map(str, options.seeds))
        how = f"seeds {seeds}; the last checkpoints on {options.levels} levels with seeds from {options.first_seed} on."
        levels = {"count": options.levels, "first_seed": options.first_seed}
        _write(options, options.record, tables, how, _SCORES, _cells, {"levels": levels})


def _arguments(variant: str, environment: str) -> list[str]:
    """What a variant has on the command line. The environment itself is named anyway, as the hardest one."""
    easier = EASIER[environment] if variant in ("curriculum", "mixture") else []
    return [*(part for name in easier for part in ("-t", name)), *VARIANTS[variant]]


def _compare(options: argparse.Namespace, environment: str, trainings: dict[str, list[Training]]) -> Table:
    """A row for each variant: its means, and how much better than the defaults it is on the same levels."""
    checkpoints = [training.last for of_variant in trainings.values() for training in of_variant]
    as_trained = ["--policy_index", "mapping"]  # of several policies all drive
    scored = iter(score(options.work_dir, environment, checkpoints, options.levels, options.first_seed, as_trained))
    rows = {variant: [next(scored) for _ in of_variant] for variant, of_variant in trainings.items()}
    table: Table = {}
    for variant, own in rows.items():
        row = table[variant] = {
            "arguments": _arguments(variant, environment),
            "seconds": [training.seconds for training in trainings[variant]],
        }
        for measure in ("score", "completion"):
            # between seeds, as two trainings differ by more than their levels do
            row[measure], row[f"{measure}_se_over_seeds"] = rounded([of_seed[f"{measure}_mean"] for of_seed in own])
            if variant != DEFAULTS and DEFAULTS in rows:
                name = f"{measure}_less_defaults"
                row[name], row[f"{name}_se_over_levels"] = level_by_level(own, rows[DEFAULTS], measure)
        for share in ("deadlock", "never_departed"):
            row[share] = rounded([of_seed[f"{share}_mean"] for of_seed in own])[0]
    return table


_SCORES = ["variant", "score", "to the defaults", "completion", "to the defaults", "deadlocked", "seconds"]


def _cells(row: dict[str, Any]) -> list[str]:
    cells = []
    for measure in ("score", "completion"):
        cells.append(with_error(row[measure], row[f"{measure}_se_over_seeds"]))
        name = f"{measure}_less_defaults"
        cells.append(with_error(row[name], row[f"{name}_se_over_levels"], "+.3f") if name in row else "")
    return [*cells, f"{row['deadlock']:.3f}", f"{statistics.median(row['seconds']):.0f}"]


def _compare_pace(options: argparse.Namespace) -> None:
    """Seconds of each variant, start and compilation left out, and as a ratio to the defaults in the same round."""
    tables: dict[str, Table] = {}
    variants = list(dict.fromkeys([DEFAULTS, *options.variants]))
    for environment in options.training_env_config:
        seconds: dict[str, list[float]] = {variant: [] for variant in variants}
        for seed, variant in itertools.product(options.seeds, variants):
            with tempfile.TemporaryDirectory() as folder:
                arguments = [*VARIANTS[variant], *options.common]
                training = train(Path(folder), variant, environment, seed, options.pace_episodes, arguments)
                seconds[variant].append(training.seconds)
        table = tables[environment] = {}
        for variant, own in seconds.items():
            ratio = statistics.median(map(truediv, own, seconds[DEFAULTS]))
            table[variant] = {"arguments": VARIANTS[variant], "seconds": own, "to_defaults": round(ratio, 2)}
    options.n_episodes = options.pace_episodes

    def cells(row: dict[str, Any]) -> list[str]:
        return [f"{statistics.median(row['seconds']):.1f}", f"{row['to_defaults']:.2f}"]

    how = "variants in turns, one seed after the other; medians."
    _write(options, "pace", tables, how, ["variant", "seconds", "times the defaults'"], cells, {})


def _write(
    options: argparse.Namespace,
    name: str,
    tables: dict[str, Table],
    how: str,
    headings: list[str],
    cells: Callable[[dict[str, Any]], list[str]],
    more: dict[str, Any],
) -> None:
    """Writes the record and the page: for each environment a table with a row of cells for each variant."""
    command = f"multi_agent_training.py -n {options.n_episodes} -t CONFIG -e CONFIG --seed SEED VARIANT"
    record = {"command": " ".join([command, *options.common]), "seeds": options.seeds, **more, "machine": machine()}
    parts = [f"`{record['command']}`, {how} Written by ablations.py."]
    for environment, table in tables.items():
        names = [f"`{' '.join(row['arguments'])}`" if row["arguments"] else variant for variant, row in table.items()]
        rows = [[named, *cells(row)] for named, row in zip(names, table.values(), strict=True)]
        parts.append(f"Configuration {environment}:\n\n{markdown_table(headings, rows)}")
    keep(f"learning/{name}", record | {"configurations": tables}, "\n\n".join(parts))
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
