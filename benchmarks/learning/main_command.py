"""Runs the main command for several seeds and scores what it leaves on levels that no training has seen.

    python benchmarks/learning/main_command.py -t 1 --seeds 1 2 3

Writes main_command_CONFIG.json (scores, times, machine) and main_command_CONFIG.png (learning curves) beside itself.
The levels have seeds from 500000 on: not those of the trainings, and nothing was ever chosen by them.
Trainings that are finished in --work_dir are scored, not repeated.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.learning.programs import ROOT, Training, machine, mean_and_error, means_over_levels, score, train

HERE = Path(__file__).resolve().parent
FIRST_SEED = 500_000
PEERS = ("random", "do_nothing", "shortest_path", "least_detour", "dla")


def main() -> None:
    """Trains, scores, writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-t", "--training_env_config", default="1")
    parser.add_argument("-n", "--n_episodes", type=int, default=2500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--levels", type=int, default=200, help="unseen levels to score on")
    parser.add_argument("--rewards", default="default", help="what counts, in training and scoring")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs" / "benchmark")
    options, extra = parser.parse_known_args()

    environment, rewards = options.training_env_config, ["--rewards", options.rewards]
    extra = [*(rewards if options.rewards != "default" else []), *extra]
    trainings = [
        train(options.work_dir, "default", environment, seed, options.n_episodes, extra) for seed in options.seeds
    ]
    paths = [training.last for training in trainings] + [training.best for training in trainings]
    rows = score(options.work_dir, environment, [*paths, *PEERS], options.levels, FIRST_SEED, rewards)
    last, best, peer_rows = rows[: len(trainings)], rows[len(trainings) : len(paths)], rows[len(paths) :]
    peers = {row["policy"]: _short(row) for row in peer_rows}
    runs = [
        {"seed": training.seed, "seconds": training.seconds, "timer": _timer(training)}
        | {"last": _short(last_row), "best_by_evaluation": _short(best_row)}
        for training, last_row, best_row in zip(trainings, last, best, strict=True)
    ]
    dla = next(row for row in peer_rows if row["policy"] == "dla")
    record: dict[str, Any] = {
        "command": f"multi_agent_training.py -n {options.n_episodes} -t {environment} "
        f"-e {environment} --seed SEED " + " ".join(extra),
        "levels": {"count": options.levels, "first_seed": FIRST_SEED},
        "machine": machine(),
        "summary": _summary(runs) | _against(last, dla),
        "peers": peers,
        "runs": runs,
    }
    name = HERE / f"main_command_{environment}"
    name.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    _draw(trainings, runs, peers, name.with_suffix(".png"), record["command"])
    print(json.dumps(record["summary"], indent=1))


def _short(row: dict[str, Any]) -> dict[str, float]:
    kept = ("score_mean", "score_se", "completion_mean", "completion_se", "deadlock_mean", "never_departed_mean")
    return {name: round(row[name], 4) for name in kept}


def _timer(training: Training) -> dict[str, float]:
    last = [row for row in training.metrics if "timer/total" in row][-1]
    return {key: round(value, 1) for key, value in last.items() if key.startswith("timer/")}


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds; their standard errors hold the spread between trainings, not only between levels."""
    summary: dict[str, Any] = {"seconds_median": statistics.median(run["seconds"] for run in runs)}
    for which in ("last", "best_by_evaluation"):
        for measure in ("score_mean", "completion_mean"):
            mean, error = mean_and_error([run[which][measure] for run in runs])
            summary[f"{which}_{measure}"] = round(mean, 4)
            summary[f"{which}_{measure}_se_over_seeds"] = error and round(error, 4)
    return summary


def _against(rows: list[dict[str, Any]], peer: dict[str, Any]) -> dict[str, float | None]:
    """How much better the seeds are on average than a peer, with standard errors over the same levels."""
    differences: dict[str, float | None] = {}
    for measure in ("score", "completion"):
        pairs = zip(means_over_levels(rows, measure), means_over_levels([peer], measure), strict=True)
        mean, error = mean_and_error([ours - theirs for ours, theirs in pairs])
        differences[f"last_{measure}_minus_{peer['policy']}"] = round(mean, 4)
        differences[f"last_{measure}_minus_{peer['policy']}_se_over_levels"] = error and round(error, 4)
    return differences


def _draw(
    trainings: list[Training],
    runs: list[dict[str, Any]],
    peers: dict[str, dict[str, float]],
    path: Path,
    title: str,
) -> None:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colors = matplotlib.colormaps["tab10"]
    for i, (training, run) in enumerate(zip(trainings, runs, strict=True)):
        rows = [row for row in training.metrics if "evaluation/completions_mean" in row]
        episodes = [row["episode"] for row in rows]
        axes.plot(
            episodes,
            [row["evaluation/completions_mean"] for row in rows],
            color=colors(i),
            label=f"seed {run['seed']}, evaluation ({run['last']['completion_mean']:.2f} on unseen levels)",
        )
    for style, (name, row) in zip((":", (0, (1, 5)), "-.", "--", "-"), peers.items(), strict=True):
        axes.axhline(row["completion_mean"], color="grey", linestyle=style, label=name)
    axes.set_xlabel("episode")
    axes.set_ylabel("share of trains that arrive")
    axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
