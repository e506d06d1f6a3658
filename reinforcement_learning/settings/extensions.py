"""What users put in place of a part of the kit: named on the command line as ``package.module:callable``."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


class ExtensionError(ValueError):
    """There is nothing usable under a name; the message is one sentence."""


def find_callable(name: str, what: str, on_board: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """What the kit has on board under a name, or else a user's ``package.module:callable``.

    Modules are looked for in the working folder too, as ``python -m`` does.

    Args:
        name: as the command line gives it.
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
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module may raise anything while it is imported
        raise ExtensionError(f"the {what} {name!r} cannot be imported ({type(error).__name__}: {error}).") from error
    if not callable(found):
        raise ExtensionError(f"the {what} {name!r} is a {type(found).__name__}, but must be a callable.")
    return found


def named_by_user(option: str, stored: str, given: str | None) -> str:
    """What to act on where a checkpoint names code, or a file that runs code when it is read: what the user names.

    A checkpoint may come from anyone, and must not choose what runs on the machine of who plays or resumes it.

    Args:
        option: of the command line, without its dashes.
        stored: what the checkpoint names.
        given: what the command line names; None: nothing.

    Raises:
        ExtensionError: nothing was given.
    """
    if given is None:
        raise ExtensionError(
            f"the checkpoint names --{option} {stored!r}, which can run code and is not used unless the command line "
            f"names it, too: if you trust it, add --{option} {stored}."
        )
    return given
