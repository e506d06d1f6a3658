"""Levels for training and for evaluation, on the simulator that was asked for."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from flatland.envs.rail_env import RailEnv

from utils.levels.env_configs import Environment, level_of, n_files
from utils.levels.flatland_workarounds import clear_flatland_caches_now_and_then
from utils.levels.level_pool import LevelPool, Planning
from utils.levels.level_snapshot import LevelSnapshot
from utils.levels.packed_level import UnpackableLevelError, pack_level, unpack_level
from utils.levels.rail_envs import make_rail_env_fast
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.simulator import FlatlandSimulator, Simulator
from utils.simulator.unsupported_level import UnsupportedLevel
from utils.system.seeds import Stream, level_seed


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


class EvaluationLevels:
    """``count`` levels that stay the same, malfunctions included, so that evaluations can be compared.

    Of a folder of saved levels each is there at least once.

    The first time a level is asked for it is made by the fast way, which gives the same levels. Afterwards it costs
    flatland-rl a millisecond and the compiled simulator a quarter of one (ten trains, 30 x 30 cells): a snapshot is
    kept, about 60 kB, and what the compiled simulator plays, a few kilobytes.

    Args:
        config: as for ``TrainingLevels``, but no mixture.
        seed: the seed of the training; these levels never meet its training levels.
        count: how many levels there are, at least 1.
        compiled: whether the compiled simulator plays them, unless it cannot.
        plan: plans a level when it is made, where levels are to be planned.

    Raises:
        ValueError: ``count`` is below 1.
    """

    def __init__(
        self, config: Environment, seed: int, count: int, *, compiled: bool = True, plan: Planning | None = None
    ) -> None:
        if count < 1:
            raise ValueError(f"an evaluation needs at least one level, got {count}")
        self.config = config
        self.seed = seed
        self._compiled = compiled
        self._plan = plan
        self._snapshots: list[LevelSnapshot | None] = [None] * max(count, n_files(config))
        self._packed: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._snapshots)

    def make(self, i: int) -> RailEnv:
        """Level ``i``, reset and ready to play; every call gives an environment of its own.

        Raises:
            IndexError: ``i`` is not in ``range(len(self))``.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"there are {len(self)} evaluation levels, got index {i}")
        clear_flatland_caches_now_and_then()
        snapshot = self._snapshots[i]
        if snapshot is None:
            env = make_rail_env_fast(level_of(self.config, i), level_seed(self.seed, Stream.EVALUATION_LEVELS, i))
            self._snapshots[i] = snapshot = LevelSnapshot.take(env)
        return snapshot.restore()

    def simulators(self) -> Iterator[Simulator]:
        """All levels, ready to play."""
        return (self._simulator(i) for i in range(len(self)))

    def on_flatland(self) -> Iterator[Simulator]:
        """The same on flatland-rl itself."""
        return (FlatlandSimulator(self.make(i)) for i in range(len(self)))

    def _simulator(self, i: int) -> Simulator:
        if i in self._packed:
            return unpack_level(self._packed[i])
        env = self.make(i)
        if self._compiled:
            with suppress(UnsupportedLevel):
                simulator = CompiledSimulator.from_env(env)
                if self._plan is not None:
                    self._plan(simulator.state)
                with suppress(UnpackableLevelError):  # it can be played all the same
                    self._packed[i] = pack_level(simulator)
                return simulator
        return FlatlandSimulator(env)
