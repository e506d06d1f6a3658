"""Runs the main command for several seeds and scores what it leaves on levels that no training has seen.

    python benchmarks/learning/main_command.py -t 1 --seeds 1 2 3

Writes main_command_CONFIG.json (scores, times, machine) and main_command_CONFIG.png (learning curves) beside itself.
The levels have seeds from 500000 on: not those of the trainings, and nothing was ever chosen by them.
Trainings that are finished in --work_dir are scored, not repeated.
"""

import itertools
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from matplotlib.figure import Figure

from benchmarks.frame import keep, machine
from benchmarks.learning.programs import UNSEEN, Training, differences, rounded, score, short, train, training_parser

HERE = Path(__file__).resolve().parent
PEERS = {
    "random": "random",
    "do_nothing": "do_nothing",
    "the guide of exploration alone": "benchmarks.learning.peers:Guide",
    "shortest_path": "shortest_path",
    "dla": "dla",
    "least_detour": "least_detour",
    "the plan among the features": "benchmarks.learning.peers:Plan",
}
_AGAINST = ("dla", "least_detour")


def main() -> None:
    """Trains, scores, writes the record."""
    parser = training_parser(__doc__, levels=200)
    parser.add_argument("-t", "--training_env_config", default="1")
    parser.add_argument("-n", "--n_episodes", type=int, default=2500)
    parser.add_argument("--rewards", default="default", help="what counts, in training and scoring")
    options, extra = parser.parse_known_args()

    environment, rewards = options.training_env_config, ["--rewards", options.rewards]
    extra = [*(rewards if options.rewards != "default" else []), *extra]
    trainings = [
        train(options.work_dir, "default", environment, seed, options.n_episodes, extra) for seed in options.seeds
    ]
    paths = [training.last for training in trainings] + [training.best for training in trainings]
    rows = score(options.work_dir, environment, [*paths, *PEERS.values()], options.levels, UNSEEN, rewards)
    last, best, peer_rows = rows[: len(trainings)], rows[len(trainings) : len(paths)], rows[len(paths) :]
    peers = {name: short(row) for name, row in zip(PEERS, peer_rows, strict=True)}
    runs = [
        {"seed": training.seed, "seconds": training.seconds, "timer": _timer(training)}
        | {"last": short(last_row), "best_by_evaluation": short(best_row)}
        for training, last_row, best_row in zip(trainings, last, best, strict=True)
    ]
    summary = _summary(runs)
    for row in peer_rows:
        if row["policy"] in _AGAINST:
            summary |= differences(last, row, f"last_{{}}_minus_{row['policy']}")
    command = f"multi_agent_training.py -n {options.n_episodes} -t {environment} -e {environment} --seed SEED"
    record: dict[str, Any] = {
        "command": " ".join([command, *extra]),
        "levels": {"count": options.levels, "first_seed": UNSEEN},
        "machine": machine(),
        "summary": summary,
        "peers": peers,
        "runs": runs,
    }
    name = f"main_command_{environment}"
    keep(f"learning/{name}", record)
    _draw(trainings, runs, peers, HERE / f"{name}.png", record["command"])
    print(*(f"{what}: {value}" for what, value in summary.items()), sep="\n")


def _timer(training: Training) -> dict[str, float]:
    last = [row for row in training.metrics if "timer/total" in row][-1]
    return {key: round(value, 1) for key, value in last.items() if key.startswith("timer/")}


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds; their standard errors hold the spread between trainings, not only between levels."""
    summary: dict[str, Any] = {"seconds_median": statistics.median(run["seconds"] for run in runs)}
    for which in ("last", "best_by_evaluation"):
        for measure in ("score_mean", "completion_mean"):
            name = f"{which}_{measure}"
            summary[name], summary[f"{name}_se_over_seeds"] = rounded([run[which][measure] for run in runs])
    return summary


def _draw(
    trainings: list[Training], runs: list[dict[str, Any]], peers: dict[str, dict[str, float]], path: Path, title: str
) -> None:
    figure = Figure(figsize=(9, 7), layout="constrained")
    figure.suptitle(title, fontsize=9)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, measure, label in zip(panels, ("score", "completion"), ("score", "trains that arrive"), strict=True):
        curves = [training.curve(f"evaluation/{measure}s_mean") for training in trainings]
        for i, (curve, run) in enumerate(zip(curves, runs, strict=True)):
            end = run["last"][f"{measure}_mean"]
            text = f"seed {run['seed']}: evaluations, and {end:.2f} in the end on unseen levels"
            axes.plot(*zip(*curve.items(), strict=True), color=f"C{i}", linewidth=1.0, alpha=0.7, label=text)
        common = sorted(set.intersection(*map(set, curves)))
        means = [statistics.fmean(curve[episode] for curve in curves) for episode in common]
        axes.plot(common, means, color="black", linewidth=2.0, label="mean of the seeds")
        values = {name: row[f"{measure}_mean"] for name, row in peers.items()}
        shown = [*values.values(), *means]
        heights = _apart(list(values.values()), 0.06 * (max(shown) - min(shown)))
        for (name, value), height in zip(values.items(), heights, strict=True):
            axes.axhline(value, color="grey", linewidth=0.8, linestyle="--")
            beside = {"transform": axes.get_yaxis_transform(), "fontsize": 8, "verticalalignment": "center"}
            axes.text(1.02, height, f"{name} {value:.2f}", **beside)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8, loc="lower right")
    panels[1].set_xlabel("episode")
    figure.savefig(path, dpi=110)


def _apart(values: list[float], least: float) -> list[float]:
    """Heights for labels of ``values``: near them, and at least ``least`` apart."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    heights = list(values)
    for lower, upper in itertools.pairwise(order):
        heights[upper] = max(heights[upper], heights[lower] + least)
    return heights


if __name__ == "__main__":
    main()
