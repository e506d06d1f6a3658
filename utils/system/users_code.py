"""What is said where code of the user's own does not do what it should."""

import sysconfig
import traceback
from pathlib import Path

from utils.system.files import PROJECT_ROOT


class UsersCodeError(ValueError):
    """Code of the user's own fails, or gives something that cannot be used; the message is one sentence.

    Attributes:
        saved: whether a checkpoint was saved then.
    """

    saved = False


_NOT_USERS = (
    "<",
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
    str(PROJECT_ROOT / "reinforcement_learning"),
    str(PROJECT_ROOT / "utils"),
)
"""What the names of files begin with that are not a user's."""


RAISED_BY_USERS_CODE = (Exception, SystemExit)
"""What calls of a user's code are guarded against: ``sys.exit`` must not end a training without a word."""
_MOST_SAID = 400  # characters: a message may hold a whole array


def describe(error: BaseException) -> str:
    """What went wrong in a user's code, and in which line of it, for a sentence in brackets."""
    said = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    said = said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]}..."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_USERS)]
    return f"{said}; {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else said
