"""Signals ask for a stop; a second SIGINT does not wait."""

import os
import signal
import subprocess
import sys

import pytest

from utils.system.files import PROJECT_ROOT
from utils.system.interrupts import Interrupts

PROJECT = str(PROJECT_ROOT)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_and_said(number: int, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    with Interrupts() as interrupts:
        assert (interrupts.received, interrupts.exit_code) == (None, 0)
        os.kill(os.getpid(), number)
        assert (interrupts.received, interrupts.exit_code) == (number, code)
    said = capfd.readouterr().err
    assert signal.Signals(number).name in said
    assert "checkpoint" in said


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


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
