"""Standard output and standard error, which may be closed, full, or unable to show some letters."""

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TextIO


def prepare_console() -> None:
    """For the start of a command: nothing that is printed later can break its work.

    What the encoding of standard output does not have is shown as question marks. Standard streams that are closed
    lead nowhere: else the next file that is opened would get their number, and what is printed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str) -> bool:
    """Prints a line to standard output; False where nobody can read it any more."""
    return _write(text, sys.stdout, "\n")


def complain(text: str, end: str = "\n") -> bool:
    """Prints a line to standard error; False where nobody can read it any more."""
    return _write(text, sys.stderr, end)


def as_typed(words: Sequence[str]) -> str:
    """A command, or a part of one, as the shell of this system takes it: words with blanks in them are quoted."""
    if sys.platform == "win32":
        from subprocess import list2cmdline  # cmd.exe knows no single quotes

        return list2cmdline(words)
    return shlex.join(words)


def give_up_on(stream: TextIO) -> None:
    """Whatever is still written to a stream that has failed goes nowhere: not even the end of Python complains."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _write(text: str, stream: TextIO | None, end: str) -> bool:
    if stream is None or stream.closed:  # it was closed before Python began, or since
        return False
    try:
        print(text, file=stream, end=end, flush=True)
    except OSError:
        give_up_on(stream)
        return False
    return True
