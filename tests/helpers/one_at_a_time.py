"""Helpers of the tests: what there is only once on a machine, as ports are."""

import os
import tempfile
from pathlib import Path

from filelock import FileLock


def one_at_a_time(what: str) -> FileLock:
    """A block that waits until no other process of this user is in one for the same."""
    return FileLock(Path(tempfile.gettempdir()) / f"flatland_tests_{what}_{os.getuid()}.lock")
