"""Scores a policy on levels, greedily; nothing here can reach a replay buffer."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.policy import Policy
from reinforcement_learning.rollout import EpisodeResult, Rollout, Stopwatch
from utils.observation_utils import Observer
from utils.simulator import FlatlandSimulator

# Each RailEnv in play holds a million malfunction draws, 9 MB; more at a time would hardly be faster.
LEVELS_AT_A_TIME = 4


def play_levels(
    levels: Iterable[RailEnv],
    observer: Observer,
    policy: Policy,
    *,
    stopwatch: Stopwatch | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[EpisodeResult]:
    """Plays each level once, on flatland-rl itself; the results are in the order of the levels.

    Ends early, with less, when ``should_stop`` says so between two steps.
    """
    waiting = enumerate(levels)
    results: dict[int, EpisodeResult] = {}
    numbers: dict[int, int] = {}  # of the level that an environment plays
    rollout: Rollout | None = None
    while not should_stop():
        while rollout is None or rollout.free:
            number, env = next(waiting, (-1, None))
            if env is None:
                break
            if rollout is None:
                n_trains = env.get_num_agents()
                rollout = Rollout(observer, policy, n_trains, n_envs=LEVELS_AT_A_TIME, stopwatch=stopwatch)
            place = rollout.free[0]
            numbers[place] = number
            rollout.start(place, FlatlandSimulator(env))
        if rollout is None or not rollout.playing:
            break
        for place, result in rollout.step():
            results[numbers.pop(place)] = result
    return [results[number] for number in sorted(results)]


def evaluation_metrics(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """Minimum, maximum, mean and standard deviation of scores, completions and steps, and what became of the rest."""
    metrics = {}
    measured: dict[str, list[float]] = {
        "scores": [result.score for result in results],
        "completions": [result.completion for result in results],
        "nb_steps": [result.n_steps for result in results],
    }
    for name, values in measured.items():
        metrics[f"evaluation/{name}_min"] = float(np.min(values))
        metrics[f"evaluation/{name}_max"] = float(np.max(values))
        metrics[f"evaluation/{name}_mean"] = float(np.mean(values))
        metrics[f"evaluation/{name}_std"] = float(np.std(values))
    metrics["evaluation/deadlocked"] = float(np.mean([result.deadlocked for result in results]))
    metrics["evaluation/never_departed"] = float(np.mean([result.never_departed for result in results]))
    return metrics


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; the error of a single value is not known (nan)."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return float(np.mean(values)), error
