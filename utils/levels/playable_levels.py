"""Levels for training and for evaluation, on the simulator that was asked for."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from utils.levels.level_pool import LevelPool
from utils.levels.level_process import Planning
from utils.levels.level_streams import EvaluationLevels
from utils.levels.packed_level import UnpackableLevelError, pack_level, unpack_level
from utils.simulator.compiled_simulator import CompiledSimulator
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


class PlayableEvaluationLevels:
    """Evaluation levels, the same each time, on the simulator that was asked for.

    Where the compiled simulator cannot play a level flatland's own does. A level that it has played before costs it a
    quarter of a millisecond (ten trains, 30 x 30 cells): a few kilobytes are kept of each.

    Args:
        levels: makes the levels.
        simulator: "compiled" or "flatland".
        plan: plans a level when it is made, where levels are to be planned.
    """

    def __init__(self, levels: EvaluationLevels, simulator: str, plan: Planning | None = None) -> None:
        self.levels = levels
        self._plan = plan
        self._compiled = simulator == "compiled"
        self._packed: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.levels)

    def simulators(self) -> Iterator[Simulator]:
        """All levels, ready to play."""
        return (self._simulator(i) for i in range(len(self)))

    def on_flatland(self) -> Iterator[Simulator]:
        """The same on flatland-rl itself."""
        return (FlatlandSimulator(self.levels.make(i)) for i in range(len(self)))

    def _simulator(self, i: int) -> Simulator:
        if i in self._packed:
            return unpack_level(self._packed[i])
        env = self.levels.make(i)
        if self._compiled:
            with suppress(UnsupportedLevel):
                simulator = CompiledSimulator.from_env(env)
                if self._plan is not None:
                    self._plan(simulator.state)
                with suppress(UnpackableLevelError):  # it can be played all the same
                    self._packed[i] = pack_level(simulator)
                return simulator
        return FlatlandSimulator(env)
