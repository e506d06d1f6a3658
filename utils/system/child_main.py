"""What runs inside a child process before and below its work. See ``child_process``.

What takes seconds to import is imported by the work itself: until then the process already ends with its parent.
"""

import os
import queue
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import IO, NoReturn

from utils.system.child_process import end_with_parent, read_message, write_message

Messages = queue.SimpleQueue[bytes]


def serve(work: Callable[[Messages, Callable[[bytes], None]], None]) -> NoReturn:
    """Does the work until the parent hangs up, then ends the process.

    Args:
        work: gets the queue that the parent's messages come in by, and a function that sends the parent one.
    """
    code = 1
    try:
        # elsewhere than on Linux, and if it comes too late, the end of the pipe does it
        if (end_with_parent_from_now_on := end_with_parent()) is not None:
            end_with_parent_from_now_on()
        from_parent, to_parent = _take_over_pipes()
        messages: Messages = queue.SimpleQueue()
        threading.Thread(target=_read_messages, args=(from_parent, messages), daemon=True).start()
        work(messages, partial(write_message, to_parent))
    except BrokenPipeError:
        code = 0  # the parent is gone
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # does not wait for the thread that reads


def _take_over_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes from and to the parent. What anything prints goes to the standard error instead."""
    from_parent, to_parent = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return from_parent, to_parent


def _read_messages(from_parent: IO[bytes], messages: Messages) -> None:
    """Passes on what the parent sends; ends the process, even in the middle of its work, when the parent is gone."""
    while (message := read_message(from_parent)) is not None:
        messages.put(message)
    os._exit(0)
