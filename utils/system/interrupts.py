"""SIGINT, SIGTERM and SIGHUP ask a training to stop at the next step; a second SIGINT ends the process at once.

SIGHUP says that the terminal was closed. Whoever wants a training to outlive that starts it with nohup, which has
SIGHUP ignored; it stays so.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupts:
    """A context manager; :attr:`received` is the number of the signal that came, or None.

    Outside the main thread, where Python handles no signals, it stays None.

    Args:
        waits: whether signals wait for the next step. Where not, they end the process by an exception, in the middle
            of whatever it does, until :meth:`wait_from_now_on`.
    """

    def __init__(self, waits: bool = True) -> None:
        self.received: int | None = None
        self._waits = waits
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        in_main_thread = threading.current_thread() is threading.main_thread()
        for name in ("SIGINT", "SIGTERM", "SIGHUP") if in_main_thread else ():  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def wait_from_now_on(self) -> None:
        """From now on there is something to save."""
        self._waits = True

    @property
    def exit_code(self) -> int:
        """What shells expect of a process that a signal has ended: 128 + number; 0 without one."""
        return 128 + self.received if self.received is not None else 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._waits:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            sys.exit(128 + number)
        if self.received is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = number
        # os.write is safe in a signal handler, print is not
        name = signal.Signals(number).name
        text = f"\n{name}: finishing the step and saving a checkpoint; press Ctrl-C again to leave at once.\n"
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            if sys.__stderr__ is not None:  # else its number is that of another file
                os.write(sys.__stderr__.fileno(), text.encode())


def exit_code_of(main: Callable[[], int]) -> int:
    """What a command's ``main`` returns, for ``sys.exit``.

    In ``main`` Ctrl-C is a KeyboardInterrupt. Once that has returned all is done, and Ctrl-C just ends the process:
    what Python does at its exit may take seconds, and a KeyboardInterrupt there is a traceback.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
