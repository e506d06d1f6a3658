"""When a training of a search is stopped early: the rule that W&B's sweeps have, in the manner of Hyperband.

Li et al. 2018, "Hyperband: A novel bandit-based approach to hyperparameter optimization", JMLR 18. After certain
numbers of evaluations, which grow geometrically, only about one training in ``eta`` goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LARGEST_BAND = 1_000_000  # evaluations; no training has so many


@dataclass(frozen=True)
class Hyperband:
    """Stops trainings that fall behind the others.

    Attributes:
        bands: numbers of evaluations after which a training is judged, ascending.
        eta: one training in so many passes.
        strict: judge by the metric at the band, not by the best one so far.
    """

    bands: tuple[int, ...]
    eta: float
    strict: bool = False

    @classmethod
    def read(cls, content: Any) -> "Hyperband":
        """Reads what stands below ``early_terminate`` in a sweep file.

        Raises:
            ValueError: it cannot be used; the message is one sentence without its full stop.
        """
        if not isinstance(content, dict) or content.get("type") != "hyperband":
            raise ValueError(f"it is {content!r}, but its type must be hyperband")
        numbers = set(content) - {"type", "strict"}
        if not numbers <= {"min_iter", "eta"} and not numbers <= {"max_iter", "s", "eta"}:
            raise ValueError(f"it has {', '.join(sorted(numbers))}, but must have min_iter, or max_iter and s, and eta")
        eta = _number("eta", content.get("eta", 3), above=1)
        strict = content.get("strict", False)
        if not isinstance(strict, bool):
            raise ValueError(f"strict is {strict!r}, but must be true or false")
        if "min_iter" in content:
            band, bands = _number("min_iter", content["min_iter"], above=0), []
            while band < _LARGEST_BAND:
                bands.append(int(band))
                band *= eta
        else:
            largest, n_bands = _number("max_iter", content.get("max_iter"), above=0), content.get("s")
            bands = [int(largest / eta**i) for i in range(int(_number("s", n_bands, above=0)), 0, -1)]
        used = tuple(dict.fromkeys(band for band in bands if band >= 1))
        if not used:
            raise ValueError("there is no evaluation after which to judge; give a larger min_iter, or max_iter and s")
        return cls(used, eta, strict)

    def should_stop(self, values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether a training has fallen behind.

        Args:
            values: the metric after each of its evaluations, signed so that more is better.
            others: the same of all other trainings, finished ones included.
        """
        reached = [band for band in self.bands if band <= len(values)]
        if not reached:
            return False
        band = reached[-1]
        at_band = sorted((h[band - 1] for h in [values, *others] if len(h) >= band), reverse=True)
        threshold = at_band[int(len(at_band) / self.eta)]
        return (values[band - 1] if self.strict else max(values)) < threshold


def _number(name: str, value: Any, above: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < _LARGEST_BAND:
        raise ValueError(f"{name} is {value!r}, but must be a number above {above:g}")
    return float(value)
