"""Plays the same levels with several players and sums up what each of them reached."""

import multiprocessing
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.multi_policy.mapping import PolicyMapping
from reinforcement_learning.multi_policy.modes import make_mapping
from reinforcement_learning.playing.episode_result import EpisodeResult, mean_and_standard_error
from reinforcement_learning.playing.play_levels import (
    play_by_rule,
    play_each_train_alone,
    play_levels,
    play_levels_together,
    warm_up,
)
from reinforcement_learning.playing.policy import Policy
from reinforcement_learning.saving.checkpointing import CheckpointError, load_policies, load_policy
from reinforcement_learning.scoring.heuristics import RULES
from reinforcement_learning.scoring.planning import Planner, PlanningOptions, warm_up_planning
from reinforcement_learning.settings.arguments import BEST_POLICY, MAPPING
from utils.levels.env_configs import EnvConfig
from utils.levels.flatland_workarounds import clear_flatland_caches
from utils.levels.level_snapshot import LevelSnapshot
from utils.levels.rail_envs import make_rail_env
from utils.levels.saved_levels import SavedEnv
from utils.observation.observer import Observer
from utils.pictures.rendering import EpisodeRecorder, RecordedSimulator, save_film
from utils.simulator.rail_state import RailState
from utils.simulator.simulator import FlatlandSimulator
from utils.system.stopwatch import Stopwatch

CEILING = "ceiling"
PLANNING = " with planning"
"""What the name of a checkpoint ends in where it plans while it plays."""
NAMES = (*RULES, CEILING)
"""The players that are no checkpoints."""


class Player(Protocol):
    """Plays levels, one after the other and each by itself."""

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        """Plays one level to its end; ``seed`` is the level's."""
        ...


@dataclass(frozen=True)
class LearnedPlayer(Player):
    """A trained policy."""

    policy: Policy
    observer: Observer

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        return play_levels([simulator], self.observer, self.policy, stopwatch=stopwatch)[0]


@dataclass(frozen=True)
class PlanningPlayer(Player):
    """A trained policy that plans while it plays."""

    policy: Policy
    observer: Observer
    options: PlanningOptions

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        return play_by_rule(simulator, Planner(self.policy, self.observer, self.options), stopwatch=stopwatch)


@dataclass(frozen=True)
class RulePlayer(Player):
    """A rule of :data:`~.heuristics.RULES`, made anew for each level."""

    name: str

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        return play_by_rule(simulator, RULES[self.name](seed), stopwatch=stopwatch)


class CeilingPlayer(Player):
    """Each train alone on the map."""

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        stopwatch = stopwatch or Stopwatch()
        stopwatch.start()
        result = play_each_train_alone(simulator.env)
        stopwatch.lap("step")
        return result


@dataclass(frozen=True)
class PopulationPlayer(Player):
    """All policies of a training, mapped onto the trains as they were in training; the level's seed is the episode."""

    policies: Sequence[Policy]
    observer: Observer
    mapping: PolicyMapping

    def play(self, simulator: FlatlandSimulator, seed: int, stopwatch: Stopwatch | None = None) -> EpisodeResult:
        def policy_of_train(number: int, state: RailState) -> npt.NDArray[np.int64]:
            return self.mapping.policy_of_train(seed, state)

        return play_levels_together([simulator], self.observer, self.policies, policy_of_train, stopwatch=stopwatch)[0]


def with_planned(names: Sequence[str]) -> list[str]:
    """The same players, each checkpoint followed by itself with planning."""
    return [player for name in names for player in ([name] if name in NAMES else [name, name + PLANNING])]


