"""Plays episodes in rounds, with weights that it is sent: what a process that plays does."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from reinforcement_learning.dddqn_policy import DDDQNPolicy, GreedyPolicy
from reinforcement_learning.learning.hyperparameters import Hyperparameters
from reinforcement_learning.learning.learner import make_policy
from reinforcement_learning.multi_policy.assignment import Assignment, learning_of
from reinforcement_learning.playing.episode_rows import EpisodeRows, joined
from reinforcement_learning.playing.experience import FinishedEpisode
from reinforcement_learning.playing.policy import Policy
from reinforcement_learning.playing.rollout import Rollout
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.features import feature_set_of, training_observer
from reinforcement_learning.workers.broadcast import News
from utils.levels.level_pool import LevelPool
from utils.levels.playable_levels import PlayableLevels
from utils.system.seeds import Stream, generator
from utils.system.stopwatch import Stopwatch

DECISIONS_IN_ROUND = 256  # of each policy. Some milliseconds of play: large messages, weights that are hardly old
MAX_STEPS_IN_ROUND = 32  # of all environments, for each policy; where trains seldom decide


@dataclass(frozen=True)
class Task:
    """What a process that plays is told at its start."""

    config: TrainingConfig
    n_trains: int  # in a level
    index: int  # from 1 on, another one for each process; its exploration derives from it
    level_workers: int = 0  # processes that make levels ahead, where those do not come with the requests


@dataclass(frozen=True)
class RoundRequest:
    """What it is told for each round."""

    levels: Sequence[tuple[int, bytes | None]]  # more levels to play, packed; None: the process makes the level
    news: News
    opened: tuple[int, ...] | None = None  # of ``TrainingLevels``, for levels that it makes; None: as before


@dataclass(frozen=True)
class Round:
    """The result of a round."""

    rows: EpisodeRows | None  # of the episodes that have ended; None where there are none
    finished: Sequence[FinishedEpisode]
    seconds: dict[str, float]  # spent, by part of the work
    said: Sequence[str] = ()  # what the user should know of the levels


class RoundPlayer:
    """``num_envs`` episodes of all policies side by side, in rounds; each goes on where the one before has ended.

    A round depends on nothing but its request and those before it, so what a training learns from does not depend on
    who is faster.
    """

    def __init__(self, task: Task) -> None:
        self._config = config = task.config
        feature_set = feature_set_of(config)
        self._feature_set = feature_set
        self._learning = [self._new_policy(p) for p in range(config.num_policies)]
        for p, policy in enumerate(self._learning):
            policy.exploration = generator(config.seed, Stream.EXPLORATION, task.index * config.num_policies + p)
        self._policies: list[Policy] = list(self._learning)  # and behind them older copies
        self._assignment = Assignment(config)
        self._hyperparameters: Sequence[Hyperparameters] = [Hyperparameters.of(config)] * config.num_policies
        self._said: list[str] = []
        observer = training_observer(config, feature_set)
        self._pool = LevelPool(
            config.training_env, config.seed, task.level_workers, plan=observer.plan_ahead, warn=self._said.append
        )
        self._levels = PlayableLevels(self._pool, config.simulator, warn=self._said.append)
        self._stopwatch = Stopwatch()
        self._rollout = Rollout(
            observer,
            self._policies,
            task.n_trains,
            n_slots=config.num_envs,
            learning=learning_of(config, self),
            stopwatch=self._stopwatch,
        )
        self._waiting: deque[tuple[int, bytes | None]] = deque()
        self._in_play: dict[int, int] = {}  # level numbers by slot
        self._collected: list[EpisodeRows] = []

    def _new_policy(self, index: int) -> DDDQNPolicy:
        return make_policy(self._config, self._feature_set, index, "cpu")

    def add(self, rows: EpisodeRows) -> None:
        """Keeps what is learned from for the end of the round: it is the sink of its own rollout."""
        self._collected.append(rows)

    def play(self, request: RoundRequest) -> Round:
        """Plays a round: until there were enough decisions, or no more levels."""
        self._take_over(request.news)
        self._waiting.extend(request.levels)
        if request.opened is not None:
            self._pool.levels.opened = request.opened
        if request.levels:
            self._pool.expect([level_number for level_number, packed in self._waiting if packed is None])
        finished: list[FinishedEpisode] = []
        n_policies = len(self._learning)
        enough = self._rollout.n_decisions + DECISIONS_IN_ROUND * n_policies
        for _ in range(MAX_STEPS_IN_ROUND * n_policies):
            self._begin_levels()
            if not self._in_play or self._rollout.n_decisions >= enough:
                break
            finished += [FinishedEpisode(self._in_play.pop(slot), result) for slot, result in self._rollout.step()]
        rows = joined(self._collected) if self._collected else None
        done = Round(rows, finished, dict(self._stopwatch.seconds), tuple(self._said))
        self._collected.clear()
        self._stopwatch.seconds.clear()
        self._said.clear()
        return done

    def _take_over(self, news: News) -> None:
        for p, weights in news.weights.items():
            self._learning[p].set_acting_weights(weights)
        if news.hyperparameters is not None:
            self._hyperparameters = news.hyperparameters
        if news.past_selves is not None:
            copies = [self._new_policy(c % len(self._learning)) for c in range(len(news.past_selves))]
            for copy, weights in zip(copies, news.past_selves, strict=True):
                copy.set_acting_weights(weights)
            self._assignment.past_selves.policies[:] = [GreedyPolicy(copy.q_network, copy.device) for copy in copies]
            self._policies[len(self._learning) :] = self._assignment.past_selves.policies

    def _begin_levels(self) -> None:
        for slot in self._rollout.free[: len(self._waiting)]:
            level_number, packed = self._waiting.popleft()
            self._stopwatch.start()
            simulator = self._levels.simulator(level_number, packed)
            self._stopwatch.lap("reset")
            self._in_play[slot] = level_number
            self._rollout.start(
                slot, simulator, self._assignment.train_settings(level_number, simulator.state, self._hyperparameters)
            )
