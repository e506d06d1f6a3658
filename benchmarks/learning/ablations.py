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
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.learning.programs import ROOT, Training, machine, mean_and_error, means_over_levels, score, train

HERE = Path(__file__).resolve().parent
FIRST_SEED = 700_000
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

EASIER = {
    "1": ["0"],
    "2": ["0", "1"],
    "Round2_Test_03": ["Round2_Test_00", "Round2_Test_01", "Round2_Test_02"],
}
"""What comes before an environment in a curriculum: the same with fewer trains."""


def main() -> None:
    """Trains, scores, writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-t", "--training_env_config", nargs="+", default=["1"])
    parser.add_argument("-n", "--n_episodes", type=int, default=1000)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--levels", type=int, default=150, help="levels to score on")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs" / "ablations")
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
        trainings = {
            variant: [
                train(
                    options.work_dir,
                    variant,
                    environment,
                    seed,
                    options.n_episodes,
                    [*_arguments(variant, environment), *options.common],
                )
                for seed in options.seeds
            ]
            for variant in options.variants
        }
        if not options.train_only:
            tables[environment] = _compare(options, environment, trainings)
    if tables:
        _write(options, tables)


def _arguments(variant: str, environment: str) -> list[str]:
    """What a variant has on the command line. The environment itself is named anyway, as the hardest one."""
    easier = EASIER[environment] if variant in ("curriculum", "mixture") else []
    return [*(part for name in easier for part in ("-t", name)), *VARIANTS[variant]]


def _compare(
    options: argparse.Namespace, environment: str, trainings: dict[str, list[Training]]
) -> dict[str, dict[str, Any]]:
    """A row for each variant: its means, and how much better than the defaults it is on the same levels."""
    checkpoints = [training.last for of_variant in trainings.values() for training in of_variant]
    scored = iter(score(options.work_dir, environment, checkpoints, options.levels, FIRST_SEED))
    rows = {variant: [next(scored) for _ in of_variant] for variant, of_variant in trainings.items()}
    table = {}
    for variant, own in rows.items():
        table[variant] = {
            "arguments": _arguments(variant, environment),
            "seconds": [training.seconds for training in trainings[variant]],
        }
        for measure in ("score", "completion"):
            # between seeds, as two trainings differ by more than their levels do
            mean, error = mean_and_error([row[f"{measure}_mean"] for row in own])
            table[variant] |= {measure: round(mean, 4), f"{measure}_se_over_seeds": error and round(error, 4)}
            if variant != DEFAULTS and DEFAULTS in rows:
                pairs = zip(means_over_levels(own, measure), means_over_levels(rows[DEFAULTS], measure), strict=True)
                mean, error = mean_and_error([ours - theirs for ours, theirs in pairs])
                table[variant] |= {
                    f"{measure}_less_defaults": round(mean, 4),
                    f"{measure}_less_defaults_se_over_levels": error and round(error, 4),
                }
        for share in ("deadlock", "never_departed"):
            table[variant][share] = round(mean_and_error([row[f"{share}_mean"] for row in own])[0], 4)
    return table


def _compare_pace(options: argparse.Namespace) -> None:
    """Seconds of each variant, start and compilation left out, and as a ratio to the defaults in the same round."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    variants = list(dict.fromkeys([DEFAULTS, *options.variants]))
    for environment in options.training_env_config:
        seconds: dict[str, list[float]] = {variant: [] for variant in variants}
        for seed in options.seeds:
            for variant in variants:
                with tempfile.TemporaryDirectory() as folder:
                    training = train(Path(folder), variant, environment, seed, options.pace_episodes, VARIANTS[variant])
                    seconds[variant].append(training.seconds)
        tables[environment] = {
            variant: {
                "arguments": VARIANTS[variant],
                "seconds": own,
                "to_defaults": round(statistics.median(a / b for a, b in zip(own, seconds[DEFAULTS], strict=True)), 2),
            }
            for variant, own in seconds.items()
        }
    record = {
        "command": f"multi_agent_training.py -n {options.pace_episodes} -t CONFIG -e CONFIG --seed SEED VARIANT",
        "seeds": options.seeds,
        "machine": machine(),
        "configurations": tables,
    }
    (HERE / "pace.json").write_text(json.dumps(record, indent=1) + "\n")
    head = f"`{record['command']}`, variants in turns, one seed after the other; medians. Written by ablations.py.\n"
    text = "\n".join(_pace_markdown(environment, table) for environment, table in tables.items())
    (HERE / "pace.md").write_text(f"{head}\n{text}")
    print(text)


def _pace_markdown(environment: str, table: dict[str, dict[str, Any]]) -> str:
    lines = [f"Configuration {environment}:", "", "| variant | seconds | times the defaults' |", "| --- | --- | --- |"]
    for variant, row in table.items():
        name = f"`{' '.join(row['arguments'])}`" if row["arguments"] else variant
        lines.append(f"| {name} | {statistics.median(row['seconds']):.1f} | {row['to_defaults']:.2f} |")
    return "\n".join([*lines, ""])


def _write(options: argparse.Namespace, tables: dict[str, dict[str, dict[str, Any]]]) -> None:
    record = {
        "command": " ".join(
            [
                f"multi_agent_training.py -n {options.n_episodes} -t CONFIG -e CONFIG --seed SEED VARIANT",
                *options.common,
            ]
        ),
        "seeds": options.seeds,
        "levels": {"count": options.levels, "first_seed": FIRST_SEED},
        "machine": machine(),
        "configurations": tables,
    }
    (HERE / f"{options.record}.json").write_text(json.dumps(record, indent=1) + "\n")
    text = "\n".join(_markdown(environment, table) for environment, table in tables.items())
    head = (
        f"`{record['command']}`, seeds {', '.join(map(str, options.seeds))}; the last checkpoints on {options.levels} "
        f"levels with seeds from {FIRST_SEED} on. Written by ablations.py.\n"
    )
    (HERE / f"{options.record}.md").write_text(f"{head}\n{text}")
    print(text)


def _markdown(environment: str, table: dict[str, dict[str, Any]]) -> str:
    lines = [f"Configuration {environment}:", ""]
    lines += ["| variant | score | to the defaults | completion | to the defaults | deadlocked | seconds |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for variant, row in table.items():
        cells = [f"`{' '.join(row['arguments'])}`" if row["arguments"] else variant]
        for measure in ("score", "completion"):
            cells.append(_with_error(row[measure], row[f"{measure}_se_over_seeds"], "{:.3f}"))
            difference = row.get(f"{measure}_less_defaults")
            error = row.get(f"{measure}_less_defaults_se_over_levels")
            cells.append("" if difference is None else _with_error(difference, error, "{:+.3f}"))
        cells += [f"{row['deadlock']:.3f}", f"{statistics.median(row['seconds']):.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _with_error(value: float, error: float | None, form: str) -> str:
    return form.format(value) + (f" ± {error:.3f}" if error is not None else "")


if __name__ == "__main__":
    main()
