"""What runs inside a level process: it reads which levels to make and writes them. See ``level_pool``.

What takes seconds to import is imported late: until then the process already ends with its parent.
"""

import gc
import pickle
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from utils.system.child_main import Messages, serve

if TYPE_CHECKING:
    from utils.levels.level_pool import Level, Planning
    from utils.levels.level_streams import TrainingLevels


def main() -> None:
    """Serves the parent until it hangs up; never returns."""
    serve(_make_levels)


def _make_levels(messages: Messages, send: Callable[[bytes], None]) -> None:
    gc.disable()  # imports leave no garbage that is worth the time
    from utils.levels.env_configs import ENV_CONFIGS
    from utils.levels.level_pool import Kind
    from utils.levels.level_streams import TrainingLevels

    warnings.simplefilter("ignore")  # the parent warns of everything itself
    config, seed, plan = pickle.loads(messages.get())
    _answer(TrainingLevels(ENV_CONFIGS["Tiny"], 0), plan, (0, 0))  # compiles what is to be compiled
    levels = TrainingLevels(config, seed)
    gc.freeze()  # what is there now stays for good and need not be searched again and again
    gc.enable()
    send(pickle.dumps((Kind.READY,)))
    while True:
        send(pickle.dumps(_answer(levels, plan, pickle.loads(messages.get()))))


def _answer(levels: "TrainingLevels", plan: "Planning | None", level: "Level") -> tuple[Any, ...]:
    """Kind, level and content of an ``Answer``."""
    from utils.levels.level_pool import Kind
    from utils.levels.packed_level import pack_level
    from utils.simulator.compiled_simulator import CompiledSimulator
    from utils.simulator.unsupported_level import UnsupportedLevel

    try:
        simulator = CompiledSimulator.from_env(levels.make(*level))
        if plan is not None:
            plan(simulator.state)
        return Kind.LEVEL, level, pack_level(simulator)
    except UnsupportedLevel as error:
        return Kind.LEVEL, level, error
    except Exception as error:  # the parent makes the level itself and meets the same
        return Kind.FAILED, level, f"{type(error).__name__}: {error}"