def load_player(name: str, policy_index: int | str = BEST_POLICY, plan_seconds: float = 0.0) -> Player:
    """The player that a checkpoint's path or one of :data:`NAMES` stands for.

    Args:
        name: the path or the name; a path may be followed by :data:`PLANNING`.
        policy_index: which policy of a checkpoint: its number, the best one, or all as in training.
        plan_seconds: most that a step may take to plan, for players that do.

    Raises:
        CheckpointError: it is neither, or the checkpoint cannot be used.
        MissingPackageError: the rule needs a package that is not installed.
        ConfigError: the mapping of the training cannot be found any more.
    """
    if name == CEILING:
        return CeilingPlayer()
    if name in RULES:
        RULES[name](0)  # a package that it lacks is missed now
        return RulePlayer(name)
    name, plans = name.removesuffix(PLANNING), name.endswith(PLANNING)
    if not Path(name).is_file():
        raise CheckpointError(f"--policy {name} is neither a checkpoint file nor one of {', '.join(NAMES)}.")
    if policy_index == MAPPING:
        policies, observer, config = load_policies(name)
        return PopulationPlayer(policies, observer, make_mapping(config))
    policy, observer = load_policy(name, None if policy_index == BEST_POLICY else int(policy_index))
    warm_up(policy, observer)
    return planning_player(policy, observer, PlanningOptions(plan_seconds) if plans else None)


def planning_player(policy: Policy, observer: Observer, options: PlanningOptions | None) -> Player:
    """A player that plans as the options say, ready to play in time; without options it does not."""
    if options is None:
        return LearnedPlayer(policy, observer)
    warm_up_planning()
    return PlanningPlayer(policy, observer, options)


@dataclass(frozen=True)
class Played:
    """One episode, and the seconds that an average step of it took, simulator included."""

    seed: int
    result: EpisodeResult
    seconds_per_step: float


@dataclass
class Scored:
    """A player's episodes on one environment."""

    policy: str
    config: str
    first_seed: int
    played: list[Played] = field(default_factory=list)

    def values(self, measure: str) -> list[float]:
        """A field of :class:`EpisodeResult`, episode by episode."""
        return [float(getattr(played.result, measure)) for played in self.played]

    @property
    def seconds_per_step(self) -> float:
        """The median over episodes; the first one also loads compiled code."""
        return statistics.median(played.seconds_per_step for played in self.played)

    def as_dict(self) -> dict[str, Any]:
        """The row of the JSON file; standard errors are null for a single episode."""
        score, score_error = mean_and_standard_error(self.values("score"))
        completion, completion_error = mean_and_standard_error(self.values("completion"))
        n = len(self.played)
        return {
            "policy": self.policy,
            "config": self.config,
            "episodes": n,
            "first_seed": self.first_seed,
            "score_mean": score,
            "score_se": score_error if n > 1 else None,
            "completion_mean": completion,
            "completion_se": completion_error if n > 1 else None,
            "deadlock_mean": statistics.fmean(self.values("deadlocked")),
            "never_departed_mean": statistics.fmean(self.values("never_departed")),
            "seconds_per_step": self.seconds_per_step,
            "per_episode": [
                {
                    "seed": played.seed,
                    "score": played.result.score,
                    "completion": played.result.completion,
                    "deadlocked": played.result.deadlocked,
                    "never_departed": played.result.never_departed,
                    "steps": played.result.n_steps,
                }
                for played in self.played
            ],
        }


def table(rows: Sequence[Scored]) -> str:
    """The rows of one environment for people, below them paired differences to the first policy.

    Differences are taken level by level: what makes a level hard or easy cancels out, so their standard errors are
    smaller than those of the rows.
    """
    width = max(len(row.policy) for row in rows)
    n, first = len(rows[0].played), rows[0].first_seed
    levels = f"{n} levels, seeds {first} to {first + n - 1}" if n > 1 else f"1 level, seed {first}"
    lines = [f"{rows[0].config}, {levels}"]
    lines.append(f"{'policy':{width}}  {'score':>15}  {'completion':>15}  deadlocked  never departed  ms/step")
    for row in rows:
        lines.append(
            f"{row.policy:{width}}  {_with_error(row.values('score'))}  {_with_error(row.values('completion'))}  "
            f"{statistics.fmean(row.values('deadlocked')):10.3f}  "
            f"{statistics.fmean(row.values('never_departed')):14.3f}  {1000 * row.seconds_per_step:7.2f}"
        )
    if len(rows) > 1:
        lines.append(f"difference to {rows[0].policy}, level by level")
    for row in rows[1:]:
        differences = [
            _with_error([own - other for own, other in zip(row.values(measure), rows[0].values(measure), strict=True)])
            for measure in ("score", "completion")
        ]
        lines.append(f"{row.policy:{width}}  {'  '.join(differences)}")
    return "\n".join(lines)


