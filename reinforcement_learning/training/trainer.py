"""The training loop: collect, learn, evaluate, checkpoint, log. Start reading at :meth:`Trainer.run`."""

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from reinforcement_learning.multi_policy.assignment import learning_of
from reinforcement_learning.multi_policy.mapping_log import MappingLog
from reinforcement_learning.multi_policy.population import Population
from reinforcement_learning.playing.experience import (
    Experience,
    ExperienceError,
    FinishedEpisode,
    LocalExperience,
    UnfinishedEpisode,
)
from reinforcement_learning.playing.play_levels import play_levels_together
from reinforcement_learning.playing.train_settings import TrainSettings
from reinforcement_learning.saving.checkpointing import (
    BEST,
    numbered_checkpoint,
    remove_all_but_newest,
    write_checkpoint,
)
from reinforcement_learning.saving.run_folders import RunFolders
from reinforcement_learning.settings.config import TrainingConfig
from reinforcement_learning.settings.extensions import ExtensionError
from reinforcement_learning.tracking.metrics import MetricsWriter
from reinforcement_learning.training.population_scores import score_population
from reinforcement_learning.training.training_metrics import TrainingMetrics, exchange_lines, exchange_row
from reinforcement_learning.workers.rollout_workers import RolloutWorkers
from utils.levels.env_configs import resolve_env_config
from utils.levels.level_pool import LEVELS_AHEAD, LevelPool
from utils.levels.level_streams import EvaluationLevels
from utils.levels.playable_levels import PlayableLevels
from utils.observation.observer import Observer, get_feature_set
from utils.pictures.rendering import EpisodeRecorder, RecordedSimulator
from utils.simulator.simulator import FlatlandSimulator
from utils.system.stopwatch import Stopwatch


