"""Settings of all tests."""

import errno
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

# Before PyTorch is imported, here and in subprocesses: on a busy machine several threads slow small networks down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Under nohup SIGHUP is ignored, also by processes that are started from here.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def no_file_is_replaced_while_it_is_open() -> Iterator[None]:
    """As on Windows."""
    replace = os.replace

    def replace_closed(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        files = {os.path.realpath(source), os.path.realpath(target)}
        if is_open := files.intersection(file.path for file in psutil.Process().open_files()):
            raise PermissionError(errno.EACCES, "a file is open, so Windows would refuse to replace it", *is_open)
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace_closed)
        yield
