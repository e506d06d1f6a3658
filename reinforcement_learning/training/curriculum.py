"""A curriculum: a training begins with the first of its environments, and the others are added one by one."""

from collections.abc import Callable
from statistics import fmean
from typing import Any

from reinforcement_learning.playing.experience import Experience, FinishedEpisode
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.tracking.metrics import ENVIRONMENT_ADDED
from utils.levels.level_streams import TrainingLevels

WINDOW = 50  # episodes of the newest environment whose mean completion counts
ENOUGH = 0.9  # completion at which the network can do what there is
PATIENCE = 100  # episodes of the newest environment in which that mean does not rise


class Curriculum:
    """Knows which environments of a training are open, and adds the next one when the network is ready for it.

    An environment is added from the first level that nobody has begun, so it does not matter who plays the levels and
    how many are made ahead. Without ``--curriculum`` all are open from the beginning.

    Args:
        levels: of the training; their ``opened`` is set here.
        is_demonstration: whether the plan plays a level, by its number: that tells nothing about the network.
    """

    def __init__(
        self,
        config: TrainingConfig,
        levels: TrainingLevels,
        experience: Experience,
        is_demonstration: Callable[[int], bool],
        message: Callable[[str], None],
    ) -> None:
        self._config, self._levels, self._experience = config, levels, experience
        self._is_demonstration, self._message = is_demonstration, message
        if config.curriculum:
            levels.opened = (0,)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._recent: list[float] = []  # completions on the newest environment, the last one at the end
        self._best = 0.0  # mean of a whole window
        self._n_since_best = 0  # episodes

    def after_episode(self, episode: FinishedEpisode, n_finished: int) -> dict[str, float]:
        """Adds the next environment where it is time.

        Returns:
            Metrics of the environment that was played; nothing where there is only one.
        """
        if len(self._levels.environments) == 1:
            return {}
        stage, result = self._levels.stage(episode.level_number), episode.result
        name = self._levels.environments[stage].name
        row = {f"training/{name}/{part}": getattr(result, part) for part in ("score", "completion")}
        if stage == len(self._levels.opened) - 1 and not self._is_demonstration(episode.level_number):
            self._note(result.completion)
        if why := self._why_now(n_finished):
            row |= self._add_next(why, n_finished)
        return row | {"training/environments": float(len(self._levels.opened))}

    def _note(self, completion: float) -> None:
        self._recent = [*self._recent, completion][-WINDOW:]
        if len(self._recent) < WINDOW:
            return
        self._n_since_best += 1
        if (mean := fmean(self._recent)) > self._best:
            self._best, self._n_since_best = mean, 0

    def _why_now(self, n_finished: int) -> str:
        """Why the next environment is to be added now, in words; empty where it is not, or where there is none."""
        environments, n_open, n_episodes = self._levels.environments, len(self._levels.opened), self._config.n_episodes
        if n_open == len(environments) or self._experience.next_level >= n_episodes:
            return ""
        newest = environments[n_open - 1].name
        if len(self._recent) == WINDOW and (mean := fmean(self._recent)) >= ENOUGH:
            return f"{mean:.1%} of the trains have arrived in the last {WINDOW} episodes on {newest}"
        if self._n_since_best >= PATIENCE:
            return f"completion on {newest} has not risen above {self._best:.1%} for {PATIENCE} episodes"
        if n_finished * len(environments) >= n_open * n_episodes:
            return "what was there before has had its share of the training"
        return ""

    def _add_next(self, why: str, n_finished: int) -> dict[str, float]:
        levels, first = self._levels, self._experience.next_level
        name = levels.environments[len(levels.opened)].name
        levels.opened += (first,)
        self._begin_anew()
        self._message(f"{name} is added after episode {n_finished}: {why}.")
        return {f"{ENVIRONMENT_ADDED}{name}": float(first)}

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, in plain values."""
        return {
            "opened": list(self._levels.opened),
            "recent": list(self._recent),
            "best": self._best,
            "n_since_best": self._n_since_best,
        }

    def load_state_dict(self, state: dict[str, Any], next_level: int) -> None:
        """Takes up the state of a checkpoint whose training has begun all levels before ``next_level``.

        Raises:
            ValueError: it is not of these environments.
        """
        opened, n = tuple(state["opened"]), len(self._levels.environments)
        right_number = 1 <= len(opened) <= n if self._config.curriculum else opened == (0,) * n
        if not right_number or [0, *sorted(opened[1:])] != list(opened) or opened[-1] > next_level:
            raise ValueError(f"environments are open from {opened} on, which cannot be")
        self._levels.opened = opened
        self._recent, self._best = state["recent"][-WINDOW:], state["best"]
        self._n_since_best = state["n_since_best"]
