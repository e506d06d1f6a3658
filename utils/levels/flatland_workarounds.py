"""What flatland does beside its work, and how it is kept from doing harm: warnings, global state, caches that grow.

flatland-rl 4.3.0 puts ``functools.lru_cache`` on methods of the rail map and of the environment, with ``self``
in the key and room for up to four million entries. Every map, and everything it refers to, therefore stays in
memory: 2.25 MB for an episode of ten trains on 30 x 30 cells, 5.6 GB for 2,500 of them.
"""

import gc
import inspect
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from types import ModuleType
from typing import Any

# A level leaves about 2 MB in flatland's caches (ten trains, 30 x 30 cells); made the fast way it leaves 0.04 MB until
# flatland plays it. Clearing costs the same per level however seldom it is done, but other environments in play then
# fill the caches with their answers again.
LEVELS_BETWEEN_CLEARINGS = 10
_levels_handed_out = count(1)


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


def _caches_of(module: ModuleType) -> list[Any]:
    """The caches with ``self`` in the key in the classes that a module defines."""
    classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    return [
        member
        for owner in classes
        for member in vars(owner).values()
        if hasattr(member, "cache_clear") and next(iter(inspect.signature(member).parameters), None) == "self"
    ]


@lru_cache(maxsize=1)
def growing_caches() -> tuple[Any, ...]:
    """Every cache of flatland that holds on to maps or environments, found once.

    They are looked up instead of listed, so that a cache which a later flatland adds is found as well. Caches
    without ``self`` (directions, speeds, neighbouring cells) stay: they hold small values and stop growing.
    """
    import flatland.envs.rail_env
    import flatland.envs.rail_grid_transition_map  # noqa: F401  (both must be loaded before the search)

    modules = [module for name, module in list(sys.modules.items()) if name.startswith("flatland.")]
    return tuple(cache for module in modules for cache in _caches_of(module))


def clear_flatland_caches() -> None:
    """Forgets all cached answers about maps and environments, so that those no longer in use can be freed.

    Always safe: an environment in play only computes the answers anew. The cost is 1 to 2 ms for each level
    generated since the last call, however the calls are spread.
    """
    for cache in growing_caches():
        cache.cache_clear()


def clear_flatland_caches_now_and_then() -> None:
    """Call it once for each level that is handed out."""
    if next(_levels_handed_out) % LEVELS_BETWEEN_CLEARINGS == 0:
        clear_flatland_caches()
