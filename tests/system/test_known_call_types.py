"""numba works out once what an operator gives, and compiles what it compiled before."""

import re

import numba
import numpy as np
import pytest
from numba.core.targetconfig import TargetConfig
from numba.core.types.functions import BaseFunction

from utils.system import known_call_types


@pytest.fixture(autouse=True)
def _call_types_are_remembered() -> None:
    known_call_types.remember_call_types()  # as any compiled function of the kit has it done


def add_up(values: np.ndarray, wide: bool) -> float:
    total = values[0] + values[1] + values[2] + values[3] + values[4]
    for place in range(5, values.size):
        total += values[place] * 2 if wide else values[place] / 2
    return total


def same_names(assembly: str) -> str:
    """Names of functions hold a number that numba counts up."""
    return re.sub(r"_ZN[\w.$]+|\.?const\.[\w.$]+|\b\d{6,}\b", "NAME", assembly)


def test_machine_code_is_the_same(monkeypatch) -> None:
    values = np.arange(8.0)
    known = numba.njit(add_up)
    assert known(values, True) == 10 + 2 * (5 + 6 + 7)
    monkeypatch.setattr(BaseFunction, "get_call_type", known_call_types._work_out_call_type)
    worked_out = numba.njit(add_up)
    worked_out(values, True)
    (one,), (other,) = known.inspect_asm().values(), worked_out.inspect_asm().values()
    assert same_names(one) == same_names(other)


def test_each_call_is_worked_out_once(monkeypatch) -> None:
    asked = []

    def work_out(self, context, args, kws):
        asked.append((self, tuple(args), tuple(kws.items())))
        return before(self, context, args, kws)

    before = known_call_types._work_out_call_type
    monkeypatch.setattr(known_call_types, "_work_out_call_type", work_out)
    numba.njit(add_up)(np.arange(8, dtype=np.complex64), False)  # a type that nothing else here has
    numba.njit(add_up)(np.arange(8, dtype=np.complex64), False)
    assert asked
    assert len(asked) == len(set(asked))


def test_flags_are_told_apart_as_before() -> None:
    flags, other = numba.core.compiler.Flags(), numba.core.compiler.Flags()
    assert flags.values() == {name: getattr(flags, name) for name in flags.options}
    assert flags == other
    assert hash(flags) == hash(other)
    other.nrt = True
    assert other.values()["nrt"] is True
    assert flags != other
    assert TargetConfig.values is known_call_types._values
