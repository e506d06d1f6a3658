"""What runs inside a level process: it reads numbers of levels and writes the levels. See ``level_process``.

What takes seconds to import is imported late: until then the process already ends with its parent.
"""

import ctypes
import gc
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import warnings
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from utils.level_pool import TrainingLevels
    from utils.level_process import Kind

_PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when its parent ends


def main() -> None:
    """Serves the parent until it hangs up; never returns."""
    code = 1
    try:
        _die_with_parent()
        requests, answers = _take_over_pipes()
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_read_requests, args=(requests, lines), daemon=True).start()
        _serve(lines, answers)
    except BrokenPipeError:
        code = 0  # the parent is gone
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # does not wait for the thread that reads


def _die_with_parent() -> None:
    """Where the system can do it; elsewhere, and if it comes too late, the end of the pipe does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _take_over_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes for requests and answers. What anything prints goes to the standard error instead."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _read_requests(requests: IO[bytes], messages: "queue.SimpleQueue[bytes]") -> None:
    """Passes on what the parent sends; ends the process, even in the middle of a level, when the parent is gone."""
    from utils.level_process import REQUEST

    (size,) = REQUEST.unpack(requests.read(REQUEST.size))
    message = requests.read(size)
    while message:
        messages.put(message)
        message = requests.read(REQUEST.size)
    os._exit(0)


def _serve(messages: "queue.SimpleQueue[bytes]", answers: IO[bytes]) -> None:
    from utils.env_configs import ENV_CONFIGS
    from utils.level_pool import TrainingLevels
    from utils.level_process import ANSWER, REQUEST, Kind

    def send(kind: Kind, number: int, content: bytes) -> None:
        answers.write(ANSWER.pack(kind, number, len(content)) + content)
        answers.flush()

    warnings.simplefilter("ignore")  # the parent warns of everything itself
    _make(TrainingLevels(ENV_CONFIGS["Tiny"], 0), 0)  # compiles what is to be compiled
    levels = TrainingLevels(*pickle.loads(messages.get()))
    gc.collect()
    gc.freeze()  # what is there now stays for good and need not be searched again and again
    send(Kind.READY, -1, b"")
    while True:
        (number,) = REQUEST.unpack(messages.get())
        kind, content = _make(levels, number)
        send(kind, number, content)


def _make(levels: "TrainingLevels", number: int) -> tuple["Kind", bytes]:
    """A level, or why there is none."""
    from utils.level_process import Kind
    from utils.packed_level import pack_level
    from utils.rail_simulator import CompiledSimulator, UnsupportedLevel

    try:
        return Kind.LEVEL, pack_level(CompiledSimulator.from_env(levels.make(number)))
    except UnsupportedLevel as error:
        return Kind.UNSUPPORTED, str(error).encode()
    except Exception as error:  # the parent makes the level itself and meets the same
        return Kind.FAILED, f"{type(error).__name__}: {error}".encode()
