"""Printing where nobody reads, or not every letter can be shown."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system.console import as_typed, complain, prepare_console, say
from utils.system.files import PROJECT_ROOT

BEGIN = f"""
import os, sys; sys.path.insert(0, {str(PROJECT_ROOT)!r})
from utils.system.console import prepare_console, say
prepare_console()
"""


def python(script: str, streams: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs a script whose standard streams are as the shell is told."""
    command = f'exec {sys.executable} -c "$SCRIPT" {streams}'
    environment = os.environ | {"SCRIPT": BEGIN + script} | changes
    return subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)


def test_lines_go_to_their_streams(capsys: pytest.CaptureFixture[str]) -> None:
    assert say("hello ±")
    assert complain("oh", end="")
    assert capsys.readouterr() == ("hello ±\n", "oh")


def test_letters_that_the_encoding_does_not_have_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    prepare_console()
    assert say("1 ± 0")
    assert content.getvalue() == b"1 ? 0\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_told_once_and_costs_nothing_more() -> None:
    done = python("sys.exit([say('a'), say('b'), print('c')] == [False, True, None])", "> /dev/full")
    assert (done.returncode, done.stderr) == (1, "")  # 120 is Python's own for output that is lost


def test_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    script = "sys.exit(3 if not say('a') else 4)"
    command = [sys.executable, "-c", BEGIN + script]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (3, "")


def test_closed_streams_give_their_numbers_to_no_file() -> None:
    script = "descriptor = os.open(os.devnull, os.O_RDONLY); say('a'); sys.exit(3 if descriptor > 2 else 4)"
    assert python(script, "<&- >&- 2>&-").returncode == 3


@pytest.mark.parametrize(
    ("system", "typed"), [("linux", r"python 'my kit/a.py' 'C:\kit'"), ("win32", r'python "my kit/a.py" C:\kit')]
)
def test_commands_can_be_typed_as_they_are_shown(system: str, typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert as_typed(["python", "my kit/a.py", r"C:\kit"]) == typed
