"""Makes flatland environments from a configuration and a seed."""

from collections.abc import Callable

from flatland.core.grid.grid4_utils import get_new_position
from flatland.envs.line_generators import sparse_line_generator
from flatland.envs.malfunction_generators import MalfunctionParameters, ParamMalfunctionGen
from flatland.envs.rail_env import RailEnv
from flatland.envs.rail_generators import RailGenerator, sparse_rail_generator

from utils.levels.env_configs import EnvConfig, Environment
from utils.levels.fast_reset import FastDistanceMap, FastSparseLineGen, FastSparseRailGen, fast_timetable
from utils.levels.flatland_workarounds import garbage_collection_paused, quiet_generation
from utils.levels.level_folders import LevelFolder
from utils.levels.level_snapshot import NoObservations
from utils.levels.sampled_envs import SampledEnv
from utils.levels.sampled_levels import make_sampled_level
from utils.levels.saved_levels import SavedEnv, play_saved_level


def make_rail_env(config: Environment, seed: int) -> RailEnv:
    """A fresh ``RailEnv``, already reset, identical to what flatland's own recipe gives for this seed.

    Always take a fresh one for an episode: the malfunction generator caches its draws, ``DefaultRewards``
    keeps its counts and trains keep their speeds, so a second ``reset`` of the same object differs from the first.

    The observation builder costs nothing and returns nothing of use: observations are computed elsewhere.

    Args:
        config: what to play. A saved level fixes map, trains and timetable; the seed then only decides the
            malfunctions, and the episode always begins at step 0, whenever it was saved. Of a folder of them the seed
            also decides which one.
        seed: a non-negative integer below 2**32.

    Raises:
        EnvConfigError: a file has become unusable.
    """
    return _make(config, seed, fast=False)


def make_rail_env_fast(config: Environment, seed: int) -> RailEnv:
    """``make_rail_env(config, seed)``, faster; the distance map is there already."""
    return _make(config, seed, fast=True)


def _make(config: Environment, seed: int, *, fast: bool) -> RailEnv:
    with quiet_generation(), garbage_collection_paused():
        if isinstance(config, LevelFolder):
            config = config.level(seed)
        if isinstance(config, SavedEnv):
            return play_saved_level(config, seed)
        if isinstance(config, SampledEnv):
            env = make_sampled_level(config, seed)
        else:
            env = unset_rail_env(config, seed, FastSparseRailGen if fast else sparse_rail_generator)
            if fast:
                env.distance_map = FastDistanceMap([], env.height, env.width)
                env.line_generator = FastSparseLineGen(env.line_generator.speed_ratio_map)
                env.timetable_generator = fast_timetable
            env.reset(True, True, random_seed=seed)
        # Generating a map leaves positions made of numpy's integers in a cache that all maps share. flatland-rl 4.2.6
        # cannot compare those with a level-free crossing: a map with such crossings, played afterwards in the same
        # process, would end in an error. 4.3.0 makes them plain.
        get_new_position.cache_clear()
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
        rewards=config.rewards(),
    )
