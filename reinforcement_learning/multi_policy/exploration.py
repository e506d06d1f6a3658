"""How much a policy explores as training goes on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpsilonSchedule:
    """Exponential decay: epsilon of episode k is ``max(end, start * decay**k)``.

    A closed form needs no state, so a resumed training has the right epsilon by its episode alone.
    """

    start: float
    end: float
    decay: float

    def __call__(self, episode: int) -> float:
        """Epsilon of an episode; the first episode has number 0."""
        return max(self.end, self.start * self.decay**episode)
