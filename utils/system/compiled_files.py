"""Compiled functions on disk: a file for each signature of a function, which is checked when it is read.

numba's own files end the program where one is damaged or the disk is full, and are used only where they could be
written as well.
"""

import hashlib
import pickle
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from utils.system.files import atomic_write

_CHECKSUM_BYTES = 32


class CompiledFiles(Cache):
    """What numba has made of one function; takes the place of numba's own ``FunctionCache``.

    Args:
        function: in Python. Its source must be a file.
        folders: where it may lie, in this order; they need not be there.
        folder_to_write: where it is kept; None: nowhere.
    """

    def __init__(self, function: Callable, folders: Sequence[Path], folder_to_write: Path | None) -> None:
        self._py_func = function  # numba's _index_key reads it
        self._folders, self._folder_to_write = folders, folder_to_write
        source = Path(function.__code__.co_filename)
        self._source = source.read_bytes()
        # characters of local functions that Windows does not allow
        self._name = f"{source.stem}.{function.__qualname__}".replace("<", "").replace(">", "")

    @property
    def cache_path(self) -> str | None:
        """Where it is kept."""
        return None if self._folder_to_write is None else str(self._folder_to_write)

    def is_empty(self, codegen: Any) -> bool:
        """Whether the function has not been kept for any signature, for this Python and this processor."""
        names = f"{self._name}-{_machine(codegen)}-*.nbc"
        return not any(any(folder.glob(names)) for folder in self._folders)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What has been kept for a signature; None where nothing has, or all that has is damaged."""
        target_context.refresh()
        name = self._file_name(sig, target_context.codegen())
        for folder in self._folders:
            # Whatever else may be wrong with a file, compiling again puts it right.
            with suppress(Exception):
                content = (folder / name).read_bytes()
                checksum, pickled = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
                if hashlib.sha256(pickled).digest() == checksum:
                    return CompileResult._rebuild(target_context, *pickle.loads(pickled))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps the result of a compilation, where that is possible."""
        if self._folder_to_write is None or data.lifted or data.library.has_dynamic_globals:
            return
        pickled = dumps(data._reduce())
        with suppress(OSError), atomic_write(self._folder_to_write / self._file_name(sig, data.codegen)) as file:
            file.write(hashlib.sha256(pickled).digest() + pickled)

    def _file_name(self, sig: Any, codegen: Any) -> str:
        """The key holds signature, processor, and all of the function that its source does not show."""
        key = hashlib.sha256(self._source)
        key.update(repr(self._index_key(sig, codegen)).encode())
        return f"{self._name}-{_machine(codegen)}-{key.hexdigest()[:20]}.nbc"


def _machine(codegen: Any) -> str:
    """Eight hex digits that differ with the version of Python and the processor."""
    return hashlib.sha256(repr((sys.version, codegen.magic_tuple())).encode()).hexdigest()[:8]
