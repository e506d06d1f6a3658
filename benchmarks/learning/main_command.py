"""Runs the main command for several seeds and scores what it leaves on levels that no training has seen.

    python benchmarks/learning/main_command.py -t 1 --seeds 1 2 3

Writes main_command_CONFIG.json (scores, times, machine) and main_command_CONFIG.png (learning curves) beside itself.
The levels have seeds from 500000 on: not those of the trainings, nor those of any table in the README, so nothing was
ever chosen by them. Trainings that are finished in --work_dir are scored, not repeated.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import matplotlib  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from benchmarks.machine import processor  # noqa: E402

HERE = Path(__file__).resolve().parent
PROGRAMS = ROOT / "reinforcement_learning"
FIRST_SEED = 500_000
PEERS = ("random", "do_nothing", "shortest_path", "least_detour", "dla")


def main() -> None:
    """Trains, scores, writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-t", "--training_env_config", default="1")
    parser.add_argument("-n", "--n_episodes", type=int, default=2500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--levels", type=int, default=200, help="unseen levels to score on")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs" / "benchmark")
    options, extra = parser.parse_known_args()

    runs = [_train(options, seed, extra) for seed in options.seeds]
    last, best = _score(options, runs, "last"), _score(options, runs, "best")
    peer_rows = {row["policy"]: row for row in _evaluate(options, list(PEERS))}
    peers = {name: _short(row) for name, row in peer_rows.items()}
    for run, last_row, best_row in zip(runs, last, best, strict=True):
        run |= {"last": _short(last_row), "best_by_evaluation": _short(best_row)}
    record: dict[str, Any] = {
        "command": f"multi_agent_training.py -n {options.n_episodes} -t {options.training_env_config} "
        f"-e {options.training_env_config} --seed SEED " + " ".join(extra),
        "levels": {"count": options.levels, "first_seed": FIRST_SEED},
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "summary": _summary(runs) | _against(last, peer_rows["dla"]),
        "peers": peers,
        "runs": [{key: value for key, value in run.items() if key not in ("metrics", "checkpoints")} for run in runs],
    }
    name = HERE / f"main_command_{options.training_env_config}"
    name.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    _draw(runs, peers, name.with_suffix(".png"), record["command"])
    print(json.dumps(record["summary"], indent=1))


def _train(options: argparse.Namespace, seed: int, extra: list[str]) -> dict[str, Any]:
    environment = options.training_env_config
    name = f"config{environment}-seed{seed}"
    checkpoints = options.work_dir / "checkpoints" / name
    last = checkpoints / f"episode_{options.n_episodes:07d}.pt"
    command = [sys.executable, str(PROGRAMS / "multi_agent_training.py"), "-n", str(options.n_episodes)]
    command += ["-t", environment, "-e", environment, "--seed", str(seed), "--run_name", name, "--wandb", "False"]
    command += ["--checkpoint_dir", str(options.work_dir / "checkpoints"), "--output_dir", str(options.work_dir)]
    command += extra
    if not last.exists():
        subprocess.run(command, check=True)
    rows = [json.loads(line) for line in (options.work_dir / name / "metrics.jsonl").read_text().splitlines()]
    return {
        "seed": seed,
        "seconds": round(rows[-2]["timer/total"], 1),
        "timer": {key: round(value, 1) for key, value in rows[-2].items() if key.startswith("timer/")},
        "checkpoints": {
            "last": str(last),
            "best": str(checkpoints / "best.pt"),
        },
        "metrics": rows,
    }


def _score(options: argparse.Namespace, runs: list[dict[str, Any]], which: str) -> list[dict[str, Any]]:
    return _evaluate(options, [run["checkpoints"][which] for run in runs])


def _evaluate(options: argparse.Namespace, policies: list[str]) -> list[dict[str, Any]]:
    path = options.work_dir / "scores.json"
    command = [sys.executable, str(PROGRAMS / "evaluate_agent.py"), "-e", options.training_env_config]
    command += ["-n", str(options.levels), "--seed", str(FIRST_SEED), "--json", str(path)]
    command += ["--num_workers", str(os.cpu_count() or 1)]
    for policy in policies:
        command += ["--policy", policy]
    subprocess.run(command, check=True)
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def _short(row: dict[str, Any]) -> dict[str, float]:
    kept = ("score_mean", "score_se", "completion_mean", "completion_se", "deadlock_mean", "never_departed_mean")
    return {name: round(row[name], 4) for name in kept}


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds; their standard errors hold the spread between trainings, not only between levels."""
    summary: dict[str, Any] = {"seconds_median": statistics.median(run["seconds"] for run in runs)}
    for which in ("last", "best_by_evaluation"):
        for measure in ("score_mean", "completion_mean"):
            values = [run[which][measure] for run in runs]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            summary[f"{which}_{measure}"] = round(statistics.mean(values), 4)
            summary[f"{which}_{measure}_se_over_seeds"] = round(error, 4) if error is not None else None
    return summary


def _against(rows: list[dict[str, Any]], peer: dict[str, Any]) -> dict[str, float]:
    """How much better the seeds are on average than a peer, with standard errors over the same levels."""
    differences = {}
    for measure in ("score", "completion"):
        values = [
            statistics.fmean(own[measure] for own in owns) - other[measure]
            for *owns, other in zip(*(row["per_episode"] for row in (*rows, peer)), strict=True)
        ]
        differences[f"last_{measure}_minus_{peer['policy']}"] = round(statistics.fmean(values), 4)
        error = statistics.stdev(values) / len(values) ** 0.5
        differences[f"last_{measure}_minus_{peer['policy']}_se_over_levels"] = round(error, 4)
    return differences


def _draw(runs: list[dict[str, Any]], peers: dict[str, dict[str, float]], path: Path, title: str) -> None:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colors = matplotlib.colormaps["tab10"]
    for i, run in enumerate(runs):
        rows = [row for row in run["metrics"] if "evaluation/completions_mean" in row]
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
