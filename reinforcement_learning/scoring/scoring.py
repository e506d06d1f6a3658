"""Plays the same levels with several players."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from flatland.envs.rail_env import RailEnv

from reinforcement_learning.scoring.players import BEST_POLICY, Player, PopulationPlayer, load_player
from reinforcement_learning.scoring.score_table import Played
from reinforcement_learning.settings.named_code import NOTHING_NAMED, NamedCode
from utils.levels.env_configs import Environment
from utils.levels.flatland_workarounds import clear_flatland_caches
from utils.levels.level_snapshot import LevelSnapshot
from utils.levels.rail_envs import make_rail_env
from utils.pictures.rendering import EpisodeRecorder, RecordedSimulator
from utils.simulator.simulator import FlatlandSimulator
from utils.system.stopwatch import Stopwatch


class WorkerEndedError(RuntimeError):
    """A process that plays levels is no more; the message is one sentence."""


@dataclass(frozen=True)
class Task:
    """One level, which all players play."""

    config: Environment
    seed: int


class Scorer:
    """Lets players play levels, in this process or in several.

    A level is made once; each player gets a copy of it that is equal in everything that play depends on.

    Args:
        policy_index: which policy of checkpoints with several; see :func:`~.players.policy_choice`.
        num_workers: processes that play; 1 is this one.
        plan_seconds, named: see :func:`load_player`.

    Raises:
        CheckpointError, MissingPackageError, ExtensionError, ConfigError: see :func:`load_player`.
    """

    def __init__(
        self,
        names: Sequence[str],
        policy_index: int | str = BEST_POLICY,
        num_workers: int = 1,
        plan_seconds: float = 0.0,
        named: NamedCode = NOTHING_NAMED,
    ) -> None:
        self._names = list(names)
        self._arguments = (policy_index, plan_seconds, named)
        self._num_workers = num_workers
        self._players = [load_player(name, *self._arguments) for name in names]

    def play(self, tasks: Sequence[Task]) -> Iterator[list[Played]]:
        """What came of each task, in their order: an episode for each player.

        Raises:
            WorkerEndedError: a process that plays has been ended by something else.
        """
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
                for future in [workers.submit(_play_in_worker, task) for task in tasks]:
                    yield future.result()
            except BrokenProcessPool as error:
                raise WorkerEndedError(
                    "a process that plays levels has ended in the middle of one; was it killed, or is memory short?"
                ) from error
            except BaseException:  # a level may take minutes to play to its end
                for process in multiprocessing.active_children():
                    process.kill()
                raise

    def record(self, task: Task) -> list[EpisodeRecorder]:
        """Plays a level with every player and records each episode, for films and diagrams."""
        recorders = []
        copies = _copies(make_rail_env(task.config, task.seed), len(self._players))
        for name, player, env in zip(self._names, self._players, copies, strict=True):
            mapping = player.mapping.policy_of_train if isinstance(player, PopulationPlayer) else None
            simulator = RecordedSimulator(
                env, f"{name}, {task.config.name}, seed {task.seed}", mapping and partial(mapping, task.seed)
            )
            player.play(simulator, task.seed)
            recorders.append(simulator.recorder)
        return recorders


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


def _begin_worker(names: Sequence[str], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was started, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _players_of_worker[:] = [load_player(name, *arguments) for name in names]


def _end_with_parent() -> None:
    """Ends this process, whatever has ended the one that started it: it would wait for levels for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _play_in_worker(task: Task) -> list[Played]:
    return _play(_players_of_worker, task)
