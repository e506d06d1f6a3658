"""The pool that has levels made ahead, by processes of its own: the same levels, and nothing left behind."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv

from tests.helpers.processes import LEVEL_WORKER, levels_ahead, nothing_is_left, pids_of, wait_until_ready
from tests.helpers.rail_envs import sparse_env
from tests.helpers.simulator_equality import assert_same_in_play
from utils.levels import level_pool
from utils.levels.env_configs import ENV_CONFIGS, Environment
from utils.levels.level_pool import LEVELS_AHEAD, MAX_ENDED_WORKERS, LevelPool
from utils.levels.level_streams import TrainingLevels
from utils.levels.saved_levels import SavedEnv
from utils.observation.kept_plans import QUICK, PlanAhead
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.unsupported_level import UnsupportedLevel
from utils.system import child_process
from utils.system.files import PROJECT_ROOT

TINY = ENV_CONFIGS["Tiny"]
TEST_0 = ENV_CONFIGS["Test_0"]


class Pool:
    """A pool whose warnings are kept and whose levels can be compared with those made the plain way."""

    def __init__(self, config: Environment, seed: int = 3, n_workers: int = 1, **options: Any) -> None:
        self.warnings: list[str] = []
        self.pool = LevelPool(config, seed, n_workers, warn=self.warnings.append, **options)
        self.made_here: list[int] = []
        make = self.pool.levels.make

        def noted(k: int) -> RailEnv:
            self.made_here.append(k)
            return make(k)

        self.pool.levels.make = noted

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def start(self, k: int = 0) -> None:
        """Asks for a level, so that the processes start, and waits for them."""
        self.check(k)
        wait_until_ready(self.pool)

    def check(self, *numbers: int) -> None:
        """Asks for levels and plays each beside the one that is made the plain way."""
        for k in numbers:
            plain = CompiledSimulator.from_env(TrainingLevels(self.pool.levels.config, self.pool.levels.seed).make(k))
            assert_same_in_play(self.pool.simulator(k), plain, k)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for its exit code does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        assert time.monotonic() < end, f"still there after {seconds} seconds"
        time.sleep(0.02)


@contextlib.contextmanager
def parent_of_two(name: str, moment: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Another process that has two make levels ahead, and their ids; it hangs up when its standard input ends."""
    script = """
import contextlib, fcntl, os, sys, time
from utils.levels.env_configs import ENV_CONFIGS
from tests.helpers.processes import wait_until_ready
from utils.levels.level_pool import LevelPool

name, moment = sys.argv[1:]
pool = LevelPool(ENV_CONFIGS[name], 0, 2, warn=print)
pool.expect(range(40))
if moment != "starting":
    wait_until_ready(pool)
    pool.expect(range(40))
print(flush=True)
sys.stdin.read()
for fd in range(3, 200):  # what only the processes can hear
    with contextlib.suppress(OSError):
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            os.close(fd)
time.sleep(60)
"""
    command = [sys.executable, "-c", script, name, moment]
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        pids = pids_of(LEVEL_WORKER, parent.pid)
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        try:
            yield parent, pids
        finally:
            parent.kill()


