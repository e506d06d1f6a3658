"""Experience from rollout actors on any number of machines. Transitions go straight from them to the learners.

Each rollout actor plays a round of some hundred transitions with the newest weights that it was sent, and leaves what
it has collected in Ray's object store; this process hands the reference on to the learners, which fetch it from
there. All that passes through here are small reports. Rollout actors are only asked for more while the learners keep
up, and a learner takes exactly the steps that are due for what it has got, so the ratio of ``update_every`` holds
whichever side is faster.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import ray
from ray.exceptions import ObjectLostError

from reinforcement_learning.distributed.answers import ActorsError, Answers, reason_of
from reinforcement_learning.distributed.remote_learner import RemoteLearner
from reinforcement_learning.distributed.remote_rollout import RemoteRollout
from reinforcement_learning.distributed.rollout_actor import Report
from reinforcement_learning.distributed.session import n_rollout_actors
from reinforcement_learning.multi_policy.past_selves import PastSelves
from reinforcement_learning.playing.experience import Experience, FinishedEpisode, UnfinishedEpisode
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.workers.broadcast import Broadcast, Listener
from reinforcement_learning.workers.level_queue import LevelQueue
from reinforcement_learning.workers.round_player import Task
from utils.levels.playable_levels import PlayableLevels
from utils.system.stopwatch import Stopwatch

MAX_ENDED = 3  # rollout actors in a row, none of which has played a round
SECONDS_FOR_A_ROUND = 300  # a rollout actor that takes longer is taken for dead
_ROUNDS_WAITING = 2  # beyond one for each rollout actor, that were asked for and not learned from
_ROUNDS_ASKED = 2  # of one rollout actor: it plays the second while the first is on its way
_SECONDS_TO_WAIT = 0.1  # before the training may ask again whether it should stop


class RayExperience(Experience):
    """Experience from rollout actors; ``play`` waits for whatever comes next.

    Unfinished episodes are resumed from their beginnings. A rollout actor that ends is replaced, and its episodes are
    begun again.

    Args:
        levels: what is played; the actors make their own.
    """

    def __init__(
        self,
        config: TrainingConfig,
        levels: PlayableLevels,
        learners: Sequence[RemoteLearner],
        past_selves: PastSelves,
        answers: Answers,
        *,
        stopwatch: Stopwatch,
        warn: Callable[[str], None],
    ) -> None:
        self._config, self._levels, self._learners = config, levels, learners
        self._answers, self._stopwatch, self._warn = answers, stopwatch, warn
        self._queue = LevelQueue(config.n_episodes, n_rollout_actors(config))
        self._rollouts: list[RemoteRollout] = []  # those asked longest ago come first
        self._finished: list[FinishedEpisode] = []  # and not handed out yet
        self._n_started = 0
        self._broadcast = Broadcast(learners, past_selves, ray.put)
        self._said: set[str] = set()

    @property
    def next_level(self) -> int:
        return self._queue.next_level

    def play(self) -> list[FinishedEpisode]:
        """Waits for a moment for what comes next; returns the episodes that have ended.

        Raises:
            ActorsError: actors end again and again.
        """
        if not self._rollouts:
            self._start()
        if not self._finished:
            self._advance(_SECONDS_TO_WAIT)
        finished, self._finished = self._finished, []
        return finished

    def go_on(self) -> None:
        if self._rollouts:
            self._advance(0)

    def metrics(self) -> dict[str, float]:
        """How far the actors are apart."""
        lags = [lag for learner in self._learners for lag in learner.lags]
        for learner in self._learners:
            learner.lags.clear()
        row = {
            "lag/rounds_ahead": self._n_ahead(),
            "system/rollout_actors": float(sum(rollout.is_ready for rollout in self._rollouts)),
        }
        return row | ({"lag/learning_steps": sum(lags) / len(lags)} if lags else {})

    def unfinished(self) -> list[UnfinishedEpisode]:
        # without their actions, which are not known here
        in_play = [number for rollout in self._rollouts for number in rollout.levels]
        # what has not been handed out has not been counted either
        levels = sorted([*self._queue.lost, *in_play, *(episode.level_number for episode in self._finished)])
        return [UnfinishedEpisode(slot, level_number) for slot, level_number in enumerate(levels)]

    def resume(self, next_level: int, unfinished: Sequence[UnfinishedEpisode]) -> None:
        self._queue.resume(next_level, (episode.level_number for episode in unfinished))

    def close(self) -> None:
        for rollout in self._rollouts:
            rollout.end()

    # --- rounds --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        n_rollouts = min(n_rollout_actors(self._config), self._queue.n_left)
        self._warn_about_cores(n_rollouts + len(self._learners))
        for _ in range(n_rollouts):
            self._add_rollout()
        self._answers.while_waiting = self._look_for_progress

    def _warn_about_cores(self, needed: int) -> None:
        cores = ray.cluster_resources().get("CPU", 0)
        if cores < needed:
            self._warn(
                f"the Ray cluster has {cores:g} cores, but {needed} actors take one each: those that do not fit in "
                "wait until there is room."
            )

    def _add_rollout(self, n_ended: int = 0) -> None:
        # a resumed training counts on from its level, or its actors would draw the same random numbers again
        self._n_started += 1
        task = Task(self._config, self._levels.n_trains, self.next_level + self._n_started, self._config.level_workers)
        rollout = RemoteRollout(task, Listener(self._broadcast), n_ended)
        self._rollouts.append(rollout)
        self._answers.expect(rollout.started, lambda nothing: rollout.begin(), partial(self._replace, rollout))

    def _advance(self, seconds: float) -> None:
        """Asks for rounds, then takes what has come; waits so long for the first."""
        self._ask()
        if self._answers.take(seconds):
            self._ask()
        for rollout in self._rollouts:
            if rollout.asked and time.monotonic() - rollout.asked[0] > SECONDS_FOR_A_ROUND:
                self._replace(rollout, TimeoutError(f"no round in {SECONDS_FOR_A_ROUND} seconds"))
                break
        self._look_for_progress()

    def _look_for_progress(self) -> None:
        if self._n_ahead() or self._queue.n_left:  # not at the end, where there is nothing to learn from
            is_played = any(rollout.is_ready for rollout in self._rollouts)
            reason = "the rollout actors send it nothing" if is_played else "no rollout actor has started yet"
            for learner in self._learners:
                learner.warn_without_progress(reason)

    def _n_ahead(self) -> int:
        """Rounds that were asked for and that not all learners have learned from."""
        return sum(len(rollout.asked) for rollout in self._rollouts) + max(
            learner.waiting for learner in self._learners
        )

    def _ask(self) -> None:
        """Asks rollout actors for rounds, in turn, unless they are far enough ahead."""
        if not all(learner.is_ready for learner in self._learners):
            return
        playing = [rollout for rollout in self._rollouts if rollout.is_ready]
        while self._n_ahead() < len(playing) + _ROUNDS_WAITING:
            able = [r for r in playing if len(r.asked) < _ROUNDS_ASKED and (r.levels or self._queue.n_left)]
            if not able:
                return
            rollout = min(able, key=lambda r: len(r.asked))
            # as many again as it plays, to be made meanwhile
            levels = self._queue.take(2 * self._config.num_envs + 1 - len(rollout.levels))
            ages = [learner.newest_weights[0] for learner in self._learners]
            report, parts, weights = rollout.ask(levels, self._levels.opened)
            failed = partial(self._failed, rollout, levels, weights)
            self._answers.expect(report, self._taking_over(rollout, parts, ages), failed)
            for turns in (self._rollouts, playing):
                turns.remove(rollout)
                turns.append(rollout)

    def _taking_over(
        self, rollout: RemoteRollout, parts: Sequence["ray.ObjectRef"], ages: Sequence[int]
    ) -> Callable[[Report], None]:
        def take_over(report: Report) -> None:
            done, policies = report
            if rollout not in self._rollouts:
                return  # it was replaced, and its levels are begun again
            rollout.played([episode.level_number for episode in done.finished])
            for p in policies:
                self._learners[p].take(parts[p], ages[p])
            self._finished += done.finished
            for part, seconds in done.seconds.items():
                self._stopwatch.seconds[part] += seconds
            for sentence in set(done.said) - self._said:
                self._said.add(sentence)
                self._warn(sentence)

        return take_over

    def _failed(
        self, rollout: RemoteRollout, levels: Sequence[int], weights: Mapping[int, "ray.ObjectRef"], error: Exception
    ) -> None:
        """The actor has ended, unless it is the weights that were lost, with the machine on which they lay."""
        if rollout not in self._rollouts or not isinstance(error, ObjectLostError):
            self._replace(rollout, error)
            return
        rollout.not_played(levels)
        self._queue.give_back(levels)
        for policy, lost in weights.items():
            self._learners[policy].lost_weights(lost)

    def _replace(self, rollout: RemoteRollout, error: Exception) -> None:
        """Another actor takes its place; its levels are begun again, by whichever actor is free first."""
        if rollout not in self._rollouts:
            return
        self._rollouts.remove(rollout)
        rollout.end()
        self._queue.give_back(rollout.levels)
        if rollout.n_ended + 1 >= MAX_ENDED:
            raise ActorsError(f"the rollout actors end again and again ({reason_of(error)}).") from error
        self._warn(
            f"a rollout actor has ended ({reason_of(error)}); another takes its place and {len(rollout.levels)} "
            "episodes begin again."
        )
        self._add_rollout(rollout.n_ended + 1)
