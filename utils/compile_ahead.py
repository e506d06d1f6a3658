"""Where nothing is compiled yet, more processes compile most of what a training needs: numba keeps it on the disk.

Compiling takes longer than everything else before the first episode, and numba compiles on one core only. This module
imports nothing that takes long, so that the processes can be started before the training imports PyTorch.
"""

import gc
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from utils.system.child_main import Messages, serve
from utils.system.child_process import ChildProcess

if TYPE_CHECKING:
    from utils.observation.feature_sets import FeatureSet
    from utils.simulator.rail_state import RailState

_WITH_PLANNER = "First start: compiling simulator, observation and planner, which takes about 15 seconds."
_WITHOUT_PLANNER = "First start: compiling simulator and observation, which takes about 10 seconds."
_SECONDS_TO_WAIT = 240  # what the other processes have not done by then is compiled here


class CompileAhead:
    """The other processes; where there is nothing to compile, or no place to keep it, nothing happens."""

    def __init__(self) -> None:
        self._children: dict[str, ChildProcess] = {}
        self._done: dict[str, threading.Event] = {}  # compiled, or the process has ended

    def start(self) -> None:
        """Starts the process that compiles safe moves. All processes end by themselves, and with this one."""
        if _is_needed():
            gc.disable()  # until all is compiled: imports and numba leave no garbage that is worth the time
            self._start(_SAFE_MOVES)

    def start_planner(self) -> None:
        """Starts the process that compiles the planner; for trainings that need it."""
        if self._children:
            self._start(_PLANNER)

    def _start(self, part: str) -> None:
        self._done[part] = done = threading.Event()
        self._children[part] = child = ChildProcess("utils.compile_ahead", partial(_note, done))
        child.send(part.encode())

    def finish(self, feature_set: "FeatureSet", *, safe_moves: bool, say: Callable[[str], None] = print) -> None:
        """Compiles the rest and waits; to be called before anything is played with these observations.

        Args:
            feature_set: what is observed.
            safe_moves: whether unsafe moves are ruled out.
            say: gets a line that tells the user what takes so long.
        """
        if not self._children:
            return
        say(_WITH_PLANNER if _PLANNER in self._children else _WITHOUT_PLANNER)
        _compile_the_rest(feature_set)
        gc.enable()
        if not (safe_moves or feature_set.with_routes):
            del self._done[_SAFE_MOVES]
        for done in self._done.values():
            done.wait(_SECONDS_TO_WAIT)
        for child in self._children.values():
            child.end()
        self._children = {}


def _note(done: threading.Event, _: bytes | None) -> None:
    done.set()


def main() -> None:
    """What the other processes do."""
    serve(_compile_part)


def _is_needed() -> bool:
    from utils.observation.observer import fill_observations
    from utils.system.compiled import is_missing_in_cache

    return is_missing_in_cache(fill_observations)


def _compile_part(messages: Messages, send: Callable[[bytes], None]) -> None:
    gc.disable()
    warnings.simplefilter("ignore")  # the training warns of everything itself
    compile_part = _PARTS[messages.get().decode()]

    from utils.levels.env_configs import ENV_CONFIGS
    from utils.levels.rail_envs import make_rail_env
    from utils.simulator.rail_state import RailState

    compile_part(RailState.from_env(make_rail_env(ENV_CONFIGS["Tiny"], 0)))
    send(b"")


def _compile_safe_moves(state: "RailState") -> None:
    import numpy as np

    from utils.safe_moves.safe_moves import SafeMoves

    safe_moves = SafeMoves()
    safe_moves.restrict(state, np.ones((state.n_trains, 5), dtype=np.bool_))
    safe_moves.settle(state, np.zeros(state.n_trains, dtype=np.int64))


def _compile_planner(state: "RailState") -> None:
    import numpy as np

    from utils.observation.feature_sets import get_feature_set
    from utils.observation.kept_plans import warm_up_plans
    from utils.observation.observer import Observer

    kept = warm_up_plans(state)
    feature_set, all_trains = get_feature_set("tree_plan"), np.ones(state.n_trains, dtype=np.bool_)
    features = np.zeros((state.n_trains, feature_set.n_features), dtype=np.float32)
    Observer(feature_set, safe_moves=False).fill_plan(state, kept, all_trains, features[:, feature_set.plan_features])


_SAFE_MOVES, _PLANNER = "safe moves", "planner"
_PARTS = {_SAFE_MOVES: _compile_safe_moves, _PLANNER: _compile_planner}


def _compile_the_rest(feature_set: "FeatureSet") -> None:
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
    # without what belongs to safe moves and plans
    Observer(replace(feature_set, with_routes=False, with_plan=False, more=None), safe_moves=False).observe(state)
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
