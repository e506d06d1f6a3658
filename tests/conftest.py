"""Settings of all tests."""

import os
import signal
from pathlib import Path

import pytest

# Before PyTorch is imported, here and in subprocesses: on a busy machine several threads slow small networks down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Under nohup SIGHUP is ignored, also by processes that are started from here.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Folders whose tests cannot run beside each other: one Redis port, which flatland-rl fixes; one Ray that "auto" finds.
IN_ONE_PROCESS = ("grading", "distributed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell pytest-xdist (`-n 2 --dist loadgroup`) what stays in one process: a file, or one of these folders."""
    for item in items:
        file = item.path.relative_to(Path(__file__).parent)
        group = file.parts[0] if file.parts[0] in IN_ONE_PROCESS else file.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
