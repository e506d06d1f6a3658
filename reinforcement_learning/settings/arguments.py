"""How all commands read their arguments: one sentence and exit code 2 for what cannot be used."""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

MOST = 2**63 - 1  # of what arrays can count


class SentenceParser(argparse.ArgumentParser):
    """Ends with one sentence and exit code 2, without the page of usage that argparse prints before it."""

    def __init__(self, **settings: Any) -> None:
        # with abbreviations, an option that a later version adds would change what a command means
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuses ``--option=--``, of which Python before 3.13 makes a value of another type.

        In ``--option=~/folder`` the ``~`` is the home folder, of which shells know only at the beginning of a word.
        """
        given = [_with_home(text) for text in (sys.argv[1:] if args is None else args)]
        for text in itertools.takewhile(lambda text: text != "--", given):
            name, _, value = text.partition("=")
            if name.startswith("-") and "--" in (value, name[2:]):
                self.error(f"argument {name.removesuffix('--')}: '--' is no value")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints the sentence and exits with 2."""
        self.exit(2, f"{self.prog}: error: {message.rstrip('.')}. (--help lists all options)\n")


def _with_home(text: str) -> str:
    name, equals, value = text.partition("=")
    return f"{name}={os.path.expanduser(value)}" if equals and name.startswith("-") else os.path.expanduser(text)


def whole_number(text: str) -> int:
    """Takes 2500 and also 1e5, as a sweep or a person may write it."""
    number: int | None = None
    try:
        number = int(text)
    except ValueError:
        with contextlib.suppress(ValueError, OverflowError):
            number = int(float(text)) if float(text) == int(float(text)) else None
    shown = repr(text if len(text) <= 40 else f"{text[:40]}...")
    if number is None:
        raise argparse.ArgumentTypeError(f"{shown} is not a whole number")
    if abs(number) > MOST:
        raise argparse.ArgumentTypeError(f"{shown} is beyond {MOST}")
    return number


def at_least(low: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number from ``low`` on."""

    def whole_number_at_least(text: str) -> int:
        number = whole_number(text)
        if number < low:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {low}")
        return number

    return whole_number_at_least
