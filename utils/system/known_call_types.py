"""numba remembers what an operator gives: it would work that out anew for each place in the code.

For every ``a + b`` and ``a[i]`` numba tries dozens of implementations one after the other until one takes arguments of
these types. Here a case stands at eleven places on average, so that a fifth of all compiling was that. What is compiled
is the same.
"""

from typing import Any

from numba.core.targetconfig import ConfigStack, TargetConfig
from numba.core.types.functions import BaseFunction

_work_out_call_type: Any = BaseFunction.get_call_type


def _call_type(self: Any, context: Any, args: Any, kws: Any) -> Any:
    """As in numba: the signature of a call with arguments of these types."""
    known = self.__dict__.setdefault("_known_call_types", {})
    # what numba has in Python is compiled for each set of flags
    call = context, tuple(args), tuple(kws.items()), ConfigStack.top_or_none()
    if call not in known:
        signature = _work_out_call_type(self, context, args, kws)
        known[call] = signature, self._impl_keys[signature.args]
    signature, self._impl_keys[signature.args] = known[call]
    return signature


def _values(self: Any) -> dict[str, Any]:
    """As in numba: all flags, by their names. It asks whenever it compares two sets."""
    return {name: self._values.get(name, option.default) for name, option in self.options.items()}


def remember_call_types() -> None:
    """From now on, in this process."""
    BaseFunction.get_call_type = _call_type  # type: ignore[method-assign]
    TargetConfig.values = _values