class Trainer:
    """One training, from its first episode or from a checkpoint to its last.

    Args:
        config: the whole configuration.
        folders: where checkpoints, buffers and pictures go.
        metrics: where numbers go.
        stop_requested: asked between steps; True ends the training with a checkpoint.
        devices: where each policy lives and learns; None: on the CPU.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folders: RunFolders,
        *,
        metrics: MetricsWriter | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
        devices: Sequence[str | torch.device] | None = None,
    ) -> None:
        self.config, self.folders = config, folders
        self.metrics = metrics or MetricsWriter([])
        self.stop_requested = stop_requested
        self.mapping_log: MappingLog | None = None
        self.wandb_run_id: str | None = None  # kept in checkpoints: a resumed training continues its run there
        self.feature_set = get_feature_set(config.feature_set)
        self.observer = Observer(self.feature_set, config.action_mask, config.decision_points, config.safe_moves)
        self.stopwatch = Stopwatch()
        self.level_pool = LevelPool(
            resolve_env_config(config.training_env_config),
            config.seed,
            config.level_workers,
            end=config.n_episodes,
            n_ahead=max(LEVELS_AHEAD, 2 * config.num_envs),
            warn=self._warn,
        )
        self.evaluation_levels = EvaluationLevels(
            resolve_env_config(config.evaluation_env_config), config.seed, config.n_evaluation_episodes
        )
        self.population, self.experience = self._make_players(devices)
        self.training_metrics = TrainingMetrics(self.population)
        # counters: with the state of the population they are all that a resumed training needs
        self.episode = 0  # finished episodes
        self.train_steps = 0  # steps of the environment times trains
        self.evaluated_episode = 0
        self.best_score = -math.inf  # of all evaluations
        self.best_episode = 0
        self.best_policy = 0
        self.last_evaluation: dict[str, float] = {}
        self.seconds = 0.0  # spent on this training before this process
        self._started = time.perf_counter()

    def run(self) -> bool:
        """Trains until all episodes are done (True) or a stop is requested (False); both leave a checkpoint.

        Raises:
            ExperienceError: the processes or actors that play cannot go on; that leaves a checkpoint, too.
            ExtensionError: a user's mapping or reward breaks; so does that.
        """
        # processes end with the training, however that ends
        with self.level_pool, closing(self.experience):
            try:
                return self._run()
            except ExperienceError as error:
                with suppress(ExperienceError):  # learners that never began have nothing to save
                    self._fetch_and_save()
                    error.saved = True
                raise
            except ExtensionError as error:
                self._fetch_and_save()
                error.saved = True
                raise

    def _make_players(self, devices: Sequence[str | torch.device] | None) -> tuple[Population, Experience]:
        """The policies, and what plays them: this process, or others, or actors on Ray."""
        config = self.config
        levels = PlayableLevels(self.level_pool, config.simulator, self._warn)
        if config.async_rl:
            from reinforcement_learning.distributed.players import make_players  # Ray need not be installed otherwise

            return make_players(config, self.feature_set, devices, levels, stopwatch=self.stopwatch, warn=self._warn)
        population = Population(config, self.feature_set, devices)
        if config.num_workers > 0:
            return population, RolloutWorkers(config, levels, population, stopwatch=self.stopwatch, warn=self._warn)
        return population, LocalExperience(
            levels,
            config.n_episodes,
            self.observer,
            population.policies,
            learning_of(config, population),
            population.train_settings,
            n_slots=config.num_envs,
            stopwatch=self.stopwatch,
        )

    def _run(self) -> bool:
        while True:
            if self._evaluation_is_due():
                if not self._evaluate():
                    break
                self._save_checkpoint()
            if self.episode >= self.config.n_episodes:
                return True
            if self.stop_requested():
                break
            self._play_and_learn()
        self._fetch_and_save()
        return False

    # --- collecting and learning ---------------------------------------------------------------------------------

    def _play_and_learn(self) -> None:
        """Some new experience, and the learning steps that are due for it."""
        finished = self.experience.play()
        self.stopwatch.start()
        self.population.learn()
        self.stopwatch.lap("learn")
        for episode in finished:
            self.episode += 1
            self.train_steps += episode.result.n_steps * episode.result.n_trains
            self.population.after_episode(self.episode, episode.result.policy_of_train)
            self._log_training(episode)
            self._log_mapping(episode)
        if finished:
            self.population.forget_losses()

    # --- evaluating ----------------------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        # several episodes may end in one step, so the count of them may pass a multiple without being one
        interval = self.config.checkpoint_interval
        at_interval = self.episode // interval > self.evaluated_episode // interval
        at_end = self.episode >= self.config.n_episodes and self.episode > self.evaluated_episode
        return at_interval or at_end or self._exchange_is_due()

    def _exchange_is_due(self) -> bool:
        """Whether it is time for a step of population-based training; after the last episode it is not."""
        period, before = self.config.pbt_period_episodes, self.population.exchanges
        passed = self.episode // period > (before[-1]["episode"] // period if before else 0)
        return self.config.with_pbt and passed and self.episode < self.config.n_episodes

    def _evaluate(self) -> bool:
        """Scores the greedy policies on the evaluation levels; False where a stop was requested meanwhile."""
        self.population.fetch()
        started = time.perf_counter()
        levels, n_levels = self.levels_to_evaluate, self.config.n_evaluation_episodes
        found = score_population(self.population, levels, n_levels, self.observer, self._stops_evaluation)
        if found is None:
            return False
        self.stopwatch.seconds["evaluation"] += time.perf_counter() - started
        metrics = found.metrics()
        for name in ("score", "completion"):
            smoothed = self.training_metrics.smoothed[f"evaluation/{name}"]
            metrics[f"evaluation/smoothed_{name}"] = smoothed.update(metrics[f"evaluation/{name}s_mean"])
        self.metrics.log(self.episode, metrics)
        self.last_evaluation = metrics
        self.evaluated_episode = self.episode
        if found.scores[found.best] > self.best_score:
            self._save_best(found.scores[found.best], found.best)
        if self._exchange_is_due():
            self.population.exchange(self.episode, found.scores)
            self._log_exchange()
        if self.config.render:
            self._render()
        return True

    def _stops_evaluation(self) -> bool:
        self.experience.go_on()
        return self.stop_requested()

    def levels_to_evaluate(self) -> Iterator[FlatlandSimulator]:
        """The levels of every evaluation, ready to play."""
        return (FlatlandSimulator(self.evaluation_levels.make(i)) for i in range(self.config.n_evaluation_episodes))

    def _render(self) -> None:
        """Films the first evaluation level."""
        env = self.evaluation_levels.make(0)
        recorder = EpisodeRecorder(env)
        policies, policy_of_train = self.population.evaluation_policies(), self.population.mapping.policy_of_train
        play_levels_together([RecordedSimulator(env, recorder)], self.observer, policies, policy_of_train)
        path = self.folders.output / f"episode_{self.episode:07d}.gif"
        try:
            recorder.save(path)
        except OSError as error:
            self._warn(f"{path} could not be written ({error.strerror}); training goes on.")
            return
        self.metrics.picture("evaluation/episode", path, self.episode)

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def _fetch_and_save(self) -> None:
        self.population.fetch()
        self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        """Buffers first, then the checkpoint that names them: whichever moment a kill picks, they fit together."""
        earlier = set(self.folders.replay_buffers.glob("episode_*.npz"))
        buffers = self._save_buffers() if self.config.save_replay_buffer else []
        path = numbered_checkpoint(self.folders.checkpoints, self.episode)
        if self._write(path, buffers):
            remove_all_but_newest(self.folders.checkpoints, "episode_*.pt", self.config.keep_checkpoints)
            if buffers:
                remove_all_but_newest(self.folders.replay_buffers, "episode_*.npz", len(buffers))
        else:  # no checkpoint names them, and the disk may be full
            for buffer in set(buffers) - earlier:
                buffer.unlink(missing_ok=True)

    def _save_best(self, score: float, policy: int) -> None:
        """The best so far is what its file holds; one that cannot be written does not count."""
        before = self.best_score, self.best_episode, self.best_policy
        self.best_score, self.best_episode, self.best_policy = score, self.episode, policy
        if not self._write(self.folders.checkpoints / BEST):
            self.best_score, self.best_episode, self.best_policy = before

    def _save_buffers(self) -> list[Path]:
        """A file for each policy's replay buffer, or none at all."""
        # n_added in the name: an interrupted episode must not overwrite the buffer of the checkpoint before it
        name = f"episode_{self.episode:07d}_{self.population.n_added}"
        paths = []
        for p, learner in enumerate(self.population.learners):
            suffix = f"_policy_{p:02d}" if len(self.population) > 1 else ""
            path = self.folders.replay_buffers / f"{name}{suffix}.npz"
            try:
                learner.buffer.save(path)
            except OSError as error:
                self._warn(f"the replay buffer could not be saved to {path} ({error.strerror}).")
                return []
            paths.append(path)
        return paths

    def _write(self, path: Path, buffers: Sequence[Path] = ()) -> bool:
        try:
            write_checkpoint(path, self.state_dict() | {"replay_buffers": [str(buffer) for buffer in buffers]})
        except OSError as error:
            self._warn(f"the checkpoint {path} could not be written ({error.strerror}); earlier ones are unharmed.")
            return False
        return True

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs but the replay buffer, in tensors and plain values."""
        return {
            "episode": self.episode,
            "next_level": self.experience.next_level,
            # which levels, in which environments, and all actions so far: enough to come back to where they are
            "unfinished": [
                {
                    "slot": episode.slot,
                    "level_number": episode.level_number,
                    "train_settings": episode.train_settings and episode.train_settings.state_dict(),
                    "actions": torch.from_numpy(np.array(episode.actions, dtype=np.int8)),
                }
                for episode in self.experience.unfinished()
            ],
            # a resumed training starts from this checkpoint's own buffer, not again from the one given at the beginning
            "config": self.config.as_dict()
            | {"run_name": self.folders.name, "resume": "", "restore_replay_buffer": ""},
            "feature_set": {"name": self.feature_set.name, "version": self.feature_set.version},
            **self.population.state_dict(),
            "counters": {"train_steps": self.train_steps, "evaluated_episode": self.evaluated_episode},
            "smoothed": {name: value.state_dict() for name, value in self.training_metrics.smoothed.items()},
            "best": {"score": self.best_score, "episode": self.best_episode, "policy": self.best_policy},
            "last_evaluation": self.last_evaluation,
            "seconds": self._seconds(),
            "seconds_by_part": dict(self.stopwatch.seconds),
            "wandb_run_id": self.wandb_run_id,
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("torch", "numpy", "flatland-rl")},
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint's content; the replay buffer is restored apart from it."""
        self.episode = state["episode"]
        self.experience.resume(state["next_level"], [_unfinished(episode) for episode in state["unfinished"]])
        self.population.load_state_dict(state)
        self.population.set_progress(self.episode)
        counters = state["counters"]
        self.train_steps = counters["train_steps"]
        self.evaluated_episode = counters["evaluated_episode"]
        for name, smoothed in self.training_metrics.smoothed.items():
            smoothed.load_state_dict(state["smoothed"][name])
        measured = ("evaluation_env_config", "n_evaluation_episodes")
        if all(state["config"][name] == getattr(self.config, name) for name in measured):
            best = state["best"]
            self.best_score, self.best_episode, self.best_policy = best["score"], best["episode"], best["policy"]
        self.last_evaluation = state["last_evaluation"]
        self.wandb_run_id = state["wandb_run_id"]
        self.seconds = state["seconds"]
        self.stopwatch.seconds.update(state["seconds_by_part"])

    # --- metrics -------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, float]:
        """Numbers that describe the training as a whole."""
        best = {"best/score": self.best_score, "best/episode": self.best_episode} if self.best_episode else {}
        return {"episode": self.episode, "timer/total": self._seconds(), **self.last_evaluation, **best}

    def _seconds(self) -> float:
        return self.seconds + time.perf_counter() - self._started

    def _log_training(self, episode: FinishedEpisode) -> None:
        row = self.training_metrics.of_episode(episode.level_number, episode.result)
        seconds = self.stopwatch.seconds
        parts = ("reset", "step", "observation", "inference", "learn", "evaluation")
        row |= {f"timer/{part}": seconds[part] for part in parts}
        row["timer/total"] = self._seconds()
        row["throughput/train_steps_per_second"] = self.train_steps / row["timer/total"]
        row["throughput/learning_steps_per_second"] = self.population.learning_steps / row["timer/total"]
        row |= self.experience.metrics()
        row["system/resident_memory_mb"] = psutil.Process().memory_info().rss / 1e6
        self.metrics.log(self.episode, row)

    def _log_mapping(self, episode: FinishedEpisode) -> None:
        if self.mapping_log is None:
            return
        try:
            self.mapping_log.add(self.episode, episode.level_number, episode.result.policy_of_train)
        except OSError as error:
            self._warn(f"{self.mapping_log.path} could not be written ({error.strerror}); training goes on without it.")
            self.mapping_log = None

    def _log_exchange(self) -> None:
        exchange = self.population.exchanges[-1]
        self.metrics.log(self.episode, exchange_row(exchange))
        for line in exchange_lines(exchange):
            self.metrics.message(line)

    def _warn(self, text: str) -> None:
        self.metrics.message(f"warning: {text}")


def _unfinished(stored: dict[str, Any]) -> UnfinishedEpisode:
    """An episode under way of a checkpoint; one of an earlier version, with other names, begins again."""
    if "level_number" not in stored:
        return UnfinishedEpisode(stored["env"], stored["level"])
    settings = stored["train_settings"]
    return UnfinishedEpisode(
        stored["slot"],
        stored["level_number"],
        list(stored["actions"].numpy()),
        settings and TrainSettings.from_state(settings),
    )
