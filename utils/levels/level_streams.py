"""Where training levels come from: an endless stream."""

from collections.abc import Iterator

from flatland.envs.rail_env import RailEnv

from utils.levels.env_configs import level_of
from utils.levels.flatland_workarounds import clear_flatland_caches_now_and_then
from utils.levels.mixtures import TrainingEnvironment, environments_of, stage_of_level
from utils.levels.rail_envs import make_rail_env_fast
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
