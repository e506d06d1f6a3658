"""What runs inside the process of a trial: the training's own command line, which ends when the search is no more.

python reinforcement_learning/search/trial_main.py OPTIONS, with a pipe as standard input that nobody writes to
"""

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

_TRAINING = Path(__file__).resolve().parent.parent / "multi_agent_training.py"
_PATIENCE = 60  # seconds for a checkpoint


def _end_with_parent() -> None:
    """Waits until the pipe comes to an end, which the kernel sees to whatever ends the search."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)  # the training saves a checkpoint
    time.sleep(_PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # this folder's modules are none of the training's business
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]
    runpy.run_path(str(_TRAINING), run_name="__main__")
