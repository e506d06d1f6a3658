"""Helpers of the tests: flatland-rl's own evaluator and run.py as processes, over a real Redis."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reinforcement_learning.grading.flatland_commands import tool
from utils.system.files import PROJECT_ROOT

RUN = str(PROJECT_ROOT / "run.py")
TIMEOUT = 120  # seconds

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="there is no redis-server (Debian: apt-get install redis-server)"
)


class Grading:
    """One evaluation, apart from all others on the same Redis.

    Args:
        tests: folder of environments.
        folder: where processes are started and write to.
        settings: environment variables of the evaluator.
    """

    def __init__(self, tests: Path, folder: Path, **settings: str) -> None:
        self.results = folder / "results.csv"
        self.actions = folder / "actions"
        self._folder = folder
        self._environment = os.environ | {
            "AICROWD_SUBMISSION_ID": uuid.uuid4().hex,
            "AICROWD_TESTS_FOLDER": str(tests),
            "TEST_MIN_PERCENTAGE_COMPLETE_MEAN": "-1",  # a few levels may all go wrong
            "PYTHONUNBUFFERED": "1",
        }
        self._settings = settings
        self._tests = str(tests)

    @contextmanager
    def evaluator(self, *, keep_actions: bool = False) -> Iterator[subprocess.Popen[str]]:
        """``flatland-evaluator``; what it is started by cannot keep actions, the module behind it can."""
        command = [tool("flatland-evaluator"), "--tests", self._tests]
        command += ["--results-path", str(self.results)]
        if keep_actions:
            command = [sys.executable, "-m", "flatland.evaluators.service", "--test-folder", self._tests]
            command += ["--results-dir", str(self.results), "--action-dir", str(self.actions)]
        with (self._folder / "evaluator.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self._folder, env=self._environment | self._settings, stdout=log, stderr=log, text=True
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def submission(self, *command: str, **settings: str) -> subprocess.Popen[str]:
        """``run.py`` with the checkpoint that ships, or another Python command."""
        return subprocess.Popen(
            [sys.executable, *(command or (RUN,))],
            cwd=self._folder,
            env=self._environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
