"""The levels of a training, shared out to the processes that play them."""

import math
from collections import deque
from collections.abc import Iterable


class LevelQueue:
    """Hands out each level once, the lowest number first. A level that a process has lost comes again, before others.

    Args:
        n_levels: levels from this number on are not played.

    Attributes:
        next_level: the level to begin next; all before it are begun.
    """

    def __init__(self, n_levels: int, n_players: int) -> None:
        self.next_level = 0
        self._n_levels, self._n_players = n_levels, n_players
        self._lost: deque[int] = deque()  # begun and lost

    @property
    def lost(self) -> list[int]:
        """Levels that were begun and are to be begun again."""
        return list(self._lost)

    @property
    def n_left(self) -> int:
        """How many can be handed out."""
        # fewer than were begun and lost, where a training is resumed with a smaller number of episodes
        return max(0, len(self._lost) + self._n_levels - self.next_level)

    def take(self, wanted: int) -> list[int]:
        """Up to ``wanted`` levels for a process, but no more than its share of what is left."""
        n = max(0, min(wanted, math.ceil(self.n_left / self._n_players)))
        lost = [self._lost.popleft() for _ in range(min(n, len(self._lost)))]
        first, self.next_level = self.next_level, self.next_level + n - len(lost)
        return [*lost, *range(first, self.next_level)]

    def give_back(self, levels: Iterable[int]) -> None:
        """Takes back levels that a process has begun and will not finish."""
        self._lost.extendleft(reversed(list(levels)))

    def resume(self, next_level: int, begun: Iterable[int]) -> None:
        """Goes on from a checkpoint; what was begun there begins again."""
        self.next_level = next_level
        self._lost = deque(sorted(begun))
