"""What a row of the table of options holds, and which values it accepts; the table itself is ``config``."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Accepts:
    """What a value must be, in words and as a test."""

    words: str
    test: Callable[[Any], bool]


def at_least(low: int) -> Accepts:
    """A whole number from ``low`` on."""
    return Accepts(f"a whole number of at least {low}", lambda value: value >= low)


def whole(low: int, high: int) -> Accepts:
    """A whole number from ``low`` to ``high``."""
    return Accepts(f"a whole number from {low} to {high}", lambda value: low <= value <= high)


def between(low: float, high: float) -> Accepts:
    """A number from ``low`` to ``high``."""
    return Accepts(f"a number from {low:g} to {high:g}", lambda value: low <= value <= high)


def above(low: float, high: float = math.inf) -> Accepts:
    """A finite number above ``low``, and at most ``high``."""
    words = f"a finite number above {low:g}" if math.isinf(high) else f"a number above {low:g}, at most {high:g}"
    return Accepts(words, lambda value: math.isfinite(value) and low < value <= high)


def not_negative() -> Accepts:
    """A finite number from 0 on."""
    return Accepts("a finite number of at least 0", lambda value: math.isfinite(value) and value >= 0)


def one_of(*values: str) -> Accepts:
    """One of a few texts."""
    return Accepts("one of " + ", ".join(values), lambda value: value in values)


# without words: what can be read at all is accepted
ANY = Accepts("", lambda value: True)
FOLDER = Accepts("a path", bool)  # "" would be the working directory


def has_colon(value: Any) -> bool:
    """Whether it is ``package.module:callable``, or the ``host:port`` of machines that could send any code."""
    return ":" in str(value)


def option(
    group: str,
    default: T,
    help_text: str,
    accepts: Accepts = ANY,
    *,
    short: str | None = None,
    also: str | None = None,
    fixed: bool = False,
    repeatable: bool = False,
    runs_code: Callable[[Any], bool] = lambda value: False,
) -> T:
    """A row of the table.

    Args:
        group, default, help_text, accepts, short: what the table shows.
        also: another name that is understood.
        fixed: it cannot be changed when a training is resumed.
        repeatable: it may be given several times; the value is what was given, joined by commas.
        runs_code: whether a value names code, or a file or machine that it may come from; a checkpoint's value is not
            used unless the command line gives it, too.
    """
    metadata = {
        "group": group,
        "help": help_text,
        "accepts": accepts,
        "short": short,
        "also": also,
        "fixed": fixed,
        "repeatable": repeatable,
        "runs_code": runs_code,
    }
    return dataclasses.field(default=default, metadata=metadata)
