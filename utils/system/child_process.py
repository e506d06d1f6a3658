"""Child processes that answer messages, as their parent sees them. What runs inside them begins in ``child_main``.

They are started as a fresh Python rather than by ``multiprocessing``: a fork would copy a process with PyTorch's and
numba's threads in whatever state they are, and multiprocessing's other ways import the training's main module again,
and with it PyTorch, and keep helper processes and semaphores of their own. Here are two pipes and nothing else.
"""

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import IO

from utils.system.files import PROJECT_ROOT

_LENGTH = struct.Struct("<Q")  # of the message that follows, in bytes

# Ctrl-C reaches a child only if it is sent to it: it has a session of its own. Even then the parent decides.
BOOTSTRAP = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path.insert(0, sys.argv[1])
from {module} import main
main()
"""
_PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when its parent ends
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class ChildProcess:
    """A process that runs ``main`` of a module, with a pipe for messages in either direction.

    It ends with this process, whatever ends that: its pipe comes to an end, and on Linux the kernel kills it too.

    Args:
        module: its ``main`` is expected to call ``child_main.serve``.
        received: is called with each message that comes, and with None when the process is no more, by a thread that
            does nothing else.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, module: str, received: Callable[[bytes | None], None]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", BOOTSTRAP.format(module=module), str(PROJECT_ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to_child: IO[bytes] = self._process.stdin
        self._reading = threading.Thread(target=_pass_on, args=(self._process.stdout, received), daemon=True)
        self._reading.start()

    def send(self, message: bytes) -> None:
        """Sends a message; the child reads at all times, so this hardly waits."""
        # Where the process is no more, the reading thread notices as well, and reports it.
        with contextlib.suppress(OSError):
            write_message(self._to_child, message)

    def end(self, patience: float = 0) -> int:
        """Ends the process, whatever it is doing: it has nothing to lose.

        Args:
            patience: seconds in which it may end by itself, for the sake of its exit code.

        Returns:
            The exit code, negative for a signal.
        """
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            self._to_child.close()
        self._reading.join()
        return self._process.returncode


def end_with_parent(number: int | None = None) -> Callable[[], object] | None:
    """What a process calls to get a signal when the one that started it ends, even by kill -9; None: the system can't.

    It is meant for the ``preexec_fn`` of ``subprocess.Popen``. Without a ``number`` the signal is SIGKILL.
    """
    if sys.platform == "linux":
        # looked up by the one that starts it: after a fork little is allowed
        return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL if number is None else number)
    return None


def read_message(reader: IO[bytes]) -> bytes | None:
    """The next message; None where the other side has hung up."""
    length = reader.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(length)
    message = reader.read(size)
    return message if len(message) == size else None


def write_message(writer: IO[bytes], message: bytes) -> None:
    """Sends a message to the other side."""
    writer.write(_LENGTH.pack(len(message)))
    writer.write(message)
    writer.flush()


def _pass_on(reader: IO[bytes], received: Callable[[bytes | None], None]) -> None:
    with reader:
        while (message := read_message(reader)) is not None:
            received(message)
    received(None)
