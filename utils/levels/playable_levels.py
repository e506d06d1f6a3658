"""Levels for training, on the simulator that was asked for."""

from collections.abc import Callable

from utils.levels.level_pool import LevelPool
from utils.levels.packed_level import UnpackableLevelError, unpack_level
from utils.simulator.simulator import FlatlandSimulator, Simulator, UnsupportedLevel


class PlayableLevels:
    """Training levels on the simulator that was asked for.

    Where the compiled simulator cannot play a level flatland's own does, which is said once.

    Args:
        pool: makes the levels.
        simulator: "compiled" or "flatland".
        warn: gets that sentence.
    """

    def __init__(self, pool: LevelPool, simulator: str, warn: Callable[[str], None]) -> None:
        self.pool = pool
        self._compiled = simulator == "compiled"
        self._warn = warn
        self._fell_back = False

    def simulator(self, level_number: int, packed: bytes | None = None) -> Simulator:
        """A level, ready to play; ``packed`` is what another process's ``packed`` has given, if anything."""
        if packed is not None:
            return unpack_level(packed)
        if self._compiled:
            try:
                return self.pool.simulator(level_number)
            except UnsupportedLevel as error:
                self._say_fallback(error)
        return FlatlandSimulator(self.pool.levels.make(level_number))

    def packed(self, level_number: int) -> bytes | None:
        """A level for another process to play; None where that has to make it itself."""
        if not self._compiled:
            return None
        try:
            return self.pool.packed(level_number)
        except UnsupportedLevel as error:
            self._say_fallback(error)
        except UnpackableLevelError:
            pass  # it can be played all the same
        return None

    @property
    def n_trains(self) -> int:
        """The most trains in a level."""
        return self.pool.levels.config.n_agents

    @property
    def opened(self) -> tuple[int, ...]:
        """The level from which on each environment of a mixture is open, see ``TrainingLevels``."""
        return self.pool.levels.opened

    def _say_fallback(self, error: UnsupportedLevel) -> None:
        if not self._fell_back:
            self._warn(f"the compiled simulator cannot play this level ({error}); flatland-rl's own does.")
        self._fell_back = True
