"""Environments that flatland's ``RailEnvPersister`` has saved, ready to play from their first step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flatland.core.effects_generator import find_all_effects_generators
from flatland.core.grid.grid_resource_map import GridResourceMap
from flatland.envs.line_generators import line_from_file
from flatland.envs.malfunction_effects_generators import MalfunctionEffectsGenerator
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_generators import rail_from_file
from flatland.envs.timetable_generators import timetable_from_file

from utils.levels.flatland_workarounds import quiet_generation
from utils.levels.level_snapshot import LevelSnapshot, NoObservations

SAVED_ENV_SUFFIX = ".pkl"  # flatland names an older format .mpk, which flatland-rl 4.3.0 can no longer write


class EnvConfigError(ValueError):
    """What the user gave names no environment; the message is one sentence that can be shown as it is."""


@dataclass(frozen=True)
class SavedEnv:
    """An environment that ``RailEnvPersister`` saved as ``.pkl``, intermediate stops included.

    flatland itself unpickles the file, and a pickle can run any code: only open files you trust.
    """

    path: Path

    @property
    def name(self) -> str:
        """The name shown in logs: the file name without its suffix."""
        return self.path.stem

    @property
    def n_agents(self) -> int:
        """Number of trains.

        Raises:
            EnvConfigError: the file has become unusable.
        """
        return len(_saved_level(self).state["agents"])


@dataclass(frozen=True)
class _SavedLevel:
    """What is kept of a saved file: its parsed contents and an environment ready to play."""

    state: dict[str, Any]
    snapshot: LevelSnapshot


@dataclass(frozen=True)
class _GeneratorFromFile:
    """One of flatland's ``*_from_file`` generators; those are closures, which cannot be pickled."""

    make_generator: Callable[..., Callable]
    saved: SavedEnv

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.make_generator(env_dict=_saved_level(self.saved).state)(*args, **kwargs)


def _saved_level(saved: SavedEnv) -> _SavedLevel:
    """The saved level, read again only if the file has changed.

    Raises:
        EnvConfigError: see ``check_saved_env``.
    """
    try:
        stat = saved.path.stat()
    except OSError as error:
        raise EnvConfigError(f"there is no file {str(saved.path)!r} to load an environment from") from error
    return _read_saved_level(saved, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _read_saved_level(saved: SavedEnv, _modified: int, _size: int) -> _SavedLevel:
    try:
        with quiet_generation():
            env, state = RailEnvPersister.load_new(str(saved.path), obs_builder=NoObservations())
            return _SavedLevel(state, LevelSnapshot.take(_rewind(env, state, saved)))
    except Exception as error:  # a damaged pickle can raise anything
        raise EnvConfigError(f"the file {str(saved.path)!r} is not an environment saved by RailEnvPersister") from error


def _rewind(env: RailEnv, state: dict[str, Any], saved: SavedEnv) -> RailEnv:
    """Puts a loaded environment to step 0 of its level, whatever had happened when it was saved.

    The random state in the file is not used: a seed replaces it for each episode. The million malfunction draws
    that flatland restores with a file that had been played are forgotten, else all episodes would share them.
    """
    for agent in state["agents"]:
        # flatland's generator from a file takes the speed at the time of saving for the maximum: 0 if standing.
        agent.speed_counter._speed = agent.speed_counter.max_speed
    env.reset(True, True, random_seed=0)
    # The reset drops the level-free crossings, which are in the file but not in what its generator returns.
    env.resource_map = GridResourceMap(state.get("level_free_positions"))
    for effects in find_all_effects_generators(env.effects_generator, MalfunctionEffectsGenerator):
        generator = effects.malfunction_generator
        generator._cached_rand = generator._cached_broken = generator._cached_random_state = None
        generator._rand_idx = 0
    env.rail_generator = _GeneratorFromFile(rail_from_file, saved)
    env.line_generator = _GeneratorFromFile(line_from_file, saved)
    env.timetable_generator = _GeneratorFromFile(timetable_from_file, saved)
    return env


def check_saved_env(saved: SavedEnv) -> None:
    """Reads the file, so that a wrong one is noticed before training starts.

    Raises:
        EnvConfigError: it is missing, or holds no usable environment.
    """
    _saved_level(saved)


def play_saved_level(saved: SavedEnv, seed: int) -> RailEnv:
    """The environment at its first step, with malfunctions that the seed decides."""
    env = _saved_level(saved).snapshot.restore()
    env._seed(seed)  # what reset(random_seed=seed) does first; nothing else draws before the first step
    return env
