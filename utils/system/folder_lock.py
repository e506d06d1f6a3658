"""A folder that belongs to one process at a time."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOCK_FILE = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps others out of a folder until the block ends, or the process, whatever ends that.

    Where the system or the folder's file system has no locks, nobody is kept out.

    Raises:
        BlockingIOError: another process has the folder.
        OSError: the folder cannot be written.
    """
    path = folder / LOCK_FILE
    with _open_locked(path):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _open_locked(path: Path) -> BinaryIO:
    while True:
        file = path.open("ab")
        try:
            _lock(file)
            there = os.stat(path)
        except FileNotFoundError:  # whoever had the lock has taken the file away since it was opened
            file.close()
            continue
        except BaseException:
            file.close()
            raise
        if os.path.samestat(there, os.fstat(file.fileno())):
            return file
        file.close()


def _lock(file: BinaryIO) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass
