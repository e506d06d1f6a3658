"""Helpers of the tests: what there is only once on a machine, as ports are."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Waits until no other process of this user is in a block for the same."""
    with (Path(tempfile.gettempdir()) / f"flatland_tests_{what}_{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
