"""Environments that flatland's ``RailEnvPersister`` has saved, ready to play from their first step."""

import pickle
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from flatland.core.grid.grid_resource_map import GridResourceMap
from flatland.envs.line_generators import line_from_file
from flatland.envs.malfunction_effects_generators import MalfunctionEffectsGenerator
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_generators import rail_from_file
from flatland.envs.rewards import DefaultRewards, Rewards
from flatland.envs.timetable_generators import timetable_from_file

from utils.levels.fast_reset import FastDistanceMap, moves_to_targets
from utils.levels.flatland_workarounds import quiet_generation
from utils.levels.level_snapshot import LevelSnapshot, NoObservations
from utils.simulator.flatland_versions import find_all_effects_generators
from utils.simulator.rail_state import RailState
from utils.system.files import why_unreadable

SAVED_ENV_SUFFIX = ".pkl"  # flatland names an older format .mpk, which flatland-rl 4.3.0 can no longer write


def is_saved_env_path(text: str) -> bool:
    """Whether a text is the path of a saved environment, a pickle; the suffix may be written in capitals."""
    return Path(text.strip()).suffix.lower() == SAVED_ENV_SUFFIX


class EnvConfigError(ValueError):
    """What the user gave names no environment; the message is one sentence that can be shown as it is."""


@dataclass(frozen=True)
class SavedEnv:
    """An environment that ``RailEnvPersister`` saved as ``.pkl``, intermediate stops included.

    flatland itself unpickles the file, and a pickle can run any code: only open files you trust. The file does not say
    what is rewarded.

    What is read from the file raises ``EnvConfigError`` if it has become unusable.
    """

    path: Path
    rewards: type[Rewards] = DefaultRewards  # made anew for each level
    shown_as: str = ""  # where the name of the file is not enough

    @property
    def name(self) -> str:
        """The name shown in logs: the file name without its suffix."""
        return self.shown_as or self.path.stem

    @property
    def n_agents(self) -> int:
        """Number of trains."""
        return len(_saved_level(self).state["agents"])

    @property
    def n_unreachable(self) -> int:
        """Number of trains whose target cannot be reached from where they start."""
        return _saved_level(self).n_unreachable


@dataclass(frozen=True)
class _SavedLevel:
    """What is kept of a saved file: its parsed contents and an environment ready to play."""

    state: dict[str, Any]
    snapshot: LevelSnapshot
    n_unreachable: int  # trains


def _from_file(make_generator: Callable[..., Callable], saved: SavedEnv, *args: Any, **kwargs: Any) -> Any:
    """What one of flatland's ``*_from_file`` generators gives; those are closures, which cannot be pickled."""
    return make_generator(env_dict=_saved_level(saved).state)(*args, **kwargs)


def _saved_level(saved: SavedEnv) -> _SavedLevel:
    """The saved level, read again only if the file has changed."""
    return _read_saved_level(SavedEnv(saved.path), stamp_of(saved.path))


def stamp_of(path: Path, what: str = "saved environment") -> Hashable:
    """What changes when a file is written anew: a file with the same stamp need not be read again.

    Raises:
        EnvConfigError: the file cannot be read; the sentence says ``what`` it is.
    """
    if why := why_unreadable(path):
        raise EnvConfigError(f"the {what} {str(path)!r} {why}")
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def read_content(path: Path) -> dict[str, Any]:
    """What ``RailEnvPersister`` has written: ``grid``, ``agents`` and more.

    Flatland's classes unpickle it, and a pickle can run any code.

    Raises:
        EnvConfigError: the file cannot be read, or is not of this kind.
    """
    try:
        known = path.suffix == SAVED_ENV_SUFFIX
        found = RailEnvPersister.load_env_dict(path) if known else pickle.loads(path.read_bytes())
    except OSError as error:
        raise EnvConfigError(f"the saved environment {str(path)!r} cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged pickle can raise anything
        if isinstance(error, AttributeError | ImportError | TypeError) and b"flatland" in path.read_bytes():
            raise _from_another_version(path, error) from error
        raise EnvConfigError(
            f"the file {str(path)!r} is not an environment saved by RailEnvPersister, or is damaged"
        ) from error
    if not isinstance(found, dict) or "grid" not in found or not {"agents", "agents_static"} & found.keys():
        raise EnvConfigError(f"the file {str(path)!r} is not an environment saved by RailEnvPersister")
    return found


@lru_cache(maxsize=256)
def _read_saved_level(saved: SavedEnv, _stamp: Hashable) -> _SavedLevel:
    path = saved.path
    found = read_content(path)
    try:
        with quiet_generation():
            env, state = _persister_of(found).load_new(str(path), obs_builder=NoObservations())
            if not state["agents"]:
                raise EnvConfigError(f"the saved environment {str(path)!r} has no trains")
            env = _rewind(env, state, saved)
            RailState.from_env(env)  # whatever cannot be read is told now, not where the level is played
            n_unreachable = int(np.isinf(moves_to_targets(env.agents, env.distance_map)).sum())
            return _SavedLevel(state, LevelSnapshot.take(env), n_unreachable)
    except EnvConfigError:
        raise
    except Exception as error:  # it holds other things than flatland expects
        raise _from_another_version(path, error) from error


def _persister_of(content: dict[str, Any]) -> type[RailEnvPersister]:
    """A persister that has read its file already: flatland's own knows no suffix in capitals.

    Its distance map is the compiled one: flatland's takes seconds for the trains of a large map.
    """

    class Loaded(RailEnvPersister):
        @classmethod
        def set_full_state(cls, env: RailEnv, env_dict: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            env.distance_map = FastDistanceMap([], env.height, env.width)
            super().set_full_state(env, env_dict, *args, **kwargs)

        @classmethod
        def load_env_dict(cls, filename: str | Path, load_from_package: str | None = None) -> dict[str, Any]:
            return content

    return Loaded


def _from_another_version(path: Path, error: Exception) -> EnvConfigError:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return EnvConfigError(
        f"the saved environment {str(path)!r} cannot be used by flatland-rl {version('flatland-rl')} ({what}): it was "
        "saved by another version, or is damaged"
    )


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
    env.rail_generator = partial(_from_file, rail_from_file, saved)
    env.line_generator = partial(_from_file, line_from_file, saved)
    env.timetable_generator = partial(_from_file, timetable_from_file, saved)
    return env


def check_saved_env(saved: SavedEnv) -> None:
    """Reads the file, so that a wrong one is noticed before training starts.

    Raises:
        EnvConfigError: it is missing, or holds no usable environment.
    """
    _saved_level(saved)


def warn_about_targets(environments: Iterable[object], warn: Callable[[str], None]) -> None:
    """Warns once of each saved environment in which trains cannot arrive, whoever drives them.

    Args:
        environments: what is going to be played; only saved ones are looked at.
        warn: gets a sentence.
    """
    for saved in dict.fromkeys(environments):
        if isinstance(saved, SavedEnv) and (n := saved.n_unreachable):
            warn(
                f"{n} of {saved.n_agents} trains in {saved.path} cannot reach their target: they never arrive, which "
                "costs no score."
            )


def play_saved_level(saved: SavedEnv, seed: int) -> RailEnv:
    """The environment at its first step, with malfunctions that the seed decides."""
    env = _saved_level(saved).snapshot.restore()
    env.rewards = saved.rewards()
    env._seed(seed)  # what reset(random_seed=seed) does first; nothing else draws before the first step
    return env
