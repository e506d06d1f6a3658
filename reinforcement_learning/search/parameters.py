"""One parameter of a sweep: the values that it may take."""

import math
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str

_RANGES = (
    "int_uniform",
    "uniform",
    "q_uniform",
    "log_uniform",
    "q_log_uniform",
    "log_uniform_values",
    "q_log_uniform_values",
)
_ACCEPTED = "values, a value, or min and max with one of the distributions " + ", ".join(_RANGES)
_LARGEST_EXPONENT = 700.0  # of e, as a float
_MOST_GRID_VALUES = 10_000  # of one parameter


class ParameterError(ValueError):
    """A parameter cannot be searched here; the message is one sentence without its full stop."""


@dataclass(frozen=True)
class Parameter:
    """Either some values or a range.

    Attributes:
        name: of the option.
        choices: the values; empty for a range.
        low, high: ends of the range, both included.
        log: whether values are drawn evenly on a logarithmic scale.
        whole: whether only whole numbers are drawn.
        quantum: values are rounded to multiples of it; None: they are not.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    quantum: float | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether there is one value only."""
        return len(self.choices) == 1 or (not self.choices and self.low == self.high)

    @property
    def identity(self) -> list[Any]:
        """Two parameters with the same identity have the same values with the same chances."""
        return list(self.choices) or [self.low, self.high, self.log, self.whole, self.quantum]

    def extremes(self) -> tuple[Value, ...]:
        """The values that have to be accepted for all to be: every choice, or both ends of a range."""
        return self.choices or (self.value(self.low), self.value(self.high))

    def value(self, drawn: Any) -> Value:
        """What a training is given for a value that was drawn."""
        if self.choices:
            return drawn
        if self.quantum is not None:
            # round() leaves 0.30000000000000004 for 3 times 0.1
            drawn = float(f"{round(drawn / self.quantum) * self.quantum:.12g}")
        whole = self.whole or (self.quantum is not None and self.quantum == int(self.quantum))
        return int(drawn) if whole else float(drawn)

    def distribution(self) -> Any:
        """The same for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high))
        return FloatDistribution(self.low, self.high, log=self.log)

    def grid(self) -> tuple[Value, ...]:
        """All values.

        Raises:
            ParameterError: there are too many.
        """
        if self.choices:
            return self.choices
        step = 1.0 if self.whole else self.quantum
        if step is None or self.log or (self.high - self.low) / step >= _MOST_GRID_VALUES:
            raise ParameterError(
                f"parameters: {self.name!r} has no list of values for method grid, which takes values, int_uniform "
                f"and q_uniform with at most {_MOST_GRID_VALUES} of them"
            )
        first, last = round(self.low / step), round(self.high / step)
        return tuple(self.value(n * step) for n in range(first, last + 1))


def read_parameter(name: Any, content: Any) -> Parameter:
    """Reads what stands below a name among the parameters of a sweep file.

    Raises:
        ParameterError: it is something else, or something that cannot be searched here.
    """
    where = f"parameters: {name!r}"
    if not isinstance(content, dict):
        raise ParameterError(f"{where} is {content!r}, but must have {_ACCEPTED}")
    distribution, given = content.get("distribution"), set(content) - {"distribution"}
    if given == {"value"} and distribution in (None, "constant"):
        return Parameter(name, choices=(_plain(where, content["value"]),))
    if given == {"values"} and distribution in (None, "categorical"):
        if not isinstance(content["values"], list) or not content["values"]:
            raise ParameterError(f"{where}: values is {content['values']!r}, but must be a list of at least one value")
        return Parameter(name, choices=tuple(dict.fromkeys(_plain(where, value) for value in content["values"])))
    if given in ({"min", "max"}, {"min", "max", "q"}) and distribution in (None, *_RANGES):
        return _read_range(name, where, content)
    said = ", ".join(f"{key} {value!r}" for key, value in content.items())
    raise ParameterError(f"{where} has {said or 'nothing'}, but must have {_ACCEPTED}")


def _plain(where: str, value: Any) -> Value:
    if isinstance(value, bool | int | float | str):
        return value
    raise ParameterError(f"{where} has the value {value!r}, but values must be numbers, texts, true or false")


def _read_range(name: str, where: str, content: dict[str, Any]) -> Parameter:
    ends = content["min"], content["max"]
    for key, end in zip(("min", "max"), ends, strict=True):
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            hint = "; a small number is written 1.0e-4, as 1e-4 is text in YAML" if isinstance(end, str) else ""
            raise ParameterError(f"{where}: {key} is {end!r}, but must be a number{hint}")
    both_whole = all(isinstance(end, int) for end in ends)
    distribution = content.get("distribution") or ("int_uniform" if both_whole else "uniform")
    if distribution == "int_uniform" and not both_whole:
        raise ParameterError(f"{where}: int_uniform needs whole numbers as min and max")
    quantum = _read_quantum(where, distribution, content)
    low, high = (float(end) for end in ends)
    log = "log" in distribution
    if log and not distribution.endswith("values"):  # the ends are exponents of e
        if max(low, high) > _LARGEST_EXPONENT:
            raise ParameterError(
                f"{where}: max of {distribution} is an exponent of e, which {ends[1]} is too large for"
            )
        low, high = math.exp(low), math.exp(high)
    if low > high or (log and low <= 0):
        accepted = "min must be above 0 and at most max" if log else "min must be at most max"
        raise ParameterError(f"{where}: min is {ends[0]} and max is {ends[1]}, but {accepted}")
    return Parameter(name, low=low, high=high, log=log, whole=distribution == "int_uniform", quantum=quantum)


def _read_quantum(where: str, distribution: str, content: dict[str, Any]) -> float | None:
    if not distribution.startswith("q_"):
        if "q" in content:
            raise ParameterError(f"{where}: q belongs to distributions whose names begin with q_, not {distribution}")
        return None
    quantum = content.get("q", 1)  # the default of W&B
    if isinstance(quantum, bool) or not isinstance(quantum, int | float) or not 0 < quantum < math.inf:
        raise ParameterError(f"{where}: q is {quantum!r}, but must be a number above 0")
    return float(quantum)
