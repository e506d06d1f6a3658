"""What users put in place of a part of the kit: named on the command line as ``package.module:callable``."""

import importlib
import os
import shlex
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.system.console import as_typed
from utils.system.users_code import RAISED_BY_USERS_CODE, UsersCodeError, describe


class ExtensionError(UsersCodeError):
    """What a user put in place cannot be used; the message is one sentence."""


@contextmanager
def extension_errors(what: str) -> Iterator[None]:
    """Turns what a user's code raises into a sentence that says ``what`` has failed, and why.

    Raises:
        ExtensionError: it has raised something.
    """
    try:
        yield
    except ExtensionError:
        raise
    except RAISED_BY_USERS_CODE as error:  # whatever a user's code raises
        raise ExtensionError(f"{what} ({describe(error)}).") from error


def find_callable(name: str, what: str, on_board: Mapping[str, Any]) -> Callable[..., Any]:
    """What the kit has on board under a name, or else a user's ``package.module:callable``.

    Modules are looked for in the working folder too, as ``python -m`` does.

    Args:
        what: what it is, for the sentence that refuses it, such as "mapping".
        on_board: by name, what users need not write.

    Raises:
        ExtensionError: there is nothing of that name, importing it fails, or it cannot be called.
    """
    if name in on_board:
        return on_board[name]
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        names = f"one of {', '.join(on_board)}, or " if on_board else ""
        raise ExtensionError(f"there is no {what} {name!r}: give {names}package.module:callable.")
    if not all(part.isidentifier() for part in module_name.split(".")) or module_name.endswith(".py"):  # a path
        such_as = f"such as folder.file:{attribute} for folder/file.py"
        raise ExtensionError(f"the {what} {name!r} cannot be imported: give package.module:callable, {such_as}.")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except RAISED_BY_USERS_CODE as error:  # a module may raise anything while it is imported
        where = f"looked for in the kit, in {os.getcwd()} and in PYTHONPATH"
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == module_name.split(".")[0]
        why = f"{describe(error)}; {where}" if is_missing else describe(error)
        raise ExtensionError(f"the {what} {name!r} cannot be imported ({why}).") from error
    if not callable(found):
        raise ExtensionError(f"the {what} {name!r} is a {type(found).__name__}, but must be a callable.")
    return found


def whole_numbers(given: npt.ArrayLike, n_trains: int, n_choices: int, who: str) -> npt.NDArray[np.int64]:
    """What a user's code chose for each train, int64 ``[n_trains]``, from 0 to ``n_choices - 1``.

    Args:
        who: gave it, for the sentence that refuses it.

    Raises:
        ExtensionError: it is something else.
    """
    wanted = f"but must give a whole number from 0 to {n_choices - 1} for each of {n_trains} trains."
    try:
        numbers = np.asarray(given)
    except ValueError:  # ragged
        raise ExtensionError(f"{who} gave {short(given)}, {wanted}") from None
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ExtensionError(f"{who} gave {short(given)}, {wanted}")
    if len(numbers) != n_trains:
        raise ExtensionError(f"{who} gave {len(numbers)} numbers, {wanted}")
    wrong = numbers[(numbers < 0) | (numbers >= n_choices)]
    if len(wrong):
        raise ExtensionError(f"{who} gave {wrong[0]}, {wanted}")
    return numbers.astype(np.int64)


def short(value: object) -> str:
    """A value in a sentence."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_named_by_user(
    stored: Mapping[str, str], given: Container[str], variables: Mapping[str, str] | None = None
) -> None:
    """Refuses code, or a file that runs code when it is read, that a checkpoint names and the user does not.

    A checkpoint may come from anyone, and must not choose what runs on the machine of who plays or resumes it.

    Args:
        stored: what the checkpoint names, by option of the command line.
        variables: by option the environment variables that stand for them where there is no command line.

    Raises:
        ExtensionError: some are not among them; the sentence says what to add, all at once.
    """
    missing = {option: name for option, name in stored.items() if option not in given}
    if not missing:
        return
    names = ", ".join(f"--{option} {name!r}" for option, name in missing.items())
    if variables is None:
        who, do = "the command line", "add"
        parts = [as_typed([f"--{option}", name]) for option, name in missing.items()]
    else:
        who, do = "the environment", "set"
        parts = [f"{variables[option]}={shlex.quote(name)}" for option, name in missing.items()]
    raise ExtensionError(
        f"the checkpoint names {names}, which can run code and is not used unless {who} names it, too: if you trust "
        f"it, {do} {' '.join(parts)}."
    )
