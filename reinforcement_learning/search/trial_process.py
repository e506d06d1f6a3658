"""The training of one trial: a process of its own, and the metric that it writes."""

import ctypes
import json
import math
import os
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from reinforcement_learning.tracking.json_lines_sink import METRICS_FILE
from utils.system.files import PROJECT_ROOT

trial_name = "trial_{:04d}".format  # of a number: what the run and its folders are called


def training_command(options: dict[str, Any]) -> list[str]:
    """A training as one would type it."""
    script = PROJECT_ROOT / "reinforcement_learning" / "multi_agent_training.py"
    return ["python", str(script), *(f"--{name}={value}" for name, value in sorted(options.items()))]


def start_trial(folder: Path, name: str, options: dict[str, Any], lock: int) -> subprocess.Popen[bytes]:
    """Starts a training, or lets it go on from its newest checkpoint; it holds the open file ``lock``."""
    folders = {"output_dir": folder, "checkpoint_dir": folder / "checkpoints", "replay_buffer_dir": folder / "buffers"}
    checkpoints = sorted((folder / "checkpoints" / name).glob("episode_*.pt"))
    resume = {"resume": checkpoints[-1]} if checkpoints else {}
    command = training_command({"wandb": False, **options, **folders, "run_name": name, **resume})
    # PR_SET_PDEATHSIG: Linux sends SIGTERM when the search ends, even by kill -9, and the training saves a checkpoint
    end_with_search = partial(ctypes.CDLL(None).prctl, 1, signal.SIGTERM) if sys.platform == "linux" else None
    (folder / name).mkdir(exist_ok=True)
    with (folder / name / "console.log").open("a") as log:
        print("$", shlex.join(command), file=log, flush=True)
        return subprocess.Popen(
            [sys.executable, *command[1:]],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C reaches it only through the search
            preexec_fn=end_with_search,
        )


def read_metric(folder: Path, metric: str) -> tuple[list[float], dict[str, Any]]:
    """The finite values of a metric in the folder of a trial, oldest first, and what the two newest rows say."""
    path = folder / METRICS_FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # the last one may be torn
    # few rows have the metric, and parsing all of them takes long
    rows = [_row(line) for i, line in enumerate(lines) if metric.encode() in line or i >= len(lines) - 2]
    values = [row[metric] for row in rows if isinstance(row.get(metric), int | float) and math.isfinite(row[metric])]
    return values, {k: v for r in rows[-2:] for k, v in r.items()}


def _row(line: bytes) -> dict[str, Any]:
    """The row that a line holds; nothing where it is no row, as after a full disk."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
