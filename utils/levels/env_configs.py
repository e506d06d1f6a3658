"""The environments of the kit: a registry of named configurations, saved environments, and ``make_rail_env``.

A configuration is everything ``RailEnv`` needs except the seed. The recipe is the one of flatland's own
documentation (sparse rail and line generators, ``ParamMalfunctionGen``), so a score measured here can be
compared with one measured anywhere else for the same configuration and seed.
"""

import gc
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flatland.core.effects_generator import find_all_effects_generators
from flatland.core.grid.grid_resource_map import GridResourceMap
from flatland.envs.line_generators import line_from_file, sparse_line_generator
from flatland.envs.malfunction_effects_generators import MalfunctionEffectsGenerator
from flatland.envs.malfunction_generators import MalfunctionParameters, ParamMalfunctionGen
from flatland.envs.persistence import RailEnvPersister
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_generators import RailGenerator, rail_from_file, sparse_rail_generator
from flatland.envs.timetable_generators import timetable_from_file

from utils.levels.level_snapshot import LevelSnapshot, NoObservations

SAVED_ENV_SUFFIX = ".pkl"  # flatland names an older format .mpk, which flatland-rl 4.3.0 can no longer write


class EnvConfigError(ValueError):
    """What the user gave names no environment; the message is one sentence that can be shown as it is."""


@dataclass(frozen=True)
class EnvConfig:
    """What describes a distribution of levels; a level is a configuration and a seed.

    Attributes:
        name: the name in the registry.
        n_agents: number of trains.
        width: columns of the map (``x_dim`` in the metadata of the graders).
        height: rows of the map (``y_dim``).
        n_cities: how many cities the generator tries to place; it may place fewer.
        max_rail_pairs_in_city: pairs of parallel tracks in a city.
        max_rails_between_cities: tracks that leave a city towards another one.
        malfunction_rate: expected malfunctions per step and train; 0 for none.
        malfunction_min_duration: steps, inclusive.
        malfunction_max_duration: steps, inclusive.
        speed_ratios: pairs (speed in cells per step, share of the trains); empty for every train at speed 1.
        grid_mode: cities on a regular grid instead of at random positions.
    """

    name: str
    n_agents: int
    width: int
    height: int
    n_cities: int
    max_rail_pairs_in_city: int = 2
    max_rails_between_cities: int = 2
    malfunction_rate: float = 0.0
    malfunction_min_duration: int = 20
    malfunction_max_duration: int = 50
    speed_ratios: tuple[tuple[float, float], ...] = ()
    grid_mode: bool = False


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


def _classic(name: str, n_agents: int, n_cities: int, rail_pairs: int, malfunction_interval: int) -> EnvConfig:
    return EnvConfig(
        name, n_agents, 30, 30, n_cities, max_rail_pairs_in_city=rail_pairs, malfunction_rate=1 / malfunction_interval
    )


# Trains, columns, rows and cities of the fifteen tests of the Flatland 3 challenge, round 2.
_ROUND_2 = (
    (7, 30, 30, 2),
    (10, 30, 30, 2),
    (20, 30, 30, 3),
    (50, 30, 35, 3),
    (80, 35, 30, 5),
    (80, 45, 35, 7),
    (80, 40, 60, 9),
    (80, 60, 40, 13),
    (80, 60, 60, 17),
    (100, 80, 120, 21),
    (100, 100, 80, 25),
    (200, 100, 100, 29),
    (200, 150, 150, 33),
    (400, 150, 150, 37),
    (425, 158, 158, 41),
)
_FOUR_SPEEDS = ((1.0, 0.25), (1 / 2, 0.25), (1 / 3, 0.25), (1 / 4, 0.25))


def _registry() -> dict[str, EnvConfig]:
    configs = [
        _classic("Test_0", n_agents=5, n_cities=2, rail_pairs=1, malfunction_interval=50),
        _classic("Test_1", n_agents=10, n_cities=2, rail_pairs=2, malfunction_interval=100),
        _classic("Test_2", n_agents=20, n_cities=3, rail_pairs=2, malfunction_interval=200),
        # For quick tries: two cities need 18 cells in one direction and 10 in the other, and 18 x 10 is enough.
        EnvConfig("Tiny", n_agents=2, width=18, height=10, n_cities=2, max_rail_pairs_in_city=1),
    ]
    configs += [
        EnvConfig(f"Round2_Test_{i:02}", *sizes, malfunction_rate=1 / 540, speed_ratios=_FOUR_SPEEDS)
        for i, sizes in enumerate(_ROUND_2)
    ]
    return {config.name: config for config in configs}


ENV_CONFIGS: dict[str, EnvConfig] = _registry()
"""Every configuration by its name."""