class TestLevelPool:
    def test_without_workers_levels_are_made_here(self) -> None:
        with Pool(TEST_0, n_workers=0) as pool:
            pool.check(4, 5, 2)
            assert pool.made_here == [4, 5, 2]
            assert pids_of(LEVEL_WORKER) == []

    @pytest.mark.parametrize(("name", "n_workers"), [("Tiny", 2), ("Test_1", 1), ("Benchmarks_Test_00", 1)])
    def test_levels_are_those_of_the_plain_way(self, name: str, n_workers: int) -> None:
        with Pool(ENV_CONFIGS[name], n_workers=n_workers) as pool:
            pool.start(5)  # as after a resume
            pool.check(*range(6, 12))
            # The first before a process was ready, the second before it was asked for.
            assert set(pool.made_here) <= {5, 6}
            assert len(pids_of(LEVEL_WORKER)) == n_workers
            assert pool.warnings == []

    def test_first_levels_do_not_wait_for_the_processes(self) -> None:
        with Pool(TINY) as pool:
            pool.check(0, 1)
            assert pool.made_here == [0, 1]
            assert len(pids_of(LEVEL_WORKER)) == 1

    def test_any_order(self) -> None:
        with Pool(TINY) as pool:
            pool.start()
            pool.check(3, 1, 2, 40, 41, 0, 1, 200, 201, 202)
            # what was made for the order before is gone: 201 was asked for after all of it
            assert levels_ahead(pool.pool) == set(range(203, 203 + LEVELS_AHEAD))

    def test_queue_is_bounded_and_ends_with_the_training(self) -> None:
        with Pool(TINY, n_ahead=5, end=9) as pool:
            pool.start()
            for k in range(1, 9):
                pool.check(k)
                assert levels_ahead(pool.pool) == set(range(k + 1, min(k + 6, 9)))

    def test_those_that_are_expected_are_made_ahead_and_no_others(self) -> None:
        with Pool(TINY) as pool:
            pool.start()
            pool.pool.expect([30, 4, 17])
            pool.check(30, 4)
            assert levels_ahead(pool.pool) == {17}
            pool.pool.expect([17, 20])
            pool.check(17, 20)
            assert pool.made_here == [0]
            assert not levels_ahead(pool.pool)

    def test_levels_are_planned_where_they_are_made(self) -> None:
        plan = PlanAhead(QUICK)
        with Pool(TEST_0, plan=plan) as pool:
            pool.start()
            pool.check(1)
            for k in (2, 3):
                state = CompiledSimulator.from_env(TrainingLevels(TEST_0, 3).make(k)).state
                plan(state)
                assert pool.pool.simulator(k).state.plan_ahead == state.plan_ahead != b""
            assert not {2, 3} & set(pool.made_here)

    def test_saved_environment_with_stops(self, tmp_path: Path) -> None:
        RailEnvPersister.save(sparse_env(0, n_agents=4, line_length=3), tmp_path / "level.pkl")
        with Pool(SavedEnv(tmp_path / "level.pkl")) as pool:
            pool.start()
            pool.check(1, 2, 3)
            assert 3 not in pool.made_here

    def test_level_that_a_process_finds_unsupported_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        patch = """
import utils.simulator.compiled_simulator as simulator
def refuse(env):
    raise simulator.UnsupportedLevel("this train flies")
simulator.CompiledSimulator.from_env = refuse
main()
"""
        monkeypatch.setattr(child_process, "BOOTSTRAP", child_process.BOOTSTRAP.replace("main()\n", patch))
        with Pool(TINY) as pool:
            pool.start()
            pool.check(1)  # asked for together with what lies ahead, so made here
            for k in (2, 3):
                with pytest.raises(UnsupportedLevel, match="this train flies"):
                    pool.pool.simulator(k)
            assert pool.made_here == [0, 1]

    def test_level_that_cannot_be_made_raises_what_the_plain_way_raises(self) -> None:
        with Pool(dataclasses.replace(TINY, width=8, height=8)) as pool:
            for k in range(3):
                with pytest.raises(ValueError, match="Cannot fit more than one city"):
                    pool.pool.simulator(k)
                wait_until_ready(pool.pool)
            assert len(pool.warnings) == 1
            assert "Cannot fit more than one city" in pool.warnings[0]


