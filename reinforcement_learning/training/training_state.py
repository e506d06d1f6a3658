"""How far a training is, and what a checkpoint holds of it."""

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.experience import Experience, UnfinishedEpisode
from reinforcement_learning.playing.train_settings import TrainSettings
from reinforcement_learning.saving.checkpointing import stored_form
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.tracking.metrics import MetricsWriter
from reinforcement_learning.training.curriculum import Curriculum
from reinforcement_learning.training.training_metrics import Smoothed
from utils.observation.feature_sets import FeatureSet
from utils.system.stopwatch import Stopwatch


@dataclass(frozen=True)
class BestEvaluation:
    """The evaluation with the highest mean score of a single policy.

    Of equal scores the one with the higher completion is better, and of those that are equal in both the later one.
    """

    score: float = -math.inf
    episode: int = 0  # 0: there was no evaluation yet
    policy: int = 0
    completion: float = -math.inf  # checkpoints from before it was there do not tell it


@dataclass
class TrainingState:
    """The counters of a training. A checkpoint holds them and the state of the training's other parts."""

    config: TrainingConfig
    run_name: str
    feature_set: FeatureSet
    population: Population
    experience: Experience
    curriculum: Curriculum
    smoothed: Mapping[str, Smoothed]
    stopwatch: Stopwatch
    metrics: MetricsWriter
    episode: int = 0  # finished
    train_steps: int = 0  # steps of the environment times trains
    evaluated_episode: int = 0  # of the newest evaluation
    best: BestEvaluation = BestEvaluation()
    last_evaluation: dict[str, float] = field(default_factory=dict)  # its metrics
    _wandb_run_id: str | None = None  # of the checkpoint
    _seconds_before: float = 0.0  # in earlier processes
    _started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time spent on this training, earlier processes included."""
        return self._seconds_before + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs but the content of the replay buffers, in tensors and plain values."""
        return {
            "episode": self.episode,
            "next_level": self.experience.next_level,
            "unfinished": [_stored(episode) for episode in self.experience.unfinished()],
            # a resumed training starts from this checkpoint's own buffer, not again from the one given at the beginning
            "config": self.config.as_dict() | {"run_name": self.run_name, "resume": "", "restore_replay_buffer": ""},
            "feature_set": stored_form(self.feature_set),
            **self.population.state_dict(),
            "counters": {"train_steps": self.train_steps, "evaluated_episode": self.evaluated_episode},
            "curriculum": self.curriculum.state_dict(),
            "smoothed": {name: value.state_dict() for name, value in self.smoothed.items()},
            "best": asdict(self.best),
            "last_evaluation": self.last_evaluation,
            "seconds": self.seconds,
            "seconds_by_part": dict(self.stopwatch.seconds),
            "wandb_run_id": self.metrics.run_id or self._wandb_run_id,
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("torch", "numpy", "flatland-rl")},
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from the content of a checkpoint."""
        self.episode = state["episode"]
        # on other environments the levels of the same numbers are others: they begin again, and so does a curriculum
        then = {"rewards": TrainingConfig.rewards, "curriculum": True} | state["config"]  # of earlier versions
        same_levels = self._is_as_then(then, "training_env_config", "curriculum")
        if same_levels and "curriculum" in state:
            self.curriculum.load_state_dict(state["curriculum"], state["next_level"])
        # of trains that drive on with settings of an earlier version, which did not name it
        team_reward = torch.tensor(self.config.team_reward, dtype=torch.float64)
        unfinished = [_unfinished(episode, team_reward, go_on=same_levels) for episode in state["unfinished"]]
        self.experience.resume(state["next_level"], unfinished)
        self.population.load_state_dict(state)
        self.population.set_progress(self.episode)
        counters = state["counters"]
        self.train_steps = counters["train_steps"]
        self.evaluated_episode = counters["evaluated_episode"]
        for name, smoothed in self.smoothed.items():
            smoothed.load_state_dict(state["smoothed"][name])
        # scores on other levels, or under other rewards, cannot be compared
        if self._is_as_then(then, "evaluation_env_config", "n_evaluation_episodes", "rewards"):
            self.best = BestEvaluation(**state["best"])
        self.last_evaluation = state["last_evaluation"]
        self._wandb_run_id = state["wandb_run_id"]
        self._seconds_before = state["seconds"]
        self.stopwatch.seconds.update(state["seconds_by_part"])

    def _is_as_then(self, then: Mapping[str, Any], *names: str) -> bool:
        return all(then.get(name) == getattr(self.config, name) for name in names)


def _stored(episode: UnfinishedEpisode) -> dict[str, Any]:
    """Which level, in which slot, and all actions so far: enough to come back to where the episode is."""
    return {
        "slot": episode.slot,
        "level_number": episode.level_number,
        "train_settings": episode.train_settings and episode.train_settings.state_dict(),
        "actions": torch.from_numpy(np.array(episode.actions, dtype=np.int8)),
    }


def _unfinished(stored: dict[str, Any], team_reward: torch.Tensor, *, go_on: bool) -> UnfinishedEpisode:
    """An episode under way of a checkpoint; one of an earlier version, with other names, begins again."""
    if "level_number" not in stored:
        return UnfinishedEpisode(stored["env"], stored["level"])
    if not go_on:
        return UnfinishedEpisode(stored["slot"], stored["level_number"])
    settings = stored["train_settings"]
    return UnfinishedEpisode(
        stored["slot"],
        stored["level_number"],
        list(stored["actions"].numpy()),
        settings and TrainSettings.from_state({"team_reward": team_reward} | settings),
    )
