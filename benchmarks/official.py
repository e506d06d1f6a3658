"""Plays the official settings as a submission does, and sets what comes of it beside published figures.

    python benchmarks/official.py                          # the challenge of 2021: ten levels of each of its 15 tests
    python benchmarks/official.py --setting benchmarks     # today's Flatland Benchmarks, tests 00 to 04
    python benchmarks/official.py --plan_seconds 0         # the network alone

Each level is played by flatland-rl itself, by the shipped checkpoint, with planning unless told otherwise, within the
limits of the graders: 600 s before the first step, 10 s for each of the others. Rewards are normalized as graders do,
1 being perfect. Levels have seeds from 800000 on, which nothing was chosen by.

The record, official_SETTING.json beside this file (official_SETTING_network.json without planning), is written after
each level, and a run goes on where the last one ended. A file of the same name that ends in .md is its table.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two levels at a time, each on one core

from benchmarks.frame import SHIPPED, keep, kept, markdown_table, mean_and_error, processor, with_error
from reinforcement_learning.scoring.planning import PLAN_SECONDS
from reinforcement_learning.scoring.players import PLANNING, load_player
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.flatland_workarounds import clear_flatland_caches
from utils.levels.rail_envs import make_rail_env
from utils.simulator.simulator import FlatlandSimulator

FIRST_SEED = 800_000

# Share of trains that arrive and normalized reward of the best published learned policy, tests 00 to 14: TreeLSTM with
# attention between trains and PPO, arXiv 2210.12933.
_PUBLISHED = {
    "completion": "0.943 0.920 0.870 0.862 0.626 0.629 0.706 0.654 0.743 0.597 0.576 0.528 0.573 0.349 0.393",
    "reward": "0.957 0.947 0.934 0.922 0.812 0.824 0.859 0.833 0.877 0.795 0.779 0.790 0.777 0.704 0.721",
}
_TESTS = {
    "2021": [f"Round2_Test_{i:02}" for i in range(15)],
    "benchmarks": [f"Benchmarks_Test_{i:02}" for i in range(5)],
}
_TITLES = {
    "2021": "The tests of the Flatland 3 challenge, round 2, with the malfunctions of 2021",
    "benchmarks": "Flatland Benchmarks, tests 00 to 04: a malfunction every 540 steps of a train",
}
_HOW = (
    "one core a level. Seconds are means of whole levels, flatland-rl included; first and longest are the longest "
    "waits for the first step and for another one."
)


class _StepTimer(FlatlandSimulator):
    """flatland-rl itself; measures how long it takes from one step to the next, as graders do."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last = time.perf_counter()
        self.waits: list[float] = []

    def step(self, actions: Any) -> Any:
        self.waits.append(time.perf_counter() - self._last)
        moved = super().step(actions)
        self._last = time.perf_counter()
        return moved


_load_player = cache(load_player)  # once in a process


def _play(test: str, seed: int, checkpoint: Path, plan_seconds: float) -> dict[str, Any]:
    """One level; the row of the record."""
    player = _load_player(f"{checkpoint}{PLANNING if plan_seconds > 0 else ''}", plan_seconds=plan_seconds)
    clear_flatland_caches()
    simulator = _StepTimer(make_rail_env(ENV_CONFIGS[test], seed))
    began = time.perf_counter()
    result = player.play(simulator, seed)
    return {
        "test": test,
        "seed": seed,
        "trains": simulator.state.n_trains,
        "reward": round(1 + result.score, 5),
        "completion": round(result.completion, 5),
        "deadlocked": round(result.deadlocked, 5),
        "steps": result.n_steps,
        "seconds": round(time.perf_counter() - began, 1),
        "first_wait": round(simulator.waits[0], 2),
        "longest_wait": round(max(simulator.waits[1:], default=0.0), 2),
    }


def main() -> None:
    """Plays what the record lacks, and prints the table."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--setting", choices=sorted(_TESTS), default="2021", help="which malfunctions")
    parser.add_argument("--levels", type=int, default=10, help="levels of each test")
    parser.add_argument("--tests", type=int, default=15, help="how many of the tests, from 00 on")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="what plays")
    parser.add_argument("--plan_seconds", type=float, default=PLAN_SECONDS, help="as for run.py")
    parser.add_argument("--num_workers", type=int, default=2, help="levels that are played at a time")
    options = parser.parse_args()
    name = f"official_{options.setting}{'' if options.plan_seconds > 0 else '_network'}"
    record = kept(name) or {"plan_seconds": options.plan_seconds, "levels": []}
    if record["plan_seconds"] != options.plan_seconds:
        parser.error(
            f"{name}.json was played with --plan_seconds {record['plan_seconds']}: go on with that, or move it"
        )
    record |= {"num_workers": options.num_workers, "processor": processor()}
    played = record["levels"]
    known = {(row["test"], row["seed"]) for row in played}
    seeds = range(FIRST_SEED, FIRST_SEED + options.levels)
    # one level of each test after the other: a record that is not complete has something of all
    levels = [(test, seed) for seed in seeds for test in _TESTS[options.setting][: options.tests]]
    todo = [level for level in levels if level not in known]
    with ProcessPoolExecutor(options.num_workers) as workers:
        who = options.checkpoint, options.plan_seconds
        for future in as_completed([workers.submit(_play, *level, *who) for level in todo]):
            played.append(future.result())
            print(json.dumps(played[-1]), flush=True)
            played.sort(key=lambda row: (row["test"], row["seed"]))
            keep(name, record)
    text = _table(options.setting, played)
    keep(name, page=f"# {_TITLES[options.setting]}\n\n{processor()}, {_HOW}\n\n{text}")
    print(text)


def _table(setting: str, played: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of the record."""
    cells = []
    for number, test in enumerate(_TESTS[setting]):
        if rows := [row for row in played if row["test"] == test]:
            published = [values.split()[number] if setting == "2021" else "-" for values in _PUBLISHED.values()]
            own = [with_error(*mean_and_error([row[what] for row in rows])) for what in _PUBLISHED]
            seconds = f"{statistics.fmean(row['seconds'] for row in rows):.0f}"
            waits = [f"{max(row[what] for row in rows):.1f}" for what in ("first_wait", "longest_wait")]
            cells.append([test, rows[0]["trains"], len(rows), *own, *published, seconds, *waits])
    headings = ["test", "trains", "levels", "completion", "reward", "published: completion", "reward"]
    total, n = sum(row["reward"] for row in played), len(played)
    table = markdown_table([*headings, "seconds", "first", "longest"], cells)
    return f"{table}\n\nSum of the rewards of {n} levels: {total:.1f}, {total / max(n, 1):.3f} on average."


if __name__ == "__main__":
    main()
