"""Signals ask for a stop; a second SIGINT does not wait."""

import os
import shlex
import signal
import subprocess
import sys
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