def _with_error(values: Sequence[float]) -> str:
    mean, error = mean_and_standard_error(values)
    return f"{mean:7.3f} ± {error:.3f}" if len(values) > 1 else f"{mean:15.3f}"


@dataclass(frozen=True)
class Task:
    """One level, which all players play."""

    config: EnvConfig | SavedEnv
    seed: int


class Scorer:
    """Lets players play levels, in this process or in several.

    A level is made once; each player gets a copy of it that is equal in everything that play depends on.

    Args:
        names: players, see :func:`load_player`.
        policy_index: which policy of checkpoints with several; see :func:`~.arguments.policy_choice`.
        num_workers: processes that play; 1 is this one.
        plan_seconds: see :func:`load_player`.

    Raises:
        CheckpointError, MissingPackageError: see :func:`load_player`.
    """

    def __init__(
        self,
        names: Sequence[str],
        policy_index: int | str = BEST_POLICY,
        num_workers: int = 1,
        plan_seconds: float = 0.0,
    ) -> None:
        self._names = list(names)
        self._arguments = (policy_index, plan_seconds)
        self._num_workers = num_workers
        self._players = [load_player(name, *self._arguments) for name in names]

    def play(self, tasks: Sequence[Task]) -> Iterator[list[Played]]:
        """What came of each task, in their order: an episode for each player."""
        if self._num_workers == 1:
            for task in tasks:
                yield _play(self._players, task)
            return
        # A fork starts at once, where the other ways import PyTorch and flatland again for seconds. It is safe here:
        # nothing has been computed yet that would have started threads.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        arguments = (self._names, *self._arguments)
        num_workers = min(self._num_workers, len(tasks))
        with ProcessPoolExecutor(num_workers, context, _begin_worker, arguments) as workers:
            try:
                yield from workers.map(_play_in_worker, tasks)
            finally:
                workers.shutdown(cancel_futures=True)

    def film(self, task: Task, path: str | Path) -> None:
        """Plays a level with every player, side by side in one film or picture; see ``rendering.save_film``.

        Raises:
            OSError: the file cannot be written, or ffmpeg fails.
        """
        recorders = []
        for name, player, env in zip(
            self._names, self._players, _copies(make_rail_env(task.config, task.seed), len(self._players)), strict=True
        ):
            recorders.append(EpisodeRecorder(env, f"{name}, {task.config.name}, seed {task.seed}"))
            player.play(RecordedSimulator(env, recorders[-1]), task.seed)
        save_film(recorders, path)


def _play(players: Sequence[Player], task: Task) -> list[Played]:
    clear_flatland_caches()
    env = make_rail_env(task.config, task.seed)
    copies = _copies(env, len(players))
    played = []
    for player, copy in zip(players, copies, strict=True):
        stopwatch = Stopwatch()
        result = player.play(FlatlandSimulator(copy), task.seed, stopwatch)
        played.append(Played(task.seed, result, sum(stopwatch.seconds.values()) / result.n_steps))
    return played


def _copies(env: RailEnv, n: int) -> Iterator[RailEnv]:
    """The environment itself ``n`` times as it is now, one at a time."""
    if n > 1:
        snapshot = LevelSnapshot.take(env)
        for _ in range(n - 1):
            yield snapshot.restore()
    yield env


_players_of_worker: list[Player] = []


def _begin_worker(names: Sequence[str], policy_index: int | str, plan_seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was started, which ends this one
    torch.set_num_threads(1)
    _players_of_worker[:] = [load_player(name, policy_index, plan_seconds) for name in names]


def _play_in_worker(task: Task) -> list[Played]:
    return _play(_players_of_worker, task)
