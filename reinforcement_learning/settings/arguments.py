"""How all commands read their arguments: one sentence and exit code 2 for what cannot be used."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn


class SentenceParser(argparse.ArgumentParser):
    """Ends with one sentence and exit code 2, without the page of usage that argparse prints before it."""

    def __init__(self, **settings: Any) -> None:
        # with abbreviations, an option that a later version adds would change what a command means
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Prints the sentence and exits with 2."""
        self.exit(2, f"{self.prog}: error: {message.rstrip('.')}. (--help lists all options)\n")


def whole_number(text: str) -> int:
    """Takes 2500 and also 1e5, as a sweep or a person may write it."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")


def at_least(low: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number from ``low`` on."""

    def whole_number_at_least(text: str) -> int:
        number = whole_number(text)
        if number < low:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {low}")
        return number

    return whole_number_at_least
