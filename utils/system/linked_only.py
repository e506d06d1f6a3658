"""How functions are compiled that only compiled functions call: they become a part of these, and nothing else.

numba optimises each function together with all that it calls, and makes machine code of the whole. What is called
through eight others would go through that nine times. Here it does so once, as a part of what Python calls.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.datamodel.models import OpaqueModel
from numba.extending import register_model


class _LinkedOnly(JITCodeLibrary):
    """LLVM code of a function that waits to be linked into others. It has no address."""

    def _optimize_final_module(self) -> None: ...

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0  # for numba: not there

    @property
    def codegen(self) -> "_LinkedOnly":
        """numba asks it for nothing but ``set_env``."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """There is no machine code yet that could read it, see ``EntryCompiler``."""


class HelperCompiler(Compiler):
    """For a function that only compiled ones call."""

    def compile_extra(self, func: Callable) -> CompileResult:
        """Compiles a function into a library of its own kind."""
        self.state.library = _LinkedOnly(self.state.targetctx.codegen(), func.__qualname__)
        return super().compile_extra(func)


def _fits_int64(argument: types.Type) -> bool:
    return isinstance(argument, types.Integer) and argument != types.uint64


class HelperType(types.Dispatcher):
    """Such a function as compiled functions see it: it is compiled for one type of whole numbers."""

    def __init__(self, dispatcher: Any) -> None:
        super().__init__(dispatcher)
        self._kept = dispatcher  # numba's own holds it weakly only

    def get_call_type(self, context: Any, args: Sequence[types.Type], kws: Any) -> Any:
        """As in numba: the signature that a call with arguments of these types has."""
        wide = tuple(types.int64 if _fits_int64(argument) else argument for argument in args)
        return super().get_call_type(context, wide, kws)


register_model(HelperType)(OpaqueModel)


class EntryCompiler(Compiler):
    """For a function that Python calls."""

    def compile_extra(self, func: Callable) -> CompileResult:
        """Gives the functions that have become a part of this one what they need to print."""
        result = super().compile_extra(func)
        for environment in result._find_referenced_environments():
            result.codegen.set_env(environment.env_name, environment)
        return result
