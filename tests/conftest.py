"""Settings of all tests."""

import os
import signal

# Before PyTorch is imported, here and in subprocesses: on a busy machine several threads slow small networks down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Under nohup SIGHUP is ignored, also by processes that are started from here.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
