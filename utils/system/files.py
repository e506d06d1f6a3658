"""Where the project lies, and files that are whole or absent: written beside their place, then renamed."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PROJECT_ROOT = Path(__file__).resolve().parent.parent.parent
TEMPORARY_SUFFIX = ".tmp"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` once the block has ended well.

    A crash, a kill or a full disk in the middle leaves what was at ``path`` as it was. Links stay, and the file that
    they lead to is replaced. A device, a pipe or standard output cannot be replaced: it is written into.

    Raises:
        OSError: the file cannot be written; the unfinished one beside it is removed.
    """
    if (existing := _open_irreplaceable(path)) is not None:
        with existing:
            yield existing
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # without it, a power cut may leave a renamed file without content
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _open_irreplaceable(path: str | os.PathLike[str]) -> BinaryIO | None:
    """What is at ``path``, open for writing, where that is no file that another one can take the place of."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        with contextlib.suppress(OSError, ValueError):  # /dev/stdout may be a regular file that something stands in
            if os.path.samestat(status, os.fstat(stream.fileno())):
                return open(os.dup(stream.fileno()), "wb")
    replaceable = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)  # a folder fails with its own error
    return None if replaceable else open(path, "wb")


def why_unreadable(path: Path) -> str | None:
    """Why a file cannot be read, as the end of a sentence that begins with its path; None where it can.

    What is no regular file is not opened: a pipe may wait for ever, a device may have no end.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "is a folder, but must be a file"
        if not stat.S_ISREG(mode):
            return "is no regular file"
        with path.open("rb"):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def remove_unfinished(folder: Path) -> None:
    """Removes what killed writers have left in a folder."""
    for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself survive a power cut, where the system allows it (Windows does not)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
