"""flatland-rl's own commands, which stand beside this Python, and processes that end with the one that started them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.system.child_process import end_with_parent
from utils.system.files import PROJECT_ROOT


class GradingError(RuntimeError):
    """A grader cannot work, or has failed; the message is one sentence."""


class TimeIsUp(GradingError):
    """A command has not ended in the time that it was given."""


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen]:
    """A process that ends with the block, and on Linux with this process, whatever ends that."""
    process = subprocess.Popen(command, preexec_fn=end_with_parent(), **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def tool(name: str) -> str:
    """The path of a command of flatland-rl."""
    return str(Path(sys.executable).parent / name)


def call(command: Sequence[str], cwd: Path, seconds: float | None = None) -> None:
    """Lets a command do its work; what it prints is not shown.

    Raises:
        TimeIsUp: it takes longer.
        GradingError: it fails.
    """
    # what FLATLAND_NETWORK and FLATLAND_FEATURES name is found in the folder where this was started
    path = [str(PROJECT_ROOT), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with started(command, cwd=cwd, env=environment, **output) as process:
        try:
            _, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeIsUp(f"{Path(command[0]).name} has taken longer than {seconds:.0f} seconds.") from error
    if process.returncode:
        said = stderr.strip().splitlines() or ["nothing was said"]
        raise GradingError(f"{Path(command[0]).name} has failed: {said[-1]}")
