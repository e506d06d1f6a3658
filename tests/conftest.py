"""Settings of all tests."""

import os

# Before PyTorch is imported, here and in subprocesses: on a busy machine several threads slow small networks down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
