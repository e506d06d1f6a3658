"""Experience: plays training levels and hands out what is learned from.

For the trainer it is the same where that happens: :class:`LocalExperience` plays in this process,
``rollout_workers.RolloutWorkers`` in other processes, and ``ray_experience.RayExperience`` on Ray.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reinforcement_learning.playing.episode_result import EpisodeResult
from reinforcement_learning.playing.policy import Policy
from reinforcement_learning.playing.rollout import Learning, Rollout
from reinforcement_learning.playing.train_settings import TrainSettings
from utils.levels.playable_levels import PlayableLevels
from utils.observation.observer import Observer
from utils.simulator.rail_state import RailState
from utils.system.stopwatch import Stopwatch


@dataclass(frozen=True)
class FinishedEpisode:
    """A training level that has been played to its end."""

    level_number: int
    result: EpisodeResult


@dataclass(frozen=True)
class UnfinishedEpisode:
    """A training level that has been begun and not finished, with what is needed to come back to where it is."""

    slot: int
    level_number: int
    actions: Sequence[npt.NDArray[np.int8]] = field(default_factory=list)  # all so far, [trains] for each step
    train_settings: TrainSettings | None = None  # None: it begins again, with new settings


class ExperienceError(RuntimeError):
    """Processes or devices that play or learn elsewhere cannot go on; the message is one sentence."""

    saved = False  # whether a checkpoint was saved then


class Experience(ABC):
    """Plays training levels, each once. Rows go straight to the learners; results of episodes come from here."""

    @property
    @abstractmethod
    def next_level(self) -> int:
        """The level to begin next; all before it are finished or unfinished."""

    @abstractmethod
    def play(self) -> list[FinishedEpisode]:
        """Plays on for a while; returns the episodes that have ended."""

    def go_on(self) -> None:  # noqa: B027 (what plays in this process waits meanwhile)
        """Gives new work to processes that play elsewhere. To be called often during other work; never waits."""

    def metrics(self) -> dict[str, float]:
        """Numbers that tell how it is doing, by the names of metrics."""
        return {}

    @abstractmethod
    def unfinished(self) -> list[UnfinishedEpisode]:
        """The episodes under way, for a checkpoint."""

    @abstractmethod
    def resume(self, next_level: int, unfinished: Sequence[UnfinishedEpisode]) -> None:
        """Goes on from a checkpoint; to be called before anything is played."""

    def close(self) -> None:  # noqa: B027 (what plays in this process ends with it)
        """Ends whatever runs elsewhere; ``unfinished`` can still be asked."""


class LocalExperience(Experience):
    """Plays in this process, ``n_slots`` levels side by side.

    ``play`` is one step of every environment. An unfinished episode is resumed where it was, by its actions.

    Args:
        levels: what is played.
        n_levels: levels from this number on are not played.
        observer, policies, learning, stopwatch: see ``Rollout``.
        train_settings: who drives the trains of a level, by its number and its state at the start.
        n_slots: environments side by side.
    """

    next_level = 0

    def __init__(
        self,
        levels: PlayableLevels,
        n_levels: int,
        observer: Observer,
        policies: Sequence[Policy],
        learning: Learning,
        train_settings: Callable[[int, RailState], TrainSettings],
        *,
        n_slots: int,
        stopwatch: Stopwatch,
    ) -> None:
        self._levels, self._n_levels = levels, n_levels
        self._observer, self._policies, self._learning = observer, policies, learning
        self._train_settings, self._n_slots, self._stopwatch = train_settings, n_slots, stopwatch
        self._in_play: dict[int, tuple[int, TrainSettings]] = {}  # level numbers and settings by slot
        self._resumed: list[UnfinishedEpisode] = []  # until the first step
        self._rollout: Rollout | None = None

    def play(self) -> list[FinishedEpisode]:
        if self._rollout is None:
            self._rollout = self._make_rollout()
        rollout = self._rollout
        # a training resumed with a smaller number has more in play until enough of them are over
        n_to_start = min(self._n_slots - len(rollout.playing), self._n_levels - self.next_level)
        for slot in rollout.free[: max(n_to_start, 0)]:
            self._start_level(rollout, slot, self.next_level)
            self.next_level += 1
        return [FinishedEpisode(self._in_play.pop(slot)[0], result) for slot, result in rollout.step()]

    def unfinished(self) -> list[UnfinishedEpisode]:
        rollout = self._rollout
        if rollout is None:
            return list(self._resumed)
        playing = rollout.playing
        return [
            # one that was over when something broke, before anybody got its result, begins again
            UnfinishedEpisode(slot, level_number, rollout.history(slot) if slot in playing else [], train_settings)
            for slot, (level_number, train_settings) in self._in_play.items()
        ]

    def resume(self, next_level: int, unfinished: Sequence[UnfinishedEpisode]) -> None:
        self.next_level = next_level
        self._resumed = list(unfinished)

    def _make_rollout(self) -> Rollout:
        """The environments, with the episodes that a checkpoint has caught in their middle where they were."""
        rollout = Rollout(
            self._observer,
            self._policies,
            self._levels.n_trains,
            n_slots=max([self._n_slots, *(episode.slot + 1 for episode in self._resumed)]),
            learning=self._learning,
            stopwatch=self._stopwatch,
        )
        begun = {}
        for episode in self._resumed:
            simulator = self._levels.simulator(episode.level_number)
            train_settings, actions = episode.train_settings, episode.actions
            if train_settings is None or not self._can_go_on(episode, simulator.state):
                train_settings, actions = self._train_settings(episode.level_number, simulator.state), []
            begun[episode.slot] = simulator, train_settings, actions
            self._in_play[episode.slot] = episode.level_number, train_settings
        rollout.replay(begun)
        self._resumed = []
        return rollout

    def _can_go_on(self, episode: UnfinishedEpisode, state: RailState) -> bool:
        """Whether an episode fits its level; after a change of options it may not."""
        settings = episode.train_settings
        assert settings is not None
        shapes = {np.shape(value) for value in (*vars(settings).values(), *episode.actions)}
        return shapes <= {(), (state.n_trains,)} and len(episode.actions) < state.max_episode_steps

    def _start_level(self, rollout: Rollout, slot: int, level_number: int) -> None:
        self._stopwatch.start()
        simulator = self._levels.simulator(level_number)
        self._stopwatch.lap("reset")
        train_settings = self._train_settings(level_number, simulator.state)
        rollout.start(slot, simulator, train_settings)
        self._in_play[slot] = level_number, train_settings