class TestProcesses:
    def test_are_light_and_alone(self) -> None:
        with Pool(TINY) as pool:
            pool.start()
            (pid,) = pids_of(LEVEL_WORKER)
            process = psutil.Process(pid)
            assert not any("torch" in Path(region.path).name for region in process.memory_maps())
            assert process.environ()["OMP_NUM_THREADS"] == "1"
            assert process.num_threads() <= 2  # one makes levels, one waits for requests
            assert process.children() == []

    def test_end_with_the_pool_and_leave_nothing(self) -> None:
        with nothing_is_left():
            pool = Pool(TINY, n_workers=2)
            for _ in range(2):  # a closed pool can be used again
                with pool:
                    pool.start()
                    pool.check(1, 2)
                pool.check()
            with pool:
                pool.check(3)  # closed while they start

    def test_killed_one_is_replaced(self) -> None:
        with Pool(TINY, n_ahead=3) as pool:
            pool.start()
            pool.check(1, 2)
            (pid,) = pids_of(LEVEL_WORKER)
            os.kill(pid, signal.SIGKILL)
            wait_until_gone([pid])
            pool.check(*range(3, 8))
            wait_until_ready(pool.pool)
            pool.check(*range(8, 12))
            assert 11 not in pool.made_here
            assert len(pids_of(LEVEL_WORKER)) == 1
            assert pids_of(LEVEL_WORKER) != [pid]
            (said,) = pool.warnings
            assert "exit code -9; another takes its place" in said

    def test_those_that_end_again_and_again_are_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child_process, "BOOTSTRAP", "import sys; sys.exit(7)")
        with Pool(TINY) as pool:
            pool.check(0)
            wait_until_ready(pool.pool)
            pool.check(1, 2)
            assert pool.made_here == [0, 1, 2]
            assert len(pool.warnings) == MAX_ENDED_WORKERS
            assert "exit code 7): levels are made in the training process now" in pool.warnings[-1]
            assert pids_of("sys.exit(7)") == []

    def test_one_that_does_not_answer_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(level_pool, "SECONDS_FOR_A_LEVEL", 0.2)
        with Pool(TINY, n_ahead=1) as pool:
            pool.check(0)
            wait_until_ready(pool.pool)
            (pid,) = pids_of(LEVEL_WORKER)
            os.kill(pid, signal.SIGSTOP)
            pool.check(1, 2)
            assert "do not answer" in pool.warnings[0]
            assert not is_alive(pid)

    def test_python_that_cannot_be_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with Pool(TINY) as pool:
            pool.check(0, 1)
            assert "cannot be started" in pool.warnings[0]
            assert len(pool.warnings) == 1

    def test_interrupts_are_left_to_the_parent(self) -> None:
        with Pool(TINY, n_ahead=2) as pool:
            pool.start()
            (pid,) = pids_of(LEVEL_WORKER)
            assert os.getsid(pid) != os.getsid(0)  # Ctrl-C in a terminal does not reach it
            os.kill(pid, signal.SIGINT)
            pool.check(*range(1, 6))
            assert pids_of(LEVEL_WORKER) == [pid]
            assert 5 not in pool.made_here

    @pytest.mark.parametrize("moment", ["starting", "ready"])
    def test_end_when_the_parent_is_killed(self, moment: str) -> None:
        with parent_of_two("Tiny", moment) as (parent, pids):
            parent.kill()
            parent.wait()
            wait_until_gone(pids)

    def test_end_of_the_pipe_ends_those_that_are_busy(self) -> None:
        """Where the kernel does not do it: the parent hangs up and lives on."""
        with parent_of_two("Benchmarks_Test_08", "busy") as (parent, pids):
            assert parent.stdin is not None
            parent.stdin.close()
            wait_until_gone(pids)
            assert parent.poll() is None

    def test_memory_of_both_sides_stays_flat(self) -> None:
        with Pool(TEST_0) as pool:
            pool.start()
            sizes = []
            for k in range(1, 301):
                pool.pool.simulator(k)
                if k in (100, 300):
                    both = (psutil.Process(), psutil.Process(pids_of(LEVEL_WORKER)[0]))
                    sizes.append([process.memory_info().rss for process in both])
        growth = np.subtract(sizes[1], sizes[0])
        assert (growth < 20e6).all()  # flatland alone would grow by about 200 MB
