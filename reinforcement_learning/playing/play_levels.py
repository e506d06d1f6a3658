"""Scores a policy on levels, greedily; nothing here can reach a replay buffer."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.playing.policy import Policy
from reinforcement_learning.playing.rollout import Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from utils.levels.env_configs import ENV_CONFIGS
from utils.levels.rail_envs import make_rail_env
from utils.observation.kept_plans import warm_up_plans
from utils.observation.observer import Observer
from utils.simulator.deadlock_check import deadlocked
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import Simulator
from utils.system.stopwatch import Stopwatch

# Each RailEnv in play holds a million malfunction draws, 9 MB; more at a time would hardly be faster.
LEVELS_AT_A_TIME = 8


def warm_up(policy: Policy, observer: Observer) -> None:
    """Plays a step of a small level: what is compiled or loaded once, is, for processes forked from here on as well."""
    env = make_rail_env(ENV_CONFIGS["Tiny"], 0)
    state = RailState.from_env(env)
    actions = policy.act(*observer.observe(state))
    observer.settle(state, actions)
    observer.settle(RailState.from_env(env), actions)  # of a state without a plan moves are judged
    deadlocked(state)
    if observer.feature_set.with_plan:
        warm_up_plans(state)


def play_levels(
    levels: Iterable[Simulator],
    observer: Observer,
    policy: Policy,
    *,
    stopwatch: Stopwatch | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[EpisodeResult]:
    """Plays each level once with one policy; the results are in the order of the levels.

    Ends early, with less, when ``should_stop`` says so between two steps.
    """
    return play_levels_together(
        levels,
        observer,
        [policy],
        lambda number, state: np.zeros(state.n_trains, dtype=np.int64),
        stopwatch=stopwatch,
        should_stop=should_stop,
    )


def play_levels_together(
    levels: Iterable[Simulator],
    observer: Observer,
    policies: Sequence[Policy],
    policy_of_train: Callable[[int, RailState], npt.NDArray[np.int64]],
    *,
    stopwatch: Stopwatch | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[EpisodeResult]:
    """As :func:`play_levels`, with several policies; ``policy_of_train`` names the one of each train of a level.

    It is asked with the number of the level, from 0 on, and with its state at the start.
    """
    waiting = enumerate(levels)
    number, simulator = next(waiting, (-1, None))
    results: dict[int, EpisodeResult] = {}
    numbers: dict[int, int] = {}  # of the level that plays in a slot
    rollout: Rollout | None = None
    while not should_stop():
        while simulator is not None and (rollout is None or rollout.free):
            n_trains = simulator.state.n_trains
            if rollout is None or n_trains > rollout.n_trains:
                if rollout is not None and rollout.playing:
                    break  # those that play come to their end first
                rollout = Rollout(observer, policies, n_trains, n_slots=LEVELS_AT_A_TIME, stopwatch=stopwatch)
            slot = rollout.free[0]
            numbers[slot] = number
            rollout.start(slot, simulator, TrainSettings(policy_of_train=policy_of_train(number, simulator.state)))
            number, simulator = next(waiting, (-1, None))
        if rollout is None or not rollout.playing:
            break
        for slot, result in rollout.step():
            results[numbers.pop(slot)] = result
    return [results[number] for number in sorted(results)]
