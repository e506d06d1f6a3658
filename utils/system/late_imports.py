"""Modules that libraries import at every start and hardly ever use: loaded when something in them is asked for.

flatland-rl imports pyplot for the picture of a path, networkx for chains of trains that the compiled simulator follows
by itself; TensorBoard imports boto3 for files at Amazon. Together they take 0.3 seconds in every process.
``importlib.util.LazyLoader`` would not do: whoever goes through all modules for their files, as PyTorch does, has it
load them.
"""

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

LATE = {"matplotlib.pyplot", "networkx", "boto3"}
_loading = threading.RLock()


class _LateModule(ModuleType):
    """Has nothing yet but what the import system gives a module: its name, its file and so on."""

    def __getattr__(self, name: str) -> Any:
        """Anything else; asking for the names that Python alone uses loads nothing."""
        loader = self.__loader__
        with _loading:  # other threads wait until it is loaded
            if isinstance(loader, _LateLoader) and not loader.begun and (name == "__all__" or name[:2] != "__"):
                loader.load(self)
        if type(self) is _LateModule:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self, name)


class _LateLoader(Loader):
    """Makes a module when it is imported and loads it later, as the loader does that Python has found."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.begun = False

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module in which nothing is loaded."""
        return _LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Not yet."""

    def load(self, module: ModuleType) -> None:
        """Now."""
        self.begun = True
        try:
            self._loader.exec_module(module)
        except BaseException:
            self.begun = False
            raise
        module.__class__ = ModuleType


class _LateImports(MetaPathFinder):
    """Finds these modules as Python does, but has them loaded late."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """None for all other modules: they are found by others."""
        spec = PathFinder.find_spec(name, path, target) if name in LATE else None
        if spec is not None and spec.loader is not None:
            spec.loader = _LateLoader(spec.loader)
        return spec


def import_late() -> None:
    """From now on, in this process; what was imported before stays as it is."""
    sys.meta_path.insert(0, _LateImports())
