"""Seconds from the main command to the end of its first evaluation: with nothing compiled yet, and at a later start.

    python benchmarks/first_start.py

With the defaults, and without plans, for which the planner is not compiled. Wall time, medians. Writes
first_start.json beside itself.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.frame import keep, machine, markdown_table, parser_of
from benchmarks.learning.programs import PROGRAMS

TRAININGS = {"defaults": [], "without plans": ["--feature_set", "tree_routes", "--demonstrations", "0"]}


def main() -> None:
    """Measures, prints, writes."""
    parser = parser_of(__doc__)
    parser.add_argument("--times", type=int, default=3, help="starts of each kind (default: 3)")
    times = parser.parse_args().times
    rows = {}
    for name, arguments in TRAININGS.items():
        starts = [_first_and_later_start(arguments) for _ in range(times)]
        rows[name] = [round(statistics.median(seconds), 1) for seconds in zip(*starts, strict=True)]
    print(markdown_table(["training", "first start, s", "later, s"], ([name, *row] for name, row in rows.items())))
    keep("first_start", {"machine": machine(), "starts": times, "seconds_first_and_later": rows})


def _first_and_later_start(arguments: Sequence[str]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as compiled:
        return _seconds(arguments, compiled), _seconds(arguments, compiled)


def _seconds(arguments: Sequence[str], compiled: str) -> float:
    """Seconds to the end of the first evaluation; numba keeps in the folder ``compiled`` what it compiles."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(PROGRAMS / "multi_agent_training.py"), "-n", "2500", "-t", "1", "-e", "1"]
        command += ["--wandb", "False", "--checkpoint_dir", f"{folder}/checkpoints", "--output_dir", f"{folder}/runs"]
        environment = os.environ | {"NUMBA_CACHE_DIR": compiled, "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it Python compiles all files anew
        started = time.perf_counter()
        with subprocess.Popen([*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True) as training:
            assert training.stdout is not None
            if not any(line.startswith("evaluation at episode 0") for line in training.stdout):
                sys.exit("first_start.py: error: the training has ended before its first evaluation")
            seconds = time.perf_counter() - started
            training.kill()
        return seconds


if __name__ == "__main__":
    main()
