"""Helpers of the tests: the processes that a training has started, and a pool whose processes are ready."""

import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import psutil

from utils.levels.level_pool import SECONDS_FOR_A_LEVEL, LevelPool

LEVEL_WORKER = "utils.levels.level_worker"
ROLLOUT_WORKER = "reinforcement_learning.workers.worker_main"
LEARNER_PROCESS = "reinforcement_learning.workers.learner_main"


def pids_of(kind: str, parent: int | None = None) -> list[int]:
    """Running processes below ``parent``, else below this one, with ``kind`` in their command line; oldest first."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if any(kind in part for part in process.cmdline()):
                found.append((process.create_time(), process.pid))
    return [pid for _, pid in sorted(found)]


@contextlib.contextmanager
def nothing_is_left() -> Iterator[None]:
    """Processes, threads and open files that the block begins end with it; what was there before may go or stay."""
    before = _processes_threads_and_files()
    yield
    gc.collect()
    assert _processes_threads_and_files() - before == set()


def _processes_threads_and_files() -> set[Any]:
    files = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            files.add((descriptor, os.readlink(f"/proc/self/fd/{descriptor}")))
    return {*psutil.Process().children(recursive=True), *threading.enumerate(), *files}


def wait_until_ready(pool: LevelPool) -> None:
    """Waits until every process that was started can be asked for levels, or has ended."""
    while any(not process.is_ready for process in pool._workers._processes):
        answer = pool._workers.next_answer(SECONDS_FOR_A_LEVEL)
        assert answer is not None
        pool._take(answer)


def levels_ahead(pool: LevelPool) -> set[int]:
    """The numbers of the levels that are ready or being made."""
    return {number for number, _ in pool._ready.keys() | pool._workers.in_the_making()}
