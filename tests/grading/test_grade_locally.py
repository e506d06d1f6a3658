"""grade_locally.py: what it has started ends with it."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.grading import TIMEOUT, needs_redis
from utils.system.files import PROJECT_ROOT

EXIT_CODES = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGHUP: 128 + signal.SIGHUP, signal.SIGKILL: -signal.SIGKILL}


def _has_started_run(process: psutil.Process) -> bool:
    return any(part.endswith("run.py") for child in process.children() for part in child.cmdline())


@needs_redis
@pytest.mark.parametrize("number", EXIT_CODES)
def test_nothing_is_left_of_it_whatever_ends_it(number: signal.Signals, tmp_path: Path) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux ends processes with the one that started them")
    command = [sys.executable, "reinforcement_learning/grade_locally.py", "--tests", str(tmp_path / "envs")]
    command += ["-e", "Tiny", "-n", "1", "--way", "remote"]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL) as process:
        grading = psutil.Process(process.pid)
        while not _has_started_run(grading):
            assert process.poll() is None
        started = grading.children(recursive=True)
        process.send_signal(number)
    assert process.returncode == EXIT_CODES[number]
    assert psutil.wait_procs(started, timeout=TIMEOUT)[1] == []
