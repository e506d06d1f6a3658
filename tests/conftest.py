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

_DISTRIBUTED = Path(__file__).parent / "distributed"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests stay in one process where several run them (``-n``).

    Those of a file share what they have trained. Those that start Ray find any other that runs on the machine.
    """
    for item in items:
        together = _DISTRIBUTED if _DISTRIBUTED in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(str(together.relative_to(_DISTRIBUTED.parent))))
