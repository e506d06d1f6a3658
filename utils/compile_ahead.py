"""Where nothing is compiled yet, a second process compiles half of what a training needs, by way of numba's disk cache.

Compiling takes longer than everything else before the first episode, and numba compiles on one core only. This module
imports nothing that takes long, so that the process can be started before the training imports PyTorch.
"""

import gc
import os
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from utils.child_main import Messages, serve
from utils.child_process import ChildProcess

if TYPE_CHECKING:
    from utils.observation_utils import FeatureSet

_SECONDS_TO_WAIT = 120  # for the other process; what it has not done by then is compiled here


class CompileAhead:
    """The other process; where there is nothing to compile, or no place to keep it, nothing happens."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._child: ChildProcess | None = None

    def start(self) -> None:
        """Starts the other process; it ends by itself, and with this one."""
        if _is_needed():
            self._child = ChildProcess("utils.compile_ahead", lambda message: self._ended.set())

    def finish(self, feature_set: "FeatureSet") -> None:
        """Compiles the rest and waits; to be called before anything is played with this feature set."""
        if self._child is None:
            return
        _compile_observation(feature_set)
        self._ended.wait(_SECONDS_TO_WAIT)
        self._child.end()
        self._child = None


def main() -> None:
    """What the other process does."""
    serve(_compile_the_other_half)


def _is_needed() -> bool:
    from utils.compiled import cache_folder

    folder = cache_folder()
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    return (
        parent.is_dir() and os.access(parent, os.W_OK) and not any(folder.glob("**/observation_utils._observe-*.nbi"))
    )


def _compile_the_other_half(messages: Messages, send: Callable[[bytes], None]) -> None:
    gc.disable()  # imports and numba leave no garbage that is worth the time
    import numpy as np

    from utils.deadlock_check import deadlocked
    from utils.env_configs import ENV_CONFIGS
    from utils.level_pool import TrainingLevels
    from utils.packed_level import pack_level
    from utils.rail_simulator import CompiledSimulator
    from utils.rail_state import remaining_travel_time

    warnings.simplefilter("ignore")  # the training warns of everything itself
    # in the order in which a training comes to it
    simulator = CompiledSimulator.from_env(TrainingLevels(ENV_CONFIGS["Tiny"], 0).make(0))
    pack_level(simulator)
    remaining_travel_time(simulator.state)
    actions = np.zeros(simulator.state.n_trains, dtype=np.int64)
    while not simulator.done:
        simulator.step(actions)
    deadlocked(simulator.state)
    send(b"")


def _compile_observation(feature_set: "FeatureSet") -> None:
    from utils.env_configs import ENV_CONFIGS, make_rail_env
    from utils.observation_utils import observe
    from utils.rail_state import RailState

    observe(RailState.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 0)), feature_set)
