"""Where levels come from: an endless stream for training, a fixed set for evaluation."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from flatland.envs.rail_env import RailEnv

from utils.levels.env_configs import Environment, level_of, n_files
from utils.levels.flatland_workarounds import clear_flatland_caches_now_and_then
from utils.levels.level_snapshot import LevelSnapshot
from utils.levels.mixtures import TrainingEnvironment, environments_of, stage_of_level
from utils.levels.packed_level import UnpackableLevelError, pack_level, unpack_level
from utils.levels.rail_envs import make_rail_env_fast
from utils.simulator.compiled_simulator import CompiledSimulator
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import FlatlandSimulator, Simulator, UnsupportedLevel
from utils.system.seeds import Stream, level_seed


class TrainingLevels:
    """An endless stream of levels, each made when it is asked for, by the fast way that gives the same levels.

    Args:
        config: the distribution of levels; with a saved level only the malfunctions differ, and the levels of a
            folder take turns.
        seed: the seed of the training, a non-negative integer.

    Attributes:
        environments: those of a mixture by stage, or the only one.
        opened: the level from which on each of them is open, see ``stage_of_level``: all from the beginning, unless
            it is set otherwise.
    """

    def __init__(self, config: TrainingEnvironment, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.environments = environments_of(config)
        self.opened = (0,) * len(self.environments)

    def stage(self, k: int) -> int:
        """Which of the environments level ``k`` is made of: a function of ``(seed, opened, k)`` alone."""
        return stage_of_level(self.seed, self.opened, k)

    def make(self, k: int, stage: int | None = None) -> RailEnv:
        """Level ``k``, reset and ready to play: a function of ``(seed, k, stage)``, in whatever order and process.

        Args:
            k: number of the level.
            stage: which of the environments it is made of; None: ``stage(k)``.
        """
        clear_flatland_caches_now_and_then()
        environment = self.environments[self.stage(k) if stage is None else stage]
        return make_rail_env_fast(level_of(environment, k), level_seed(self.seed, Stream.TRAINING_LEVELS, k))

    def first_of_each(self) -> Iterator[RailEnv]:
        """The first level, made of each environment: what is to be tried before a training."""
        return (self.make(0, stage) for stage in range(len(self.environments)))


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
        self,
        config: Environment,
        seed: int,
        count: int,
        *,
        compiled: bool = True,
        plan: Callable[[RailState], None] | None = None,
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
