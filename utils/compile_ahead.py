"""Where nothing is compiled yet, a second process compiles half of what a training needs, by way of numba's disk cache.

Compiling takes longer than everything else before the first episode, and numba compiles on one core only. This module
imports nothing that takes long, so that the process can be started before the training imports PyTorch.
"""

import gc
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from utils.system.child_main import Messages, serve
from utils.system.child_process import ChildProcess

if TYPE_CHECKING:
    from utils.observation.feature_sets import FeatureSet

_SECONDS_TO_WAIT = 240  # what the other process has not done by then is compiled here


class CompileAhead:
    """The other process; where there is nothing to compile, or no place to keep it, nothing happens."""

    def __init__(self) -> None:
        self._done = threading.Event()  # the other process has compiled its part, or has ended
        self._child: ChildProcess | None = None

    def start(self) -> None:
        """Starts the other process; it ends by itself, and with this one."""
        if _is_needed():
            self._child = ChildProcess("utils.compile_ahead", self._received)

    def finish(self, feature_set: "FeatureSet", safe_moves: bool, say: Callable[[str], None] = print) -> None:
        """Compiles the rest and waits; to be called before anything is played with these observations.

        Args:
            feature_set: what is observed.
            safe_moves: whether unsafe moves are ruled out.
            say: gets a line that tells the user what takes so long.
        """
        if self._child is None:
            return
        say("First start: compiling simulator and observation, which takes about a quarter of a minute.")
        _compile_all_but_safe_moves(feature_set)
        if safe_moves or feature_set.with_routes:
            self._done.wait(_SECONDS_TO_WAIT)
        self._child.end()
        self._child = None

    def _received(self, _: bytes | None) -> None:
        self._done.set()


def main() -> None:
    """What the other process does."""
    serve(_compile_safe_moves)


def _is_needed() -> bool:
    from utils.observation.observer import fill_observations
    from utils.system.compiled import is_missing_in_cache

    return is_missing_in_cache(fill_observations)


def _compile_safe_moves(messages: Messages, send: Callable[[bytes], None]) -> None:
    """About half of the work."""
    gc.disable()  # imports and numba leave no garbage that is worth the time
    import numpy as np

    from utils.levels.env_configs import ENV_CONFIGS
    from utils.levels.rail_envs import make_rail_env
    from utils.safe_moves.safe_moves import SafeMoves
    from utils.simulator.rail_state import RailState

    warnings.simplefilter("ignore")  # the training warns of everything itself
    state, safe_moves = RailState.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 0)), SafeMoves()
    safe_moves.restrict(state, np.ones((state.n_trains, 5), dtype=np.bool_))
    safe_moves.settle(state, np.zeros(state.n_trains, dtype=np.int64))
    send(b"")


def _compile_all_but_safe_moves(feature_set: "FeatureSet") -> None:
    import numpy as np

    from utils.levels.env_configs import ENV_CONFIGS
    from utils.levels.level_streams import TrainingLevels
    from utils.levels.packed_level import pack_level
    from utils.observation.neighbour_rows import assemble
    from utils.observation.neighbours import N_RELATIONS
    from utils.observation.observer import Observer
    from utils.simulator.compiled_simulator import CompiledSimulator
    from utils.simulator.deadlock_check import deadlocked
    from utils.simulator.rail_state import RailState, remaining_travel_time

    env = TrainingLevels(ENV_CONFIGS["Tiny"], 0).make(0)
    state = RailState.from_env(env)
    # without what belongs to safe moves
    Observer(replace(feature_set, with_routes=False, more=None), safe_moves=False).observe(state)
    if feature_set.route_features:
        safe = np.zeros((state.n_trains, 3), dtype=np.int8)
        features = np.zeros((state.n_trains, feature_set.n_own_features), dtype=np.float32)
        Observer(feature_set, safe_moves=False).fill_routes(
            state, safe, np.ones(state.n_trains, dtype=np.bool_), features[:, feature_set.route_features]
        )
    if feature_set.n_neighbours:
        own = np.zeros((1, feature_set.n_own_features), dtype=np.float32)
        neighbours = np.zeros((1, feature_set.n_neighbours), dtype=np.int32)
        relations = np.zeros((*neighbours.shape, N_RELATIONS), dtype=np.float32)
        observations = np.zeros((1, feature_set.n_features), dtype=np.float32)
        assemble(np.zeros(1, dtype=np.int64), own, neighbours, relations, observations)
    simulator = CompiledSimulator.from_env(env)
    pack_level(simulator)
    remaining_travel_time(simulator.state)
    actions = np.zeros(simulator.state.n_trains, dtype=np.int64)
    while not simulator.done:
        simulator.step(actions)
    deadlocked(simulator.state)
