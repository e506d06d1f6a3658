"""Signals ask for a stop; a second SIGINT does not wait."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from utils.system.files import PROJECT_ROOT
from utils.system.interrupts import Interrupts

PROJECT = str(PROJECT_ROOT)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_noted_and_said(number: int, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    with Interrupts() as interrupts:
        assert (interrupts.received, interrupts.exit_code) == (None, 0)
        os.kill(os.getpid(), number)
        assert (interrupts.received, interrupts.exit_code) == (number, code)
    said = capfd.readouterr().err
    assert signal.Signals(number).name in said
    assert "checkpoint" in said


def test_handlers_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in numbers] == before


def test_started_by_nohup_a_closed_terminal_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupts.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("closed", ["gone", "never there"])
def test_what_cannot_be_said_breaks_nothing(tmp_path: Path, closed: str) -> None:
    """Without standard error the next file that is opened has its number, and must not get the words."""
    script = (
        f"import os, sys; sys.path.insert(0, {PROJECT!r})\n"
        "from utils.system.interrupts import Interrupts\n"
        f"file = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY)\n"
        "with Interrupts() as interrupts:\n"
        "    os.kill(os.getpid(), 1)\n"
        "    sys.exit(interrupts.exit_code)\n"
    )
    reading, writing = os.pipe()
    os.close(reading)  # writing then fails, as to a terminal that is gone
    command = f"exec {sys.executable} -c {shlex.quote(script)} {'2>&-' if closed == 'never there' else ''}"
    done = subprocess.run(command, shell=True, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == 128 + signal.SIGHUP
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_where_there_is_nothing_to_save_signals_end_the_process(number: int, error: type[BaseException]) -> None:
    with Interrupts(waits=False) as interrupts:
        with pytest.raises(error) as caught:
            os.kill(os.getpid(), number)
        assert caught.value.args == (() if number == signal.SIGINT else (128 + number,))
        interrupts.wait_from_now_on()
        os.kill(os.getpid(), number)
        assert interrupts.received == number


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGTERM, signal.SIGINT), 130),
        ((signal.SIGTERM, signal.SIGTERM), 0),  # a system that repeats itself gets its checkpoint all the same
    ],
)
def test_second_sigint_leaves_at_once(numbers: tuple[int, ...], code: int) -> None:
    script = (
        f"import os, sys; sys.path.insert(0, {PROJECT!r})\n"
        "from utils.system.interrupts import Interrupts\n"
        "with Interrupts():\n"
        f"    for number in {tuple(map(int, numbers))}: os.kill(os.getpid(), number)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("still here" in done.stdout) == (code == 0)


def test_in_another_thread_a_training_goes_on_without_them() -> None:
    found: list[int | None] = []

    def work() -> None:
        with Interrupts() as interrupts:
            found.append(interrupts.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


def run(script: str) -> subprocess.CompletedProcess[str]:
    start = f"import os, signal, sys; sys.path.insert(0, {PROJECT!r})\n"
    return subprocess.run([sys.executable, "-c", start + script], capture_output=True, text=True, check=False)


def test_ctrl_c_when_all_is_done_is_no_traceback() -> None:
    done = run(
        "import atexit\n"
        "from utils.system.interrupts import exit_code_of\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "sys.exit(exit_code_of(lambda: print('Finished', flush=True) or 0))\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "Finished\n", "")


def test_ctrl_c_in_a_command_is_no_traceback() -> None:
    done = run(
        "from utils.system.interrupts import exit_code_of\n"
        "sys.exit(exit_code_of(lambda: os.kill(os.getpid(), signal.SIGINT)))\n"
    )
    assert (done.returncode, done.stderr) == (130, "")


COMMANDS = ("multi_agent_training", "evaluate_agent", "hyperparameter_search", "export_checkpoint", "grade_locally")


@pytest.mark.parametrize("path", ["run.py", *(f"reinforcement_learning/{name}.py" for name in COMMANDS)])
def test_ctrl_c_while_a_command_is_imported_is_no_traceback(path: str) -> None:
    done = run(
        "import runpy\n"
        "class AtTheFirstPackage:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('numpy', 'torch', 'optuna', 'numba', 'reinforcement_learning'):\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, AtTheFirstPackage())\n"
        f"runpy.run_path(os.path.join(sys.path[0], {path!r}), run_name='__main__')\n"
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
