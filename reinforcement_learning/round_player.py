"""Plays episodes in rounds, with weights that come from elsewhere: what a process beside the learner does."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from reinforcement_learning.config import TrainingConfig
from reinforcement_learning.crew import Crew
from reinforcement_learning.dddqn_policy import DDDQNPolicy
from reinforcement_learning.experience import FinishedEpisode, PlayableLevels
from reinforcement_learning.exploration import EpsilonSchedule
from reinforcement_learning.reward_shaping import RewardShaping
from reinforcement_learning.rollout import Learning, Rollout, Stopwatch
from reinforcement_learning.transitions import Transitions
from utils.env_configs import resolve_env_config
from utils.level_pool import LevelPool
from utils.observation_utils import Observer, get_feature_set
from utils.random_streams import Stream, generator

TRANSITIONS_IN_ROUND = 256  # a few milliseconds of play: large messages, and weights that are hardly old
MAX_STEPS_IN_ROUND = 32  # of all environments, where trains seldom decide


@dataclass(frozen=True)
class Task:
    """What a player is told once."""

    config: TrainingConfig
    n_trains: int  # in a level
    index: int  # from 1 on, another one for each player; its exploration derives from it


@dataclass(frozen=True)
class RoundRequest:
    """What a player is told for each round."""

    levels: Sequence[tuple[int, bytes | None]]  # more levels to play, packed; None: the player makes the level
    weights: npt.NDArray[np.float32] | None  # None: those it has


@dataclass(frozen=True)
class Round:
    """What has come of a round."""

    transitions: Transitions | None  # None where no train had anything to decide
    finished: Sequence[FinishedEpisode]
    seconds: dict[str, float]  # spent, by part of the work


class RoundPlayer:
    """``num_envs`` episodes side by side, played in rounds; each goes on where the one before has ended.

    A round depends on nothing but its request and those before it, so what a training learns from does not depend on
    who is faster.
    """

    def __init__(self, task: Task) -> None:
        config = task.config
        feature_set = get_feature_set(config.feature_set)
        self._policy = DDDQNPolicy(
            feature_set.n_features,
            config.hidden_size,
            guide=config.guided_exploration,
            route_features=feature_set.route_features,
        )
        self._policy.exploration = generator(config.seed, Stream.EXPLORATION, task.index)
        self._epsilon = EpsilonSchedule(config.eps_start, config.eps_end, config.eps_decay)
        pool = LevelPool(resolve_env_config(config.training_env_config), config.seed, n_workers=0)
        # what there is to say of a level, the process that packs the levels says
        self._levels = PlayableLevels(pool, config.simulator, warn=lambda text: None)
        self._stopwatch = Stopwatch()
        shaping = RewardShaping(config.gamma, config.shaping, config.arrival_reward, config.deadlock_penalty)
        self._rollout = Rollout(
            Observer(feature_set, config.action_mask, config.decision_points, config.safe_moves),
            [self._policy],
            task.n_trains,
            n_envs=config.num_envs,
            learning=Learning(self, shaping, config.n_step),
            stopwatch=self._stopwatch,
        )
        self._waiting: deque[tuple[int, bytes | None]] = deque()
        self._in_play: dict[int, int] = {}  # levels by environment
        self._collected: list[Transitions] = []

    def add(self, transitions: Transitions) -> None:
        """Keeps transitions for the end of the round: it is the sink of its own rollout."""
        self._collected.append(transitions)

    def play(self, request: RoundRequest) -> Round:
        """Plays a round: until there are enough transitions, or no more levels."""
        if request.weights is not None:
            self._policy.set_acting_weights(request.weights)
        self._waiting.extend(request.levels)
        finished: list[FinishedEpisode] = []
        for _ in range(MAX_STEPS_IN_ROUND):
            self._begin_levels()
            if not self._in_play or sum(map(len, self._collected)) >= TRANSITIONS_IN_ROUND:
                break
            finished += [FinishedEpisode(self._in_play.pop(env), result) for env, result in self._rollout.step()]
        done = Round(_joined(self._collected), finished, dict(self._stopwatch.seconds))
        self._collected.clear()
        self._stopwatch.seconds.clear()
        return done

    def _begin_levels(self) -> None:
        for env in self._rollout.free[: len(self._waiting)]:
            level, packed = self._waiting.popleft()
            self._stopwatch.start()
            simulator = self._levels.simulator(level, packed)
            self._stopwatch.lap("reset")
            self._in_play[env] = level
            self._rollout.start(env, simulator, Crew(self._epsilon(level)))


def _joined(parts: Sequence[Transitions]) -> Transitions | None:
    if not parts:
        return None
    names = [row.name for row in fields(Transitions)]
    return Transitions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