_CLASSIC_NAMES = ("Test_0", "Test_1", "Test_2")  # the classic kit calls them by the numbers 0, 1 and 2


def _accepted() -> str:
    return (
        "a number from 0 to 2, one of "
        f"{', '.join(name for name in ENV_CONFIGS if not name.startswith('Round2'))}, "
        "Round2_Test_00 to Round2_Test_14, or the path of an environment saved as .pkl"
    )


def resolve_env_config(given: str | int) -> EnvConfig | SavedEnv:
    """The environment that a person means by a number, a name (in any case) or the path of a file.

    A file is opened here, so that a wrong one is noticed before training starts.

    Raises:
        EnvConfigError: unknown number or name, missing file, or a file that holds no usable environment.
    """
    text = str(given).strip()
    if text.isdecimal():
        if int(text) < len(_CLASSIC_NAMES):
            return ENV_CONFIGS[_CLASSIC_NAMES[int(text)]]
        raise EnvConfigError(f"unknown environment {text}: accepted is {_accepted()}")
    by_lower_name = {name.lower(): config for name, config in ENV_CONFIGS.items()}
    if text.lower() in by_lower_name:
        return by_lower_name[text.lower()]
    path = Path(text)
    if path.suffix == SAVED_ENV_SUFFIX:
        saved = SavedEnv(path)
        _saved_level(saved)
        return saved
    raise EnvConfigError(f"unknown environment {text!r}: accepted is {_accepted()}")


@contextmanager
def quiet_generation() -> Iterator[None]:
    """Silences flatland's warnings about generated levels and keeps Python's global random state.

    «Could not set all required cities!» is normal for the sparse generator and would fill the logs.
    ``RailEnv`` seeds the global ``random`` module as a side effect; nothing in flatland draws from it.
    """
    state = random.getstate()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        random.setstate(state)


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pauses Python's cyclic garbage collector, which doubles the time it takes to generate a level.

    Generation makes hundreds of thousands of small objects and hardly any cycles: the collector searches
    all the memory again and again and finds nothing. Reference counting goes on. Afterwards the collector is
    on or off as it was before, so the context can be nested.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def make_rail_env(config: EnvConfig | SavedEnv, seed: int) -> RailEnv:
    """A fresh ``RailEnv``, already reset, identical to what flatland's own recipe gives for this seed.

    Always take a fresh one for an episode: the malfunction generator caches its draws, ``DefaultRewards``
    keeps its counts and trains keep their speeds, so a second ``reset`` of the same object differs from the first.

    The observation builder costs nothing and returns nothing of use: observations are computed elsewhere.

    Args:
        config: a configuration or a saved environment. A saved one fixes map, trains and timetable; the seed
            then only decides the malfunctions, and the episode always begins at step 0, whenever it was saved.
        seed: a non-negative integer below 2**32.

    Raises:
        EnvConfigError: the file of a saved environment has become unusable.
    """
    with quiet_generation(), garbage_collection_paused():
        if isinstance(config, SavedEnv):
            return _play_saved_level(config, seed)
        env = unset_rail_env(config, seed)
        env.reset(True, True, random_seed=seed)
        return env


def unset_rail_env(
    config: EnvConfig, seed: int, rail_generator: Callable[..., RailGenerator] = sparse_rail_generator
) -> RailEnv:
    """The environment of ``make_rail_env`` before its reset: it has no map and no trains yet.

    Args:
        config: the configuration.
        seed: see ``make_rail_env``.
        rail_generator: makes the generator from the arguments that ``sparse_rail_generator`` takes.
    """
    return RailEnv(
        width=config.width,
        height=config.height,
        rail_generator=rail_generator(
            max_num_cities=config.n_cities,
            grid_mode=config.grid_mode,
            max_rails_between_cities=config.max_rails_between_cities,
            max_rail_pairs_in_city=config.max_rail_pairs_in_city,
        ),
        # Without a map of speeds the generator draws no random numbers for them: not the same as {1.0: 1.0}.
        line_generator=sparse_line_generator(dict(config.speed_ratios) or None),
        number_of_agents=config.n_agents,
        malfunction_generator=ParamMalfunctionGen(
            MalfunctionParameters(
                config.malfunction_rate, config.malfunction_min_duration, config.malfunction_max_duration
            )
        ),
        obs_builder_object=NoObservations(),
        random_seed=seed,
    )


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
        EnvConfigError: see ``resolve_env_config``.
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


def _play_saved_level(saved: SavedEnv, seed: int) -> RailEnv:
    env = _saved_level(saved).snapshot.restore()
    env._seed(seed)  # what reset(random_seed=seed) does first; nothing else draws before the first step
    return env
