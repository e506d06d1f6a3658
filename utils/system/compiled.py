"""``@compiled``: numba's ``njit`` with a disk cache that notices every change.

numba keys its cache on the file of the decorated function alone. A function that calls a compiled helper of
another file would go on running the old helper after that file was changed, for example by ``git pull``. Here
the name of the cache folder is a digest of all files in ``utils``, wherever the folder lies.

What Python calls is ``@compiled``; what only compiled functions call is ``@compiled_helper``. numba links every
helper into the functions that call it, and LLVM optimises it in each ``@compiled`` function anew, see ``linked_only``:
large helpers are best called from few of these. Every array of a tuple counts like an argument.

Arrays that belong together are a ``NamedTuple``. Python hands them over as a plain tuple (``Arrays``), of which the
function makes the named one again: numba takes 0.2 us to tell the type of a plain tuple, and 1.5 us for a named one.
Compiled code calls such a function with ``arrays[:]``, which is a plain tuple too.
"""

import hashlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.typing.templates import infer_global
from numba.misc.appdirs import AppDirs
from numpy.typing import NDArray

from utils.system.compiled_files import CompiledFiles
from utils.system.files import PROJECT_ROOT
from utils.system.known_call_types import remember_call_types
from utils.system.linked_only import EntryCompiler, HelperCompiler, HelperType

remember_call_types()

F = TypeVar("F", bound=Callable)

Arrays = tuple[NDArray[Any], ...]
"""The fields of a ``NamedTuple`` of arrays as a plain tuple; ``state_arrays``: those of ``StateArrays``, and so on."""


def digest_of_sources(folder: Path) -> str:
    """Twelve hex digits over all Python files below a folder and numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def cache_folders() -> list[Path]:
    """Where compiled functions are looked for; they are kept in the last, if it can be written, see ``cache_folder``.

    These are the folder in ``NUMBA_CACHE_DIR`` if it is set, ``utils/__pycache__``, and numba's folder in the user's
    home, up to the first that can be written. So what another user has compiled is used, and what an image came with.
    """
    folders = []
    for folder in _all_folders(numba.config.CACHE_DIR):
        folders.append(folder)
        if _can_be_written(folder):
            break
    return folders


def cache_folder() -> Path | None:
    """Where compiled functions are kept; None where no folder can be written, as in some graders' containers."""
    last = cache_folders()[-1]
    return last if _can_be_written(last) else None


@cache
def _all_folders(users_choice: str) -> list[Path]:
    utils = PROJECT_ROOT / "utils"
    parents = [utils / "__pycache__", Path(AppDirs("numba", False).user_cache_dir)]
    if users_choice:
        parents.insert(0, Path(users_choice))
    return [parent / f"numba-{digest_of_sources(utils)}" for parent in parents]


@cache
def _can_be_written(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def compiled(function: F) -> F:
    """Compile ``function`` at its first call and keep the result on disk for later processes, see ``cache_folders``."""
    dispatcher = numba.njit(no_cfunc_wrapper=True, pipeline_class=EntryCompiler)(function)
    if Path(function.__code__.co_filename).is_file():
        dispatcher._cache = CompiledFiles(function, cache_folders(), cache_folder())
    return dispatcher


def is_missing_in_cache(function: Any) -> bool:
    """Whether a ``@compiled`` function can be kept on disk, but no process has compiled it for this machine yet."""
    return function.stats.cache_path is not None and function._cache.is_empty(function.targetctx.codegen())


def allocating_helper(function: F) -> F:
    """A ``compiled_helper`` that makes arrays of its own, or assigns whole arrays to others."""
    return _helper(function)


def compiled_helper(function: F) -> F:
    """Compile ``function`` as a part of the compiled functions that call it; called from Python it stays as it is.

    numba would otherwise compile a way in from Python as well, and keep a file for each function on disk: together as
    much work as the function itself. Nor is it compiled anew for each constant or type of whole numbers that is handed
    to it: they all come as int64.

    It takes the arrays that it is given for granted: numba would otherwise count up and down with every call who
    holds which of them, in a way that no processor does fast, which made up four fifths of a search for a way.
    """
    return _helper(function, _nrt=False)


def _helper(function: F, **options: bool) -> F:
    compile_it = numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=HelperCompiler, **options)
    infer_global(function, HelperType(compile_it(function)))
    return function
