"""A process of its own that makes and plays levels, by flatland-rl alone or as evaluate_agent.py does.

    python benchmarks/scoring_cost.py bare ACTIONS.json | scored CHECKPOINT NUM_WORKERS

``benchmarks/submission.py`` starts it. It prints what it took as JSON: seconds of the start (imports, checkpoint) and
of the levels, by the clock and of processors, with those processes that it starts counted in.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

SEEDS = range(1000, 1050)
CONFIG = "Test_1"


def _cpu() -> float:
    used = psutil.Process().cpu_times()
    return float(used.user + used.system + used.children_user + used.children_system)


def _bare(actions: str) -> Callable[[], None]:
    """Levels made and stepped by flatland-rl alone, with actions that are known already."""
    from utils.levels.env_configs import ENV_CONFIGS
    from utils.levels.flatland_workarounds import clear_flatland_caches, quiet_generation
    from utils.levels.rail_envs import unset_rail_env

    chosen = json.loads(Path(actions).read_text())

    def play() -> None:
        for seed in SEEDS:
            with quiet_generation():
                env = unset_rail_env(ENV_CONFIGS[CONFIG], seed)
                env.reset(True, True, random_seed=seed)
            for of_step in chosen[str(seed)]:
                env.step(dict(enumerate(of_step)))
            clear_flatland_caches()  # without it the later levels of a long run would be slower

    return play


def _scored(checkpoint: str, num_workers: str) -> Callable[[], None]:
    """The same levels by evaluate_agent's way."""
    gc.disable()  # as evaluate_agent.py does
    import torch

    from reinforcement_learning.evaluate_agent import Scorer, Task
    from utils.levels.env_configs import ENV_CONFIGS

    gc.freeze()
    gc.enable()
    torch.set_num_threads(1)
    scorer = Scorer([checkpoint], num_workers=int(num_workers))

    def play() -> None:
        for _ in scorer.play([Task(ENV_CONFIGS[CONFIG], seed) for seed in SEEDS]):
            pass

    return play


def main() -> None:
    """Measures as the command line says."""
    started = time.time()  # the interpreter's own start, some hundredths of a second, comes before
    what, *arguments = sys.argv[1:]
    play = _bare(*arguments) if what == "bare" else _scored(*arguments)
    ready, ready_cpu = time.time(), _cpu()
    play()
    of_levels = {"levels": time.time() - ready, "levels_cpu": _cpu() - ready_cpu}
    print(json.dumps({"start": ready - started, "start_cpu": ready_cpu, **of_levels}))


if __name__ == "__main__":
    main()
